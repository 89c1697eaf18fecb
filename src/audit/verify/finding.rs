//! Owns the kinds of findings and the result of a verification.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The most findings of a kind that are told one by one. Those beyond are only counted.
const MOST_TOLD: u64 = 10_000;

/// The kind of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FindingKind {
    /// A row is not as it was written.
    RowAltered,
    /// Rows that were sealed are gone.
    RowMissing,
    /// There are rows that were not there when their range was sealed.
    RowExtra,
    /// A row that is right in itself was not written by the service.
    RowForged,
    /// Numbers are missing among a writer's records.
    SeqGap,
    /// A seal is not as it was made, or does not follow from the one before.
    SealBroken,
    /// A seal is missing.
    SealGap,
    /// Rows wait to be sealed for longer than they should.
    SealLagging,
    /// A seal was not signed by its key.
    BadSignature,
    /// A seal that was kept outside is not in the database, or another seal is in its place.
    CheckpointMismatch,
    /// A partition is gone without a purge that was due.
    PurgeUnjustified,
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RowAltered => "ROW_ALTERED",
            Self::RowMissing => "ROW_MISSING",
            Self::RowExtra => "ROW_EXTRA",
            Self::RowForged => "ROW_FORGED",
            Self::SeqGap => "SEQ_GAP",
            Self::SealBroken => "SEAL_BROKEN",
            Self::SealGap => "SEAL_GAP",
            Self::SealLagging => "SEAL_LAGGING",
            Self::BadSignature => "BAD_SIGNATURE",
            Self::CheckpointMismatch => "CHECKPOINT_MISMATCH",
            Self::PurgeUnjustified => "PURGE_UNJUSTIFIED",
        })
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The kind of the finding.
    pub kind: FindingKind,
    /// The name of the row, seal, partition or other thing that is wrong.
    #[serde(rename = "where")]
    pub place: String,
    /// More about the finding, in words.
    pub detail: String,
}

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// The number of rows that were checked.
    pub rows: u64,
    /// The number of rows that no seal covers yet. Each is checked by itself, but it is not known
    /// whether one is missing.
    pub unsealed: u64,
    /// The number of seals that were checked.
    pub seals: u64,
    /// The number of checkpoints that were compared.
    pub checkpoints: u64,
    /// The number of findings of each kind.
    pub kinds: BTreeMap<FindingKind, u64>,
    /// The findings one by one, at most 10,000 of each kind.
    pub findings: Vec<Finding>,
}

impl Default for Verification {
    fn default() -> Self {
        let (kinds, findings) = (BTreeMap::new(), Vec::new());
        Self { ok: true, rows: 0, unsealed: 0, seals: 0, checkpoints: 0, kinds, findings }
    }
}

impl Verification {
    pub(super) fn find(&mut self, kind: FindingKind, place: impl fmt::Display, detail: String) {
        self.ok = false;
        let count = self.kinds.entry(kind).or_default();
        *count += 1;
        if *count <= MOST_TOLD {
            self.findings.push(Finding { kind, place: place.to_string(), detail });
        }
    }

    /// Returns how many findings there are, told one by one or not.
    pub fn found(&self) -> u64 {
        self.kinds.values().sum()
    }
}
