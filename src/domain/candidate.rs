//! Owns the candidates that selectors are compared with: an entry, or a fetch that has no entry
//! yet. The comparison never opens a sealed value.

use super::cache_key::BlindIndex;
use super::entry::Place;
use super::ids::{EntryId, SubjectKeyId};
use super::operation::Operation;
use super::selector::{Group, Selector};

/// The blind indexes of an entry's labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelIndexes {
    /// The blind index of the location.
    pub location: Option<BlindIndex>,
    /// The blind indexes of the vendor types.
    pub vendor_types: Vec<BlindIndex>,
    /// The blind indexes of the tags.
    pub tags: Vec<BlindIndex>,
}

impl LabelIndexes {
    /// Iterates over all blind indexes.
    pub fn iter(&self) -> impl Iterator<Item = &BlindIndex> {
        self.location.iter().chain(&self.vendor_types).chain(&self.tags)
    }

    /// Returns the prefixes that memory keeps of the blind indexes.
    pub fn prefixes(&self) -> LabelPrefixes {
        LabelPrefixes::of(self.iter().map(|index| index.0.as_slice()))
    }
}

/// The part of an entry's labels that memory keeps: the first 8 bytes of each blind index. Two
/// labels with the same first 8 bytes are taken for one, which costs a look-up in Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelPrefixes {
    /// The labels are not known, so any label may be among them.
    Unknown,
    /// The entry has these labels and no others.
    Known(Box<[u64]>),
}

impl LabelPrefixes {
    /// Takes the prefixes of these blind indexes. Returns [`Self::Unknown`] if one of them is
    /// shorter than 8 bytes.
    pub fn of<'a>(indexes: impl Iterator<Item = &'a [u8]>) -> Self {
        let prefixes: Option<Box<[u64]>> =
            indexes.map(|index| index.first_chunk().copied().map(u64::from_be_bytes)).collect();
        prefixes.map_or(Self::Unknown, Self::Known)
    }

    /// Returns the number of bytes on the heap that the prefixes take.
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

/// A thing that selectors are compared with.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The tenant, cache key and generation of the candidate.
    pub place: &'a Place,
    /// The entry. `None` means that the candidate is a fetch that has no entry yet.
    pub entry: Option<EntryId>,
    /// The operation of its question.
    pub operation: Operation,
    /// The subject key under which it is sealed. `None` means that no subject key seals it.
    pub subject_key: Option<SubjectKeyId>,
    /// The labels of the candidate.
    pub labels: &'a LabelPrefixes,
}

impl Candidate<'_> {
    /// Returns whether `selector`, which is of the candidate's tenant, hits the candidate or may
    /// hit it.
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
