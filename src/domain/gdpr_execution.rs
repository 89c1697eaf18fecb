//! How far the execution of a data subject's request has come, and what it has touched.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::by_name::names;
use super::certificate::Removed;
use super::gdpr::RequestKind;
use super::ids::HoldId;

names! {
    /// A step of an execution. A request's row names the last one that is done.
    ExecutionStep {
        /// An export: parts of its package may be stored from here on.
        Packing => "packing",
        /// An erasure: the person's key is destroyed, together with everything under it in
        /// Postgres.
        Destroyed => "destroyed",
        /// An erasure: legal holds keep everything, and the person is restricted.
        Held => "held",
        /// An erasure: the person's values in Redis are removed.
        Redis => "redis",
        /// An erasure: every replica has followed.
        Propagated => "propagated",
        /// A restriction: Postgres says it, or does not say it any more.
        Changed => "changed",
    }
}

/// What an execution has touched, as its request's row keeps it. Executions that restrict a person,
/// or lift a restriction, keep nothing of the kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Counts {
    /// What an erasure has touched.
    Erasure(Erased),
    /// What an export has touched.
    Export(Packed),
}

/// What an erasure has found and removed so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Erased {
    /// What is removed, by tier.
    #[serde(flatten)]
    pub removed: Removed,
    /// When the person's key was destroyed. `None` means that it was not.
    pub key_destroyed_at: Option<DateTime<Utc>>,
    /// The key that wrapped the person's key. `None` means that no key was destroyed.
    pub wrapping_key_id: Option<String>,
    /// The legal holds that kept everything.
    pub holds: Vec<HoldId>,
}

/// What the package of an export holds, and how large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// How much is in the package.
    #[serde(flatten)]
    pub contents: PackageCounts,
    /// How large it is.
    #[serde(flatten)]
    pub size: PackageSize,
}

/// How much is in a package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PackageCounts {
    /// Entries, one a line.
    pub entries: u64,
    /// Entries that did not open.
    pub unreadable: u64,
    /// Records of the processing log.
    pub processing_log: u64,
    /// Requests of the person.
    pub requests: u64,
}

/// How large a package is, as it is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageSize {
    /// Sealed parts.
    pub parts: i32,
    /// Sealed bytes of all parts.
    pub bytes: u64,
}

impl Counts {
    /// Reads the counts of a request of this kind, written as JSON. `None` means that this release
    /// does not know them.
    pub fn parse(kind: RequestKind, json: &str) -> Option<Self> {
        match kind {
            RequestKind::Erase => serde_json::from_str(json).ok().map(Self::Erasure),
            RequestKind::Export => serde_json::from_str(json).ok().map(Self::Export),
            RequestKind::Restrict | RequestKind::LiftRestriction => None,
        }
    }
}
