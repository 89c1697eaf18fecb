//! The beginnings of records that no authenticated request makes.

use crate::domain::action::Action;
use crate::domain::audit_record::{Actor, AuditRecord, Outcome, RecordHead};
use crate::domain::ids::{AuditId, RequestId, TenantId};

use super::{Calls, CallsParts};

impl Calls {
    /// Makes the record of something that the service does by itself. Its count is 1.
    pub fn service_record(
        &self,
        tenant: TenantId,
        request: RequestId,
        action: Action,
    ) -> AuditRecord {
        let CallsParts { ids, clock, .. } = &self.parts;
        let at = clock.now();
        let (id, actor) = (AuditId::fresh(&**ids, at), Actor::Service);
        let head = RecordHead { id, tenant, at, request, actor, action };
        AuditRecord { outcome: Outcome::Done, count: 1, ..AuditRecord::begun(head) }
    }

    /// Makes the id of work that no request asked for.
    pub fn fresh_request(&self) -> RequestId {
        RequestId::fresh(&*self.parts.ids, self.parts.clock.now())
    }

    /// Makes the record of a change from the command line. Its tenant and its action are
    /// placeholders that are replaced when the change is known.
    pub fn command_line_record(&self) -> AuditRecord {
        let CallsParts { ids, clock, .. } = &self.parts;
        let at = clock.now();
        let head = RecordHead {
            id: AuditId::fresh(&**ids, at),
            tenant: TenantId(uuid::Uuid::nil()),
            at,
            request: RequestId::fresh(&**ids, at),
            actor: Actor::CommandLine,
            action: Action::Unrouted,
        };
        AuditRecord { outcome: Outcome::Done, ..AuditRecord::begun(head) }
    }
}
