//! Identifiers as types of their own, so that one cannot be passed for another, and the source
//! they come from. All are UUIDv7 (RFC 9562 §5.7): they sort by the time they were made.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::{NoContext, Timestamp, Uuid};

/// Source of fresh ids.
pub trait Ids: Send + Sync + 'static {
    /// A UUIDv7 for the time `now`.
    fn next(&self, now: DateTime<Utc>) -> Uuid;
}

/// No UUIDv7 of this or a later millisecond is smaller (RFC 9562 §5.7).
pub fn first_uuid_of(at: DateTime<Utc>) -> Uuid {
    let millis = u128::try_from(at.timestamp_millis()).unwrap_or(0); // before 1970: the smallest
    Uuid::from_u128(millis << 80)
}

/// Ids with random bits from a generator seeded by the operating system.
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
            /// Reads the hyphenated or simple form.
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
    /// A tenant: one customer, walled off from all others.
    TenantId
}
id! {
    /// An API token, not its secret.
    TokenId
}
id! {
    /// One request, the same in replies, logs and audit.
    RequestId
}
id! {
    /// One audit record.
    AuditId
}
id! {
    /// One cache entry. A refreshed answer is a new entry under the same cache key.
    EntryId
}
id! {
    /// The random name of a person's key: what audit records say instead of the person.
    SubjectKeyId
}
id! {
    /// One run of an audit writer.
    WriterId
}
id! {
    /// One request of a data subject.
    GdprRequestId
}
id! {
    /// One legal hold.
    HoldId
}
id! {
    /// One unbroken history of a database: a restored copy begins a new one.
    LedgerId
}

impl LedgerId {
    /// The smallest that is greater: of the same millisecond, or of the next.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(Uuid::from_u128(self.0.as_u128().saturating_add(1)))
    }
}
