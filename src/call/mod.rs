//! The parts that every use case needs: the call and its record in the making, admission, denials,
//! ends of streams, labels, and the invalidation itself. This module knows no single use case.

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
    /// The keys of tenants and persons.
    pub keyring: Arc<Keyring>,
    /// The invalidation stream, which says what is still true.
    pub coherence: Arc<Coherence>,
    /// The tiers: memory, Redis and Postgres.
    pub stack: Stack,
    /// The tokens that this process knows.
    pub remembered: Arc<Remembered>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of ids.
    pub ids: Arc<dyn Ids>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The installation's own tenant, whose trail holds the records that belong to no other tenant.
    pub installation: TenantId,
}

/// The parts that all rooms share.
pub struct Calls {
    parts: CallsParts,
    /// The live counters of each tenant.
    pub stats: Stats,
    denials: Denials,
    quotas: Quotas,
}

impl Calls {
    /// Makes `Calls` from its parts.
    pub fn new(parts: CallsParts) -> Arc<Self> {
        let stats = Stats::new(parts.clock.now());
        let denials = Denials::new(parts.installation);
        Arc::new(Self { parts, stats, denials, quotas: Quotas::default() })
    }
}

/// The errors that any use case may have.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The record could not be made durable, so no data may leave.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The change is committed, but perhaps not in force on every replica yet. It is safe to repeat
    /// it.
    #[error("the change is not known to be in force on every replica; it is committed, repeat it")]
    NotPropagated(#[from] PropagationError),
    /// The keys failed.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// An opened value does not have the form that was sealed.
    #[error("a stored value has an unknown form")]
    Malformed,
    /// The token was revoked, or its tenant was disabled, while the request was served.
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
