//! Everything between a question and its answer: the look-up, the fetch that callers share, the fill,
//! renewal, and how the answers are counted. Knows nothing of the other rooms of use cases.
//! Calls go one way: query → miss → serve → revalidate → fetch → lease, fill.

mod answered;
mod fetch;
mod fill;
mod flight;
mod lease;
mod lookup;
mod miss;
mod plan;
mod query;
mod revalidate;
mod serve;
mod statistics;
mod uses;

use std::sync::Arc;

use chrono::TimeDelta;

use crate::audit::Audit;
use crate::call::Calls;
use crate::coherence::Coherence;
use crate::domain::clock::Clock;
use crate::domain::entry::Windows;
use crate::domain::ids::Ids;
use crate::keyring::Keyring;
use crate::lifecycle::Lifecycle;
use crate::redis::Leases;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::tiers::Stack;
use crate::upstream::Upstream;

pub use answered::{AnswerSource, Answered, QueryError};
pub use statistics::{StatisticsView, TierView};
pub use uses::UseWriter;

use fetch::Fetcher;
use revalidate::Revalidations;

/// Whether the cache takes part at all (AI_CACHE_ENABLED).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// The cache takes part.
    On,
    /// Every query goes to the upstream; nothing is read or stored.
    PassThrough,
}

/// The parts that [`Answering`] is made of.
pub struct AnsweringParts {
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
    /// Which replica fetches what is missing.
    pub leases: Arc<dyn Leases>,
    /// The model that answers what is not cached.
    pub upstream: Arc<dyn Upstream>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub ids: Arc<dyn Ids>,
    /// Series for operators.
    pub metrics: Arc<Metrics>,
    /// Tasks.
    pub lifecycle: Lifecycle,
    /// Whether the cache takes part.
    pub switch: Switch,
    /// How long answers of operations without a time of their own are good.
    pub default_ttl: TimeDelta,
    /// How long past their time answers may still be served.
    pub stale: Windows,
}

/// The use cases of answers.
pub struct Answering {
    parts: Arc<AnsweringParts>,
    default_model: Arc<str>,
    fetcher: Arc<Fetcher>,
    revalidations: Arc<Revalidations>,
}

impl Answering {
    /// Makes it of its parts.
    pub fn new(parts: AnsweringParts) -> Arc<Self> {
        let default_model = parts.upstream.default_model().into();
        let revalidations = Revalidations::new(Arc::clone(&parts.clock));
        let parts = Arc::new(parts);
        let fetcher = Fetcher::new(Arc::clone(&parts));
        Arc::new(Self { parts, default_model, fetcher, revalidations })
    }
}
