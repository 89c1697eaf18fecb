//! The decisions of people about a request.

use crate::compliance::Compliance;
use crate::domain::audit_record::AuditRecord;
use crate::domain::gdpr::{RequestEvent, RequestState};
use crate::domain::ids::GdprRequestId;
use crate::store::gdpr::RequestRow;
use crate::store::{Ending, WriteTx, gdpr, tenants};

use super::{GdprError, Happening, token_of};

/// A decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The request may be executed.
    Approve,
    /// The request is refused and not executed.
    Reject,
    /// The request is withdrawn and not executed.
    Cancel,
    /// The request may take two months more (GDPR Art. 12(3)).
    Extend,
}

impl Decision {
    /// Returns the event that the decision causes.
    pub const fn event(self) -> RequestEvent {
        match self {
            Self::Approve => RequestEvent::Approve,
            Self::Reject => RequestEvent::Reject,
            Self::Cancel => RequestEvent::Cancel,
            Self::Extend => RequestEvent::Extend,
        }
    }
}

impl Compliance {
    /// Decides on a request for a reason. `record` names the tenant and the decider.
    pub async fn decide_request(
        &self,
        id: GdprRequestId,
        decision: Decision,
        reason: Option<&str>,
        record: AuditRecord,
    ) -> Result<RequestRow, GdprError> {
        let tenant = record.tenant;
        let keys = self.parts.keyring.tenant_keys(tenant).await?;
        let by = token_of(&record.actor);
        let happening = Happening::new(decision.event(), record, &keys, reason)?;
        let store = &self.parts.store;
        let decided = store.change("decide on a request", tenant, async |mut tx| {
            let row = gdpr::lock(&mut tx, id).await?.ok_or(GdprError::NotFound)?;
            let (_, recorded) = self.happen(&mut tx, &row, &happening).await?;
            match decision {
                Decision::Approve => {
                    // Without a token the command line decides, which is not the token that filed
                    // the request.
                    if row.state == RequestState::AwaitingApproval && by == row.filed_by {
                        return Err(GdprError::SameHands);
                    }
                    gdpr::update_decided(&mut tx, id, by).await?;
                }
                Decision::Reject => gdpr::update_decided(&mut tx, id, by).await?,
                Decision::Cancel => {}
                Decision::Extend => self.extend(&mut tx, &row).await?,
            }
            Ok::<_, GdprError>(Ending::Commit(recorded, ()))
        });
        decided.await?;
        self.wake_worker();
        self.find_request(tenant, id).await
    }

    async fn extend(&self, tx: &mut WriteTx, row: &RequestRow) -> Result<(), GdprError> {
        let now = self.parts.clock.now();
        if now > row.due_at {
            return Err(GdprError::PastDue);
        }
        let zone = tenants::get_rules(tx).await?.zone;
        let due_at = zone.extended_due(row.received_at);
        if gdpr::update_extended(tx, row.id, due_at, now).await? {
            Ok(())
        } else {
            Err(GdprError::ExtendedBefore)
        }
    }
}
