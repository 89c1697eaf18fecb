//! Requests of data subjects: filed, decided on, executed and told of. Every change of a request is
//! a compare-and-set under its row's lock, with its record and its place in the request's history in
//! one transaction.

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

/// Why nothing became of what was asked about a request.
#[derive(Debug, thiserror::Error)]
pub enum GdprError {
    /// Something of the service failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// There is no such request of the caller's tenant.
    #[error("there is no such request")]
    NotFound,
    /// The request's state does not allow it.
    #[error("a request that is {} does not take {}", .0.name(), .1.name())]
    State(RequestState, RequestEvent),
    /// The package is not kept any longer.
    #[error("the package is not kept any longer")]
    Gone,
    /// Who filed a request may not approve it.
    #[error("a request must be approved by another token than the one that filed it")]
    SameHands,
    /// A request is extended once only.
    #[error("the request was extended before")]
    ExtendedBefore,
    /// A hold is lifted once only.
    #[error("the legal hold was lifted before")]
    LiftedBefore,
    /// A request is extended before it is due.
    #[error("the request is past its due date and cannot be extended any more")]
    PastDue,
    /// There is nothing to be had of it yet.
    #[error("the request is {} and has not been executed", .0.name())]
    NotExecuted(RequestState),
    /// The same idempotency key came with something else.
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

/// Something that is to happen to a request.
pub(super) struct Happening {
    /// What.
    pub(super) event: RequestEvent,
    /// On whose word; what happened is filled in.
    pub(super) record: AuditRecord,
    /// Why, sealed for the record's id.
    pub(super) note: Option<Sealed>,
}

impl Happening {
    /// An event on the word of `record`, with the reason given for it.
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

/// The record of something about a request.
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
    /// Lets something happen to a locked request; returns its state from then on, and the record that
    /// the transaction commits with.
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
