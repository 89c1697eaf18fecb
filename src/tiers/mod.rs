//! The tiers of sealed answers: memory, Redis, Postgres. Every tier holds ciphertext only, and a
//! value that cannot be proven to be the reader's own is a miss.

mod cold;
mod hot;
mod stack;
mod sweeper;
mod warm;
mod wire;

use chrono::{DateTime, TimeDelta, Utc};

use crate::crypto::{MacKey, Sealed};
use crate::domain::candidate::{Candidate, LabelPrefixes};
use crate::domain::entry::{EntryMeta, Place};
use crate::domain::selector::Position;

pub use cold::Cold;
pub use hot::{Hot, HotEntry, UseCounter, Uses};
pub use stack::{Found, Search, Stack};
pub use sweeper::Sweeper;
pub use warm::{RedisTier, Warm, WarmOff};

/// A sealed answer as the tiers hold it.
#[derive(Debug, Clone)]
pub struct StoredAnswer {
    /// The place that the answer is bound to.
    pub place: Place,
    /// The plain metadata.
    pub meta: EntryMeta,
    /// The labels of the entry.
    pub labels: LabelPrefixes,
    /// The sealed answer, with model and usage.
    pub answer: Sealed,
    /// The position in the invalidation stream up to which the answer is proven.
    pub position: Position,
}

impl StoredAnswer {
    /// Returns the candidate that selectors are compared with.
    pub const fn candidate(&self) -> Candidate<'_> {
        Candidate {
            place: &self.place,
            entry: Some(self.meta.id),
            operation: self.meta.operation,
            subject_key: self.meta.subject_key,
            labels: &self.labels,
        }
    }

    /// Returns whether this answer was made after `other`, for the same generation.
    fn is_newer_than(&self, other: &Self) -> bool {
        self.place.generation == other.place.generation
            && self.meta.created_at > other.meta.created_at
    }
}

/// A look-up: the place that is asked for, and the times that are acceptable.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The place that is looked up.
    pub place: Place,
    /// The time now.
    pub now: DateTime<Utc>,
    /// The earliest acceptable time of making.
    pub made_since: DateTime<Utc>,
    /// The time that an acceptable answer may be past its own time.
    pub stale_for: TimeDelta,
}

impl Wanted {
    /// Returns whether the times of an entry are acceptable.
    pub fn accepts(&self, meta: &EntryMeta) -> bool {
        meta.is_fresh(self.now - self.stale_for) && meta.created_at >= self.made_since
    }
}

/// The name by which a reader finds a tenant's answer in Redis, and the key that proves it.
#[derive(Debug, Clone, Copy)]
pub struct WarmName<'a> {
    /// The key in Redis.
    pub key: [u8; 32],
    /// The key of the MAC that proves that the value was stored for this tenant.
    pub mac: &'a MacKey,
    /// The history that the position belongs to.
    pub era: u64,
}

impl<'a> WarmName<'a> {
    /// Makes the name of an answer that replicas call `key`. In another era the answer has another
    /// name.
    pub fn new(mut key: [u8; 32], mac: &'a MacKey, era: u64) -> Self {
        for (byte, of_era) in key.iter_mut().zip(era.to_be_bytes()) {
            *byte ^= of_era;
        }
        Self { key, mac, era }
    }
}
