//! What compliance staff can ask for and prove: data subjects' requests, legal holds, retention, the
//! audit trail and its proof, restored databases, wrapping keys. Knows nothing of the other rooms of use
//! cases.

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

/// Most readers of the trail at a time, of all tenants.
const TRAIL_READERS: usize = 3;

/// The parts that [`Compliance`] is made of.
pub struct ComplianceParts {
    /// What the rooms share.
    pub calls: Arc<Calls>,
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
    /// The model that answers what is not cached: an export names it.
    pub upstream: Arc<dyn Upstream>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub ids: Arc<dyn Ids>,
    /// Series for operators.
    pub metrics: Arc<Metrics>,
    /// Tasks.
    pub lifecycle: Lifecycle,
    /// The installation's own tenant, whose trail holds the records that belong to no other tenant.
    pub installation: TenantId,
    /// Master keys, which sign the trail and certificates.
    pub keys: Arc<KeyProvider>,
    /// Where seals of the trail are kept outside.
    pub checkpoint: Option<CheckpointFile>,
    /// Where erasures are kept outside.
    pub erasures: Option<ErasureLedger>,
    /// Days that entries, requests and records are kept, of tenants that say nothing else.
    pub retention_days: u32,
    /// How long after its time an entry may still be served.
    pub usable_for: TimeDelta,
    /// Bytes of a part of an export's package in the clear.
    pub part_bytes: usize,
}

/// The use cases of compliance staff.
pub struct Compliance {
    parts: ComplianceParts,
    /// How many may read the trail at a time.
    trail_turns: Semaphore,
    /// Wakes the worker when a request was filed or decided on here. It looks now and then all the
    /// same.
    requests_wake: Notify,
    /// Why what was erased may be here again. Nothing waits under it.
    revived: ArcSwapOption<Revived>,
}

impl Compliance {
    /// Makes it of its parts.
    pub fn new(parts: ComplianceParts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            trail_turns: Semaphore::new(TRAIL_READERS),
            requests_wake: Notify::new(),
            revived: ArcSwapOption::empty(),
        })
    }
}
