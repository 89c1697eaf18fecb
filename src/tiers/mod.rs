//! Where sealed answers are: memory, Redis, Postgres. Every tier holds ciphertext only, and a value
//! that cannot be proven to be the reader's own is a miss.

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
    /// Where it belongs.
    pub place: Place,
    /// Its plain metadata.
    pub meta: EntryMeta,
    /// Its labels.
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
    /// How long past its time it may be.
    pub stale_for: TimeDelta,
}

impl Wanted {
    /// Whether an entry's times are acceptable.
    pub fn accepts(&self, meta: &EntryMeta) -> bool {
        meta.is_fresh(self.now - self.stale_for) && meta.created_at >= self.made_since
    }
}

/// How a reader finds and knows a tenant's answer in Redis.
#[derive(Debug, Clone, Copy)]
pub struct WarmName<'a> {
    /// What it is stored under.
    pub key: [u8; 32],
    /// Proves that it was stored for this tenant.
    pub mac: &'a MacKey,
    /// The history its position is of.
    pub era: u64,
}

impl<'a> WarmName<'a> {
    /// Of an answer that replicas name `key`. In another era it has another name.
    pub fn new(mut key: [u8; 32], mac: &'a MacKey, era: u64) -> Self {
        for (byte, of_era) in key.iter_mut().zip(era.to_be_bytes()) {
            *byte ^= of_era;
        }
        Self { key, mac, era }
    }
}
