//! Owns the plain metadata of an entry, which is the same in every tier, and the data that its
//! sealed values are bound to. It never holds the answer.

use chrono::{DateTime, TimeDelta, Utc};

use super::by_name::serde_by_name;
use super::cache_key::CacheKey;
use super::canonical::Encoder;
use super::ids::{EntryId, SubjectKeyId, TenantId};
use super::money::{Usage, Usd};
use super::operation::Operation;
use super::selector::Generation;

serde_by_name!(Tier);

/// A place where an entry can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// The memory of this process.
    Hot,
    /// Redis.
    Warm,
    /// Postgres.
    Cold,
}

impl Tier {
    /// Every tier, in the order in which they are asked.
    pub const ALL: [Self; 3] = [Self::Hot, Self::Warm, Self::Cold];

    /// Returns the name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Warm => "warm",
            Self::Cold => "cold",
        }
    }

    /// Reads the name on the wire. Returns `None` if no tier has it.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.name() == name)
    }

    /// Returns the position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A part of an entry that is a sealed value of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealedField {
    /// The answer with its model and usage.
    Answer,
    /// The query with its context and parameters.
    Question,
    /// The location, vendor types and tags.
    Labels,
}

impl SealedField {
    /// Returns the name that goes into the derived key and the bound data.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answer => "entry answer",
            Self::Question => "entry question",
            Self::Labels => "entry labels",
        }
    }
}

/// The metadata of an entry, which is readable without opening a sealed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryMeta {
    /// The id of the entry.
    pub id: EntryId,
    /// The operation of its question.
    pub operation: Operation,
    /// The subject key under which it is sealed. `None` means that the key of the tenant seals it.
    pub subject_key: Option<SubjectKeyId>,
    /// The version of the key that seals it.
    pub key_version: i32,
    /// The time at which it was made.
    pub created_at: DateTime<Utc>,
    /// The time until which it is fresh. It never changes.
    pub expires_at: DateTime<Utc>,
    /// The tokens that the answer took.
    pub usage: Usage,
    /// The cost of the answer, which each hit saves.
    pub cost: Usd,
}

/// The reader's own side of what a sealed value is bound to. It is never taken from the stored
/// value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The tenant that reads.
    pub tenant: TenantId,
    /// The cache key that was looked up.
    pub key: CacheKey,
    /// The generation of the tenant, as the reader knows it.
    pub generation: Generation,
}

impl EntryMeta {
    /// Returns the additional authenticated data of one sealed field. A value that was moved to
    /// another tenant, cache key, entry, field, operation, lifetime, generation or sealing key does
    /// not open.
    pub fn bound_data(&self, place: &Place, field: SealedField) -> Vec<u8> {
        let Self { id, operation, subject_key, key_version, created_at, expires_at, usage, cost } =
            self;
        let mut out = Encoder::new("ai-cache entry");
        out.bytes(place.tenant.0.as_bytes()).bytes(&place.key.0).i64(place.generation.0);
        out.bytes(id.0.as_bytes()).text(field.name()).text(operation.name());
        out.option(*subject_key, |out, id| {
            out.bytes(id.0.as_bytes());
        });
        out.i64(i64::from(*key_version));
        out.i64(created_at.timestamp_micros()).i64(expires_at.timestamp_micros());
        out.u64(u64::from(usage.prompt_tokens)).u64(u64::from(usage.completion_tokens));
        out.u64(cost.0);
        out.finish()
    }

    /// Returns the age at `now`, which is at least 0.
    pub fn age(&self, now: DateTime<Utc>) -> TimeDelta {
        (now - self.created_at).max(TimeDelta::zero())
    }

    /// Returns the whole seconds that are left at `now`, rounded down. The number is negative once
    /// the time of the entry is over.
    pub fn seconds_left(&self, now: DateTime<Utc>) -> i64 {
        let left = (self.expires_at - now).num_microseconds();
        left.map_or(i64::MAX, |left| left.div_euclid(1_000_000))
    }

    /// Returns whether the time of the entry is not over yet at `now`.
    pub fn is_fresh(&self, now: DateTime<Utc>) -> bool {
        now < self.expires_at
    }
}

/// The times for which answers may be served past their own time. They are no part of the bound
/// data, and they never change the time at which an entry expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Windows {
    /// The window while the answer is revalidated behind the reply (RFC 5861 §3).
    pub while_revalidate: TimeDelta,
    /// The window when the upstream was asked and failed (RFC 5861 §4).
    pub if_error: TimeDelta,
}

impl Windows {
    /// Returns the time until which an entry that expires at `expires_at` may be of use. No tier
    /// has to keep the entry longer, and only a lack of room should evict it earlier.
    pub fn usable_until(&self, expires_at: DateTime<Utc>) -> DateTime<Utc> {
        expires_at + self.longest()
    }

    /// Returns how long an entry may be of use past its time.
    pub fn longest(&self) -> TimeDelta {
        self.while_revalidate.max(self.if_error)
    }
}

/// Returns a time to live that is shortened by up to 5 %, so that entries made together do not
/// expire together. `spread` is any evenly distributed byte, such as a random one of the entry's
/// id.
pub fn jittered(ttl: TimeDelta, spread: u8) -> TimeDelta {
    ttl - TimeDelta::milliseconds(ttl.num_milliseconds() / 20 * i64::from(spread) / 255)
}
