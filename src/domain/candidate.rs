//! What a selector is held against: an entry, or a fetch that has none yet. Tells whether it is hit
//! without opening anything.

use super::cache_key::BlindIndex;
use super::entry::Place;
use super::ids::{EntryId, SubjectKeyId};
use super::operation::Operation;
use super::selector::{Group, Selector};

/// The blind indexes of an entry's labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelIndexes {
    /// Of the location.
    pub location: Option<BlindIndex>,
    /// Of the vendor types.
    pub vendor_types: Vec<BlindIndex>,
    /// Of the tags.
    pub tags: Vec<BlindIndex>,
}

impl LabelIndexes {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &BlindIndex> {
        self.location.iter().chain(&self.vendor_types).chain(&self.tags)
    }

    /// As memory keeps them.
    pub fn prefixes(&self) -> LabelPrefixes {
        LabelPrefixes::of(self.iter().map(|index| index.0.as_slice()))
    }
}

/// What memory keeps of an entry's labels: the first 8 bytes of each blind index. Two labels that
/// begin alike are taken for one, which costs a look-up in Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelPrefixes {
    /// Nothing is known for sure, so any label may be among them.
    Unknown,
    /// These and no others.
    Known(Box<[u64]>),
}

impl LabelPrefixes {
    /// Of these blind indexes.
    pub fn of<'a>(indexes: impl Iterator<Item = &'a [u8]>) -> Self {
        let prefixes: Option<Box<[u64]>> =
            indexes.map(|index| index.first_chunk().copied().map(u64::from_be_bytes)).collect();
        prefixes.map_or(Self::Unknown, Self::Known)
    }

    /// Bytes they take besides their own.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Unknown => 0,
            Self::Known(prefixes) => size_of_val(&**prefixes),
        }
    }

    fn may_hold(&self, index: &BlindIndex) -> bool {
        match (self, index.0.first_chunk()) {
            (Self::Known(prefixes), Some(first)) => prefixes.contains(&u64::from_be_bytes(*first)),
            (Self::Unknown, _) | (_, None) => true,
        }
    }
}

/// What is held against selectors.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Where it belongs.
    pub place: &'a Place,
    /// The entry; `None`: a fetch that has none yet.
    pub entry: Option<EntryId>,
    /// Its kind.
    pub operation: Operation,
    /// Whose key it is sealed under.
    pub subject_key: Option<SubjectKeyId>,
    /// Its labels.
    pub labels: &'a LabelPrefixes,
}

impl Candidate<'_> {
    /// Whether a selector of its own tenant removes it, or may.
    pub fn is_hit_by(&self, selector: &Selector) -> bool {
        match selector {
            Selector::Before(generation) => self.place.generation < *generation,
            Selector::Entry { id, key } => *key == Some(self.place.key) || self.entry == Some(*id),
            Selector::Group(Group::Operation(operation)) => self.operation == *operation,
            Selector::Group(Group::Subject(id)) => self.subject_key == Some(*id),
            Selector::Group(Group::Label(index)) => self.labels.may_hold(index),
        }
    }
}
