//! A cache entry's plain metadata, the same in every tier, and what its sealed parts are bound to.

use chrono::{DateTime, TimeDelta, Utc};

use super::by_name::serde_by_name;
use super::cache_key::CacheKey;
use super::canonical::Encoder;
use super::ids::{EntryId, SubjectKeyId, TenantId};
use super::money::{Usage, Usd};
use super::operation::Operation;
use super::selector::Generation;

serde_by_name!(Tier);

/// Where an answer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// This process's memory.
    Hot,
    /// Redis.
    Warm,
    /// Postgres.
    Cold,
}

impl Tier {
    /// Every tier, in the order they are asked.
    pub const ALL: [Self; 3] = [Self::Hot, Self::Warm, Self::Cold];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Warm => "warm",
            Self::Cold => "cold",
        }
    }

    /// Reads the name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.name() == name)
    }

    /// Position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A part of an entry that is sealed by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealedField {
    /// The answer, its model and usage.
    Answer,
    /// The query, its context and parameters.
    Question,
    /// Location, vendor types and tags.
    Labels,
}

impl SealedField {
    /// The name that goes into key derivation and bound data.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answer => "entry answer",
            Self::Question => "entry question",
            Self::Labels => "entry labels",
        }
    }
}

/// What is known of an entry without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryMeta {
    /// The entry.
    pub id: EntryId,
    /// Its kind.
    pub operation: Operation,
    /// Whose key it is sealed under; `None`: the tenant's.
    pub subject_key: Option<SubjectKeyId>,
    /// Version of the sealing key.
    pub key_version: i32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it stops being good. Never changed.
    pub expires_at: DateTime<Utc>,
    /// Tokens the answer took.
    pub usage: Usage,
    /// What the answer cost, so what each hit saves.
    pub cost: Usd,
}

/// The reader's own side of what a sealed part is bound to: never taken from the stored value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The tenant who reads.
    pub tenant: TenantId,
    /// The key that was looked up.
    pub key: CacheKey,
    /// The tenant's generation as the reader knows it.
    pub generation: Generation,
}

impl EntryMeta {
    /// The additional authenticated data of one sealed field: a value moved to another tenant, key,
    /// entry, field, lifetime, generation or key does not open.
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

    /// Age at `now`, at least 0.
    pub fn age(&self, now: DateTime<Utc>) -> TimeDelta {
        (now - self.created_at).max(TimeDelta::zero())
    }

    /// Whole seconds left at `now`, rounded down: negative once its time is over.
    pub fn seconds_left(&self, now: DateTime<Utc>) -> i64 {
        let left = (self.expires_at - now).num_microseconds();
        left.map_or(i64::MAX, |left| left.div_euclid(1_000_000))
    }

    /// Whether its time is not over at `now`.
    pub fn is_fresh(&self, now: DateTime<Utc>) -> bool {
        now < self.expires_at
    }
}

/// How long past their time answers may still be served. Not part of what is sealed: when an entry
/// expires is never rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Windows {
    /// While the answer is fetched anew behind the reply (RFC 5861 §3).
    pub while_revalidate: TimeDelta,
    /// When the upstream was asked and failed (RFC 5861 §4).
    pub if_error: TimeDelta,
}

impl Windows {
    /// Until when an entry that expires at `expires_at` may be of use. Nothing has to keep it
    /// longer, and nothing but a lack of room should remove it earlier.
    pub fn usable_until(&self, expires_at: DateTime<Utc>) -> DateTime<Utc> {
        expires_at + self.longest()
    }

    /// How long past its time an entry may be of use.
    pub fn longest(&self) -> TimeDelta {
        self.while_revalidate.max(self.if_error)
    }
}

/// A time to live shortened by up to 5 %, so that entries made together do not expire together.
/// `spread` is any evenly distributed byte, such as one of the entry's id.
pub fn jittered(ttl: TimeDelta, spread: u8) -> TimeDelta {
    ttl - TimeDelta::milliseconds(ttl.num_milliseconds() / 20 * i64::from(spread) / 255)
}
