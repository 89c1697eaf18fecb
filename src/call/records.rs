//! The beginnings of records that no authenticated request makes.

use crate::domain::audit_record::{Action, Actor, AuditRecord, Outcome};
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
        let named = (AuditId::fresh(&**ids, at), tenant);
        AuditRecord {
            outcome: Outcome::Done,
            count: 1,
            ..AuditRecord::begun(named, at, request, Actor::Service, action)
        }
    }

    /// The id of work that nobody asked for.
    pub fn fresh_request(&self) -> RequestId {
        RequestId::fresh(&*self.parts.ids, self.parts.clock.now())
    }

    /// The record of a change made from the command line, but for what was changed.
    pub fn command_line_record(&self) -> AuditRecord {
        let CallsParts { ids, clock, .. } = &self.parts;
        let at = clock.now();
        let ids_of_record = (AuditId::fresh(&**ids, at), TenantId(uuid::Uuid::nil()));
        let request = RequestId::fresh(&**ids, at);
        let actor = Actor::CommandLine;
        AuditRecord {
            outcome: Outcome::Done,
            ..AuditRecord::begun(ids_of_record, at, request, actor, Action::Unrouted)
        }
    }
}
