//! What every use case needs, whoever asks: the call and its record in the making, admission, records
//! of refusals, ends of streams, labels, and the invalidation itself. Knows no single use case.

mod admit;
mod authenticated;
mod denials;
mod distrust;
mod invalidation;
mod labels;
mod on_word;
mod records;
mod served_token;
mod stats;
mod stream_end;

use std::error::Error;
use std::sync::Arc;

use crate::audit::{Audit, AuditError};
use crate::auth::Remembered;
use crate::coherence::{Coherence, PropagationError};
use crate::domain::clock::Clock;
use crate::domain::ids::{Ids, TenantId};
use crate::keyring::{Keyring, KeyringError};
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;
use crate::tiers::Stack;

pub use admit::{Allowance, WINDOW_SECONDS};
pub use authenticated::{Call, CallOrigin, CallStart, Settled};
pub use invalidation::{Invalidated, Invalidation};
pub use labels::{Labels, OpenedQuestion, Question};
pub use on_word::OnWord;
pub use stats::{Stats, Totals};
pub use stream_end::StreamEnd;

use admit::Quotas;
use denials::Denials;

/// The parts that [`Calls`] is made of.
pub struct CallsParts {
    /// Postgres.
    pub store: Store,
    /// The audit trail.
    pub audit: Audit,
    /// Keys.
    pub keyring: Arc<Keyring>,
    /// What is still true.
    pub coherence: Arc<Coherence>,
    /// Memory, Redis and Postgres, where answers are.
    pub stack: Stack,
    /// The tokens that are known to be revoked.
    pub remembered: Arc<Remembered>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub ids: Arc<dyn Ids>,
    /// Series for operators.
    pub metrics: Arc<Metrics>,
    /// The installation's own tenant, whose trail holds the records that belong to no other tenant.
    pub installation: TenantId,
}

/// What the rooms of use cases share.
pub struct Calls {
    parts: CallsParts,
    /// Live counters of each tenant.
    pub stats: Stats,
    denials: Denials,
    quotas: Quotas,
}

impl Calls {
    /// Makes it of its parts.
    pub fn new(parts: CallsParts) -> Arc<Self> {
        let stats = Stats::new(parts.clock.now());
        let denials = Denials::new(parts.installation);
        Arc::new(Self { parts, stats, denials, quotas: Quotas::default() })
    }
}

/// What may go wrong in any use case.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// No durable record, so no data.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A change is committed, but perhaps not in force on every replica yet: safe to repeat.
    #[error("the change is not known to be in force on every replica; it is committed, repeat it")]
    NotPropagated(#[from] PropagationError),
    /// Keys failed.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A value that was opened is not what was sealed.
    #[error("a stored value has an unknown form")]
    Malformed,
    /// The token was revoked, or its tenant disabled, while it was served.
    #[error("the token is no longer accepted")]
    Revoked,
    /// The person's data are restricted.
    #[error("the person's data are restricted: they are only kept")]
    Restricted,
    /// The person was erased while the request was served.
    #[error("the person was erased meanwhile")]
    Erased,
    /// The package of an export could not be written.
    #[error("the package of an export could not be written")]
    Package(#[source] Box<dyn Error + Send + Sync>),
    /// A task of this process ended early.
    #[error("a task ended before its result")]
    TaskLost,
}
