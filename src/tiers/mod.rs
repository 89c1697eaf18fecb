//! Where sealed answers are: memory, Redis, Postgres. Every tier holds ciphertext only, and a value
//! that cannot be proven to be the reader's own is a miss.

mod cold;
mod hot;
mod stack;
mod warm;
mod wire;

use chrono::{DateTime, Utc};

use crate::crypto::Sealed;
use crate::domain::candidate::{Candidate, LabelPrefixes};
use crate::domain::entry::{EntryMeta, Place};
use crate::domain::selector::Position;

pub use cold::Cold;
pub use hot::{Hot, HotEntry, UseCounter, Uses};
pub use stack::{Found, Stack};
pub use warm::{RedisTier, Warm, WarmOff};

/// A sealed answer as the tiers hold it.
#[derive(Debug, Clone)]
pub struct StoredAnswer {
    /// Where it belongs.
    pub place: Place,
    /// Its plain metadata.
    pub meta: EntryMeta,
    /// Its labels. Of a value out of Redis they are not known: nothing binds them to what is sealed,
    /// so a Redis that lies could hide one and have an invalidated answer served.
    pub labels: LabelPrefixes,
    /// Answer, model and usage.
    pub answer: Sealed,
    /// How far in the invalidation stream it is proven.
    pub position: Position,
}

impl StoredAnswer {
    /// What selectors are held against.
    pub const fn candidate(&self) -> Candidate<'_> {
        Candidate {
            place: &self.place,
            entry: Some(self.meta.id),
            operation: self.meta.operation,
            subject_key: self.meta.subject_key,
            labels: &self.labels,
        }
    }

    /// Whether it was made after `other`, for the same generation.
    fn is_newer_than(&self, other: &Self) -> bool {
        self.place.generation == other.place.generation
            && self.meta.created_at > other.meta.created_at
    }
}

/// A look-up: what is wanted and what is acceptable.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Where.
    pub place: Place,
    /// The time now.
    pub now: DateTime<Utc>,
    /// The earliest acceptable time of making.
    pub made_since: DateTime<Utc>,
}
