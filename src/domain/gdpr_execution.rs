//! Owns the steps of the execution of a data subject's request, and the counts of what it touched.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::by_name::names;
use super::certificate::Removed;
use super::gdpr::RequestKind;
use super::ids::HoldId;

names! {
    /// A step of an execution. The row of a request names the last step that is done.
    ExecutionStep {
        /// From this step of an export on, parts of its package may be stored.
        Packing => "packing",
        /// In an erasure, the person's key is destroyed, together with everything under it in
        /// Postgres.
        Destroyed => "destroyed",
        /// In an erasure, legal holds keep everything, and the person's data are restricted.
        Held => "held",
        /// In an erasure, the person's values in Redis are removed.
        Redis => "redis",
        /// In an erasure, every replica has followed up to its position, or proves nothing any
        /// more.
        Propagated => "propagated",
        /// The restriction of the person's data is set in Postgres, or is lifted there.
        Changed => "changed",
    }
}

/// The counts of an execution, as the row of its request keeps them. An execution that restricts a
/// person's data or lifts a restriction has no counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Counts {
    /// The counts of an erasure.
    Erasure(Erased),
    /// The counts of an export.
    Export(Packed),
}

/// The things that an erasure has found and removed so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Erased {
    /// The numbers of things that were removed, by tier.
    #[serde(flatten)]
    pub removed: Removed,
    /// The time at which the person's key was destroyed. `None` means that it was not.
    pub key_destroyed_at: Option<DateTime<Utc>>,
    /// The id of the key that wrapped the person's key. `None` means that no key was destroyed.
    pub wrapping_key_id: Option<String>,
    /// The legal holds that kept everything.
    pub holds: Vec<HoldId>,
}

/// The contents and the size of the package of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// The numbers of things in the package.
    #[serde(flatten)]
    pub contents: PackageCounts,
    /// The size of the package.
    #[serde(flatten)]
    pub size: PackageSize,
}

/// The numbers of things in a package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PackageCounts {
    /// The number of entries, which stand one per line.
    pub entries: u64,
    /// The number of entries that did not open.
    pub unreadable: u64,
    /// The number of records in the processing log.
    pub processing_log: u64,
    /// The number of requests of the person.
    pub requests: u64,
}

/// The size of a package, as it is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageSize {
    /// The number of sealed parts.
    pub parts: i32,
    /// The number of sealed bytes in all parts.
    pub bytes: u64,
}

impl Counts {
    /// Reads the counts of a request of this kind from JSON. Returns `None` if this release does
    /// not know them.
    pub fn parse(kind: RequestKind, json: &str) -> Option<Self> {
        match kind {
            RequestKind::Erase => serde_json::from_str(json).ok().map(Self::Erasure),
            RequestKind::Export => serde_json::from_str(json).ok().map(Self::Export),
            RequestKind::Restrict | RequestKind::LiftRestriction => None,
        }
    }
}
