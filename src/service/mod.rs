//! The use cases, one a file, without a word of HTTP: what a caller may have done for it, in which
//! order, and what is recorded.

mod call;
mod denials;
mod entries;
mod fill;
mod flight;
mod invalidate;
mod labels;
mod miss;
mod proof;
mod query;
mod question;
mod statistics;
mod stats;
mod tenants;
mod tokens;
mod trail;
mod trail_export;
mod trail_search;
mod uses;

use std::sync::Arc;

use chrono::TimeDelta;
use tokio::sync::Semaphore;

use crate::audit::{Audit, AuditError, CheckpointFile};
use crate::auth::{Hasher, Remembered};
use crate::coherence::Coherence;
use crate::crypto::KeyProvider;
use crate::domain::clock::Clock;
use crate::domain::ids::{Ids, TenantId};
use crate::keyring::{Keyring, KeyringError};
use crate::lifecycle::Lifecycle;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;
use crate::tiers::Stack;
use crate::upstream::Upstream;

pub use call::{Call, CallStart, Origin, Settled};
pub use entries::{EntriesError, EntryPage, EntryQuery, EntryView};
pub use invalidate::{InvalidateError, Invalidated, Invalidation};
pub use labels::Labels;
pub use proof::{ProofError, ProofState};
pub use question::{Answered, QueryError, Source};
pub use statistics::{StatisticsView, TierView};
pub use stats::{Stats, Totals};
pub use tenants::{TenantError, TenantSlug};
pub use tokens::{Grant, NewTokenText, TokenError};
pub use trail::{TrailPage, TrailQuery};
pub use trail_export::TrailExport;
pub use uses::UseWriter;

use denials::Denials;
use flight::Flights;

/// Most readers of the trail at a time, of all tenants.
const TRAIL_READERS: usize = 3;

/// Whether the cache takes part at all (AI_CACHE_ENABLED).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// It does.
    On,
    /// Every query goes to the upstream; nothing is read or stored.
    PassThrough,
}

/// What the use cases are made of.
pub struct Parts {
    /// Postgres.
    pub store: Store,
    /// The audit trail.
    pub audit: Audit,
    /// Keys.
    pub keyring: Arc<Keyring>,
    /// What is still true.
    pub coherence: Arc<Coherence>,
    /// Where answers are.
    pub stack: Stack,
    /// Who answers what is not cached.
    pub upstream: Arc<dyn Upstream>,
    /// argon2.
    pub hasher: Hasher,
    /// Which tokens are known to be revoked.
    pub remembered: Arc<Remembered>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub ids: Arc<dyn Ids>,
    /// Series for operators.
    pub metrics: Arc<Metrics>,
    /// Tasks.
    pub lifecycle: Lifecycle,
    /// The installation's own tenant: whose trail holds what is nobody else's.
    pub installation: TenantId,
    /// Whether the cache takes part.
    pub switch: Switch,
    /// How long answers of operations without a time of their own are good.
    pub default_ttl: TimeDelta,
    /// Master keys, for the proof of the trail.
    pub keys: Arc<KeyProvider>,
    /// Where seals of the trail are kept outside.
    pub checkpoint: Option<CheckpointFile>,
}

/// The use cases.
pub struct Service {
    parts: Parts,
    default_model: Arc<str>,
    flights: Flights,
    stats: Stats,
    denials: Denials,
    /// How many may read the trail at a time.
    trail_turns: Semaphore,
}

impl Service {
    /// Puts the use cases together.
    pub fn new(parts: Parts) -> Arc<Self> {
        let stats = Stats::new(parts.clock.now());
        let default_model = parts.upstream.default_model().into();
        let denials = Denials::new(parts.installation);
        let (flights, trail_turns) = (Flights::default(), Semaphore::new(TRAIL_READERS));
        Arc::new(Self { parts, default_model, flights, stats, denials, trail_turns })
    }

    /// What it is made of, for health and metrics.
    pub const fn parts(&self) -> &Parts {
        &self.parts
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
    /// Keys failed.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A value that was opened is not what was sealed.
    #[error("a stored value has an unknown form")]
    Malformed,
    /// The token was revoked, or its tenant disabled, while it was served.
    #[error("the token is no longer accepted")]
    Revoked,
    /// A task of this process ended early.
    #[error("a task ended before its result")]
    TaskLost,
}
