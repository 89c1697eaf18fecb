//! Requests of data subjects: they are filed, decided on, executed and shown. Every change of a
//! request is a compare-and-set under its row's lock, with its record and its place in the
//! request's history in one transaction.

mod decide;
mod download;
mod due;
mod erase;
mod export;
mod file;
mod holds;
mod outside;
mod restrict;
mod view;
mod work;

use crate::audit::AuditError;
use crate::coherence::PropagationError;
use crate::crypto::Sealed;
use crate::domain::action::Action;
use crate::domain::audit_record::{Actor, AuditRecord};
use crate::domain::gdpr::{RequestEvent, RequestState};
use crate::domain::ids::{GdprRequestId, TokenId};
use crate::keyring::{KeyringError, TenantKeys, TextKind, TextPlace};
use crate::store::gdpr::RequestRow;
use crate::store::gdpr::Transition;
use crate::store::gdpr::history::{self, EventRow};
use crate::store::{self, Recorded, StoreError, WriteTx, gdpr};

use super::Compliance;
use crate::call::ServiceError;

pub use decide::Decision;
pub use download::ExportDownload;
pub use export::PART_BYTES;
pub use file::Filing;
pub use holds::{HoldView, NewHoldText};
pub use view::{EventView, RequestPage, RequestView};

/// The reason why an operation on a request failed.
#[derive(Debug, thiserror::Error)]
pub enum GdprError {
    /// Something of the service failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// There is no such request of the caller's tenant.
    #[error("there is no such request")]
    NotFound,
    /// The state of the request does not allow it.
    #[error("a request that is {} does not take {}", .0.name(), .1.name())]
    State(RequestState, RequestEvent),
    /// The package is not kept any longer.
    #[error("the package is not kept any longer")]
    Gone,
    /// The token that filed a request may not approve it.
    #[error("a request must be approved by another token than the one that filed it")]
    SameHands,
    /// A request is extended once only.
    #[error("the request was extended before")]
    ExtendedBefore,
    /// A hold is lifted once only.
    #[error("the legal hold was lifted before")]
    LiftedBefore,
    /// A request is extended only before it is due.
    #[error("the request is past its due date and cannot be extended any more")]
    PastDue,
    /// The request has not been executed, so there is nothing to download yet.
    #[error("the request is {} and has not been executed", .0.name())]
    NotExecuted(RequestState),
    /// The same idempotency key came with another filing.
    #[error("another request was filed under the same Idempotency-Key")]
    OtherFiling,
}

macro_rules! through_service_error {
    ($($error:ty),+) => {
        $(impl From<$error> for GdprError {
            fn from(error: $error) -> Self {
                Self::Service(error.into())
            }
        })+
    };
}

through_service_error!(StoreError, KeyringError, AuditError, PropagationError);

/// An event that is to happen to a request.
pub(super) struct Happening {
    /// The event.
    pub(super) event: RequestEvent,
    /// The record of the event, in the making. It names the actor.
    pub(super) record: AuditRecord,
    /// The reason, sealed for the record's id.
    pub(super) note: Option<Sealed>,
}

impl Happening {
    /// Makes an event with the reason given for it. `record` names the actor.
    pub(super) fn new(
        event: RequestEvent,
        record: AuditRecord,
        keys: &TenantKeys,
        note: Option<&str>,
    ) -> Result<Self, KeyringError> {
        let place = TextPlace { kind: TextKind::EventNote, object: record.id.0 };
        let note = note.map(|note| keys.seal_text(place, note.as_bytes())).transpose()?;
        Ok(Self { event, record, note })
    }
}

/// Makes the record of something about a request.
fn about(request: GdprRequestId, action: Action, record: AuditRecord) -> AuditRecord {
    AuditRecord { action, object: Some(request.0), count: 1, ..record }
}

const fn token_of(actor: &Actor) -> Option<TokenId> {
    match actor {
        Actor::Token { id, .. } => Some(*id),
        Actor::Anonymous { .. } | Actor::CommandLine | Actor::Service => None,
    }
}

impl Compliance {
    /// Lets an event happen to a locked request. Returns the new state of the request, and the
    /// record that the transaction commits with.
    async fn happen(
        &self,
        tx: &mut WriteTx,
        row: &RequestRow,
        happening: &Happening,
    ) -> Result<(RequestState, Recorded), GdprError> {
        let Happening { event, record, note } = happening;
        let event = *event;
        let state = row.state.after(event).ok_or(GdprError::State(row.state, event))?;
        let record = about(row.id, event.action(), record.clone());
        let record = AuditRecord { subject_key: row.subject_key, ..record };
        let entry = EventRow {
            id: record.id,
            event,
            state,
            at: record.at,
            by: token_of(&record.actor),
            note: note.clone(),
        };
        let at = self.parts.clock.now();
        let transition = Transition { from: row.state, to: state, at };
        if !gdpr::update_state(tx, row.id, transition).await? {
            return Err(GdprError::State(row.state, event));
        }
        history::insert_event(tx, row.id, &entry).await?;
        let recorded = store::audit::insert(tx, &self.parts.audit.stamp(record)).await?;
        Ok((state, recorded))
    }
}
