//! Owns the selectors of invalidations, and the positions and steps of the stream of invalidations.

use super::cache_key::{BlindIndex, CacheKey};
use super::ids::{EntryId, SubjectKeyId, TenantId, TokenId};
use super::operation::Operation;

/// A number that counts the "invalidate all" of a tenant. Entries of an older generation are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Generation(pub i64);

impl Generation {
    /// Returns the generation before this one.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0 - 1)
    }
}

/// A place in the stream of invalidations. A value was proven up to it if every step up to it was
/// applied to the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position(pub i64);

/// The entries of a tenant that have one thing in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The entries have one operation.
    Operation(Operation),
    /// The entries have one label: a location, a vendor type or a tag. The blind indexes of
    /// different kinds of labels never coincide.
    Label(BlindIndex),
    /// The entries are sealed under the key of one person.
    Subject(SubjectKeyId),
}

/// The part of an invalidation that says which entries of a tenant it hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// Hits every entry of a generation before this one.
    Before(Generation),
    /// Hits one entry.
    Entry {
        /// The id of the entry.
        id: EntryId,
        /// The cache key of the entry. The selector also hits any other entry that has this key
        /// now. `None` means that the row of the entry is gone, perhaps because a fresh answer
        /// replaced it. Memory and Redis may still hold the entry.
        key: Option<CacheKey>,
    },
    /// Hits every entry of a group.
    Group(Group),
}

/// A change after which something is no longer true for a tenant.
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
    /// Returns the change that hits every entry under the key of one person. Each replica that
    /// follows it also forgets the key, if it has remembered it.
    pub const fn of_subject(key: SubjectKeyId) -> Self {
        Self::Entries(Selector::Group(Group::Subject(key)))
    }
}

/// One step of the invalidation stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The position of the step. Positions are dense, begin at 1 and follow the order of commits.
    pub position: Position,
    /// The tenant that the step belongs to.
    pub tenant: TenantId,
    /// The change that the step makes.
    pub change: Change,
}
