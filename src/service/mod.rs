//! The use cases, one a file, without a word of HTTP: what a caller may have done for it, in which
//! order, and what is recorded.

mod admit;
mod call;
mod denials;
mod entries;
mod evict;
mod fill;
mod flight;
mod gdpr;
mod invalidate;
mod labels;
mod lease;
mod miss;
mod proof;
mod query;
mod question;
mod restore;
mod retention;
mod revalidate;
mod rotate;
mod statistics;
mod stats;
mod stream_end;
mod tenants;
mod tokens;
mod trail;
mod trail_export;
mod trail_search;
mod uses;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use chrono::TimeDelta;
use tokio::sync::{Notify, Semaphore};

use crate::audit::{Audit, AuditError, CheckpointFile, ErasureLedger};
use crate::auth::{Hasher, Remembered};
use crate::coherence::{Coherence, PropagationError};
use crate::crypto::KeyProvider;
use crate::domain::clock::Clock;
use crate::domain::entry::Windows;
use crate::domain::ids::{Ids, TenantId};
use crate::keyring::{Keyring, KeyringError};
use crate::lifecycle::Lifecycle;
use crate::redis::Leases;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;
use crate::tiers::Stack;
use crate::upstream::Upstream;

pub use admit::{Allowance, WINDOW_SECONDS};
pub use call::{Call, CallStart, Origin, Settled};
pub use entries::{EntriesError, EntryPage, EntryQuery, EntryView};
use evict::Samples;
pub use evict::{Capacity, Evicted};
pub use gdpr::{
    Decision, EventView, ExportDownload, Filing, GdprError, HoldView, NewHoldText, PART_BYTES,
    RequestPage, RequestView,
};
pub use invalidate::{Invalidated, Invalidation};
pub use labels::Labels;
pub use proof::{ProofError, ProofState};
pub use question::{Answered, QueryError, Source};
pub use restore::{Applied, MissingSink, RestoreError, Revived};
pub use retention::{
    Amounts, PartFate, PartReport, Purge, PurgeError, PurgeReport, PurgeState, TenantReport,
    WaitReason,
};
pub use rotate::{RotateError, Rotated};
pub use statistics::{StatisticsView, TierView};
pub use stats::{Stats, Totals};
pub use tenants::{TenantError, TenantSlug};
pub use tokens::{Grant, NewTokenText, TokenError};
pub use trail::{TrailPage, TrailQuery};
pub use trail_export::TrailExport;
pub use uses::UseWriter;

use admit::Quotas;
use denials::Denials;
use flight::Flights;
use revalidate::Revalidations;

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
    /// Which replica fetches what is missing.
    pub leases: Arc<dyn Leases>,
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
    /// How long past their time answers may still be served.
    pub stale: Windows,
    /// How many entries there may be in Postgres, and for how long.
    pub capacity: Capacity,
    /// Days that entries, requests and records are kept, of tenants that say nothing else.
    pub retention_days: u32,
    /// Bytes of a part of an export's package in the clear.
    pub part_bytes: usize,
    /// Master keys, for the proof of the trail.
    pub keys: Arc<KeyProvider>,
    /// Where seals of the trail are kept outside.
    pub checkpoint: Option<CheckpointFile>,
    /// Where erasures are kept outside.
    pub erasures: Option<ErasureLedger>,
}

/// The use cases.
pub struct Service {
    parts: Parts,
    default_model: Arc<str>,
    flights: Flights,
    revalidations: Arc<Revalidations>,
    stats: Stats,
    denials: Denials,
    quotas: Quotas,
    samples: Samples,
    /// How many may read the trail at a time.
    trail_turns: Semaphore,
    /// Wakes the worker when a request was filed or decided on here. It looks now and then all the
    /// same.
    requests_wake: Notify,
    /// Why what was erased may be here again. Nothing waits under it.
    revived: ArcSwapOption<Revived>,
}

impl Service {
    /// Puts the use cases together.
    pub fn new(parts: Parts) -> Arc<Self> {
        let stats = Stats::new(parts.clock.now());
        let default_model = parts.upstream.default_model().into();
        let denials = Denials::new(parts.installation);
        let (flights, quotas) = (Flights::default(), Quotas::default());
        let revalidations = Revalidations::new(Arc::clone(&parts.clock));
        let samples = Samples::new(parts.clock.now());
        let trail_turns = Semaphore::new(TRAIL_READERS);
        Arc::new(Self {
            parts,
            default_model,
            flights,
            revalidations,
            stats,
            denials,
            quotas,
            samples,
            trail_turns,
            requests_wake: Notify::new(),
            revived: ArcSwapOption::empty(),
        })
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
    Packing(#[from] gdpr::PackingError),
    /// A task of this process ended early.
    #[error("a task ended before its result")]
    TaskLost,
}
