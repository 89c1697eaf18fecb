//! Everything between a question and its answer: look-up, shared fetch, fill, revalidation, statistics.
//! It knows nothing of the other rooms of use cases.
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
    /// The leases, which say which replica fetches a missing answer.
    pub leases: Arc<dyn Leases>,
    /// The model that answers what is not cached.
    pub upstream: Arc<dyn Upstream>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of ids.
    pub ids: Arc<dyn Ids>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The tracker of tasks.
    pub lifecycle: Lifecycle,
    /// Whether the cache takes part.
    pub switch: Switch,
    /// The time to live of answers whose operation has none of its own.
    pub default_ttl: TimeDelta,
    /// The windows in which stale answers may be served.
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
    /// Makes the room of its parts.
    pub fn new(parts: AnsweringParts) -> Arc<Self> {
        let default_model = parts.upstream.default_model().into();
        let revalidations = Revalidations::new(Arc::clone(&parts.clock));
        let parts = Arc::new(parts);
        let fetcher = Fetcher::new(Arc::clone(&parts));
        Arc::new(Self { parts, default_model, fetcher, revalidations })
    }
}
