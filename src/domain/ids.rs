//! Owns the ids, each kind as a type of its own, so that one kind cannot be passed for another, and
//! the source of fresh ids. All ids are UUIDv7 (RFC 9562 §5.7), so they sort by the time at which
//! they were made.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::{NoContext, Timestamp, Uuid};

/// A source of fresh ids.
pub trait Ids: Send + Sync + 'static {
    /// Makes a UUIDv7 for the time `now`.
    fn next(&self, now: DateTime<Utc>) -> Uuid;
}

/// Returns a lower bound for ids: no UUIDv7 of the millisecond `at` or of a later one is smaller
/// (RFC 9562 §5.7).
pub fn first_uuid_of(at: DateTime<Utc>) -> Uuid {
    // A time before 1970 gives the smallest UUID.
    let millis = u128::try_from(at.timestamp_millis()).unwrap_or(0);
    Uuid::from_u128(millis << 80)
}

/// Makes ids whose random bits come from a generator that the operating system seeds.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemIds;

impl Ids for SystemIds {
    fn next(&self, now: DateTime<Utc>) -> Uuid {
        let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
        Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos()))
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Reads a UUID in simple, hyphenated, braced or URN form. Returns `None` if `text` has
            /// another form.
            pub fn parse(text: &str) -> Option<Self> {
                Uuid::try_parse(text).ok().map(Self)
            }

            /// Makes a fresh id for the time `now`.
            pub fn fresh(ids: &dyn Ids, now: DateTime<Utc>) -> Self {
                Self(ids.next(now))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// The id of a tenant, which is one customer, walled off from all others.
    TenantId
}
id! {
    /// The id of an API token. It is not the token's secret.
    TokenId
}
id! {
    /// The id of one request. It is the same in replies, logs and audit records.
    RequestId
}
id! {
    /// The id of one audit record.
    AuditId
}
id! {
    /// The id of one cache entry. A refreshed answer is a new entry under the same cache key.
    EntryId
}
id! {
    /// The id of a subject key. It is random, and audit records hold it in place of the person.
    SubjectKeyId
}
id! {
    /// The id of one run of an audit writer.
    WriterId
}
id! {
    /// The id of one request of a data subject.
    GdprRequestId
}
id! {
    /// The id of one legal hold.
    HoldId
}
id! {
    /// The id of one ledger, which is one unbroken history of a database. A restored copy of the
    /// database begins a new ledger.
    LedgerId
}

impl LedgerId {
    /// Returns the smallest id that is greater than this one. It belongs to the same millisecond or
    /// to the next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(Uuid::from_u128(self.0.as_u128().saturating_add(1)))
    }
}
