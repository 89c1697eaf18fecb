//! The beginnings of records that no authenticated request makes.

use crate::domain::action::Action;
use crate::domain::audit_record::{Actor, AuditRecord, Outcome, RecordHead};
use crate::domain::ids::{AuditId, RequestId, TenantId};

use super::{Calls, CallsParts};

impl Calls {
    /// The record of something that the service does by itself, of one thing unless told otherwise.
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

    /// The id of work that nobody asked for.
    pub fn fresh_request(&self) -> RequestId {
        RequestId::fresh(&*self.parts.ids, self.parts.clock.now())
    }

    /// The record of a change made from the command line, but for what was changed.
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
