//! The room of compliance staff: data subjects' requests, legal holds, retention, the audit trail
//! and its proof, restored databases, wrapping keys. It knows nothing of the other rooms.

mod gdpr;
mod proof;
mod restore;
mod retention;
mod rotate;
mod trail;
mod trail_export;
mod trail_search;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use chrono::TimeDelta;
use tokio::sync::{Notify, Semaphore};

use crate::audit::{Audit, CheckpointFile, ErasureLedger};
use crate::call::Calls;
use crate::coherence::Coherence;
use crate::crypto::KeyProvider;
use crate::domain::clock::Clock;
use crate::domain::ids::{Ids, TenantId};
use crate::keyring::Keyring;
use crate::lifecycle::Lifecycle;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::tiers::Stack;
use crate::upstream::Upstream;

pub use gdpr::{
    Decision, EventView, ExportDownload, Filing, GdprError, HoldView, NewHoldText, PART_BYTES,
    RequestPage, RequestView,
};
pub use proof::{ProofError, ProofState};
pub use restore::{Applied, MissingSink, RestoreError, Revived};
pub use retention::{
    Amounts, PartFate, PartReport, Purge, PurgeError, PurgeReport, PurgeState, TenantReport,
    WaitReason,
};
pub use rotate::{RotateError, Rotated};
pub use trail::{TrailPage, TrailQuery};
pub use trail_export::TrailExport;

/// The most readers of the trail at a time, of all tenants together.
const TRAIL_READERS: usize = 3;

/// The parts that [`Compliance`] is made of.
pub struct ComplianceParts {
    /// The parts that all rooms share.
    pub calls: Arc<Calls>,
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
    /// The model that answers what is not cached. An export names it.
    pub upstream: Arc<dyn Upstream>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of ids.
    pub ids: Arc<dyn Ids>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The tracker of tasks.
    pub lifecycle: Lifecycle,
    /// The installation's own tenant, whose trail holds the records that belong to no other tenant.
    pub installation: TenantId,
    /// The master keys, which sign the trail and certificates.
    pub keys: Arc<KeyProvider>,
    /// The file outside the database that keeps seals of the trail.
    pub checkpoint: Option<CheckpointFile>,
    /// The file outside the database that keeps erasures.
    pub erasures: Option<ErasureLedger>,
    /// The days that entries, requests and records are kept for tenants without a period of their
    /// own.
    pub retention_days: u32,
    /// The time for which an entry may still be served after its own time.
    pub usable_for: TimeDelta,
    /// The bytes of a part of an export's package, in the clear.
    pub part_bytes: usize,
}

/// The use cases of compliance staff.
pub struct Compliance {
    parts: ComplianceParts,
    /// The turns of readers of the trail.
    trail_turns: Semaphore,
    /// Wakes the worker when a request was filed or decided on in this process. The worker also
    /// looks without it, now and then.
    requests_wake: Notify,
    /// The reason why erased data may be here again. It is read without waiting.
    revived: ArcSwapOption<Revived>,
}

impl Compliance {
    /// Makes the room of its parts.
    pub fn new(parts: ComplianceParts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            trail_turns: Semaphore::new(TRAIL_READERS),
            requests_wake: Notify::new(),
            revived: ArcSwapOption::empty(),
        })
    }
}
