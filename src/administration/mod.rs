//! The room of administrators and operators: tenants, tokens, entries one by one, and the size of
//! the cold tier. It knows nothing of the other rooms.

mod entries;
mod evict;
mod tenants;
mod tokens;

use std::sync::Arc;

use crate::audit::Audit;
use crate::auth::Hasher;
use crate::call::Calls;
use crate::coherence::Coherence;
use crate::domain::clock::Clock;
use crate::domain::ids::Ids;
use crate::keyring::Keyring;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::tiers::Stack;

pub use entries::{EntriesError, EntryPage, EntryQuery, EntryView};
pub use evict::{Capacity, Evicted};
pub use tenants::{TenantError, TenantSlug};
pub use tokens::{Grant, NewTokenText, TokenError, TokenRequest};

use evict::Samples;

/// The parts that [`Administration`] is made of.
pub struct AdministrationParts {
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
    /// The pool that hashes tokens.
    pub hasher: Hasher,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of ids.
    pub ids: Arc<dyn Ids>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The limits of the cold tier.
    pub capacity: Capacity,
}

/// The use cases of administrators and operators.
pub struct Administration {
    parts: AdministrationParts,
    samples: Samples,
}

impl Administration {
    /// Makes the room of its parts.
    pub fn new(parts: AdministrationParts) -> Arc<Self> {
        let samples = Samples::new(parts.clock.now());
        Arc::new(Self { parts, samples })
    }
}
