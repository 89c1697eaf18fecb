//! What an invalidation hits, and how far a value or a replica has followed the stream of them.

use super::cache_key::{BlindIndex, CacheKey};
use super::ids::{EntryId, SubjectKeyId, TenantId, TokenId};
use super::operation::Operation;

/// Counts a tenant's "invalidate all": entries of an older generation are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Generation(pub i64);

impl Generation {
    /// The one before.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0 - 1)
    }
}

/// How far in the invalidation stream a value was proven: everything up to here was applied to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position(pub i64);

/// Entries of a tenant that have something in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// They are of one kind.
    Operation(Operation),
    /// They have one label: a location, a vendor type or a tag, whose blind indexes never coincide.
    Label(BlindIndex),
    /// They are sealed under one person's key.
    Subject(SubjectKeyId),
}

/// Which entries of a tenant an invalidation removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// Every entry of a generation before this one.
    Before(Generation),
    /// One entry.
    Entry {
        /// The entry.
        id: EntryId,
        /// Its cache key, whatever is under it now. `None` when its row is gone, replaced by a
        /// fresh answer perhaps: memory and Redis may still hold it.
        key: Option<CacheKey>,
    },
    /// Every entry of a group.
    Group(Group),
}

/// Something that stopped being true for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Entries were invalidated.
    Entries(Selector),
    /// A token was revoked.
    Token(TokenId),
    /// The tenant itself was changed.
    Tenant,
}

impl Change {
    /// What is one person's: gone, or not to be served, and the key that is remembered with it.
    pub const fn of_subject(key: SubjectKeyId) -> Self {
        Self::Entries(Selector::Group(Group::Subject(key)))
    }
}

/// One step of the invalidation stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Dense from 1, in the order of commits.
    pub position: Position,
    /// Whose.
    pub tenant: TenantId,
    /// What.
    pub change: Change,
}
