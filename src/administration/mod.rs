//! What administrators and operators do: tenants, tokens, entries one by one, and the size of the cold
//! tier. Knows nothing of the other rooms of use cases.

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
    /// argon2.
    pub hasher: Hasher,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub ids: Arc<dyn Ids>,
    /// Series for operators.
    pub metrics: Arc<Metrics>,
    /// How many entries there may be in Postgres, and for how long.
    pub capacity: Capacity,
}

/// The use cases of administrators and operators.
pub struct Administration {
    parts: AdministrationParts,
    samples: Samples,
}

impl Administration {
    /// Makes it of its parts.
    pub fn new(parts: AdministrationParts) -> Arc<Self> {
        let samples = Samples::new(parts.clock.now());
        Arc::new(Self { parts, samples })
    }
}
