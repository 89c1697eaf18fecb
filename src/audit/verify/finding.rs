//! What a verification may find.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Most findings of a kind that are told one by one; beyond, they are counted.
const MOST_TOLD: u64 = 10_000;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FindingKind {
    /// A row is not what was written.
    RowAltered,
    /// Rows that were sealed are gone.
    RowMissing,
    /// There are rows that were not there when their range was sealed.
    RowExtra,
    /// A row in itself right was not written by the service.
    RowForged,
    /// Numbers are missing among a writer's records.
    SeqGap,
    /// A seal is not what was made, or does not follow from the one before.
    SealBroken,
    /// A seal is missing.
    SealGap,
    /// Rows wait to be sealed for longer than they should.
    SealLagging,
    /// A seal was not signed by its key.
    BadSignature,
    /// A seal that was kept outside is not here, or another is.
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
    /// What.
    pub kind: FindingKind,
    /// Where: a row's, seal's or partition's name.
    #[serde(rename = "where")]
    pub place: String,
    /// More in words.
    pub detail: String,
}

/// What a verification came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// Rows checked.
    pub rows: u64,
    /// Rows among them that no seal covers yet: each is right in itself, but whether one is
    /// missing is not known.
    pub unsealed: u64,
    /// Seals checked.
    pub seals: u64,
    /// Checkpoints compared.
    pub checkpoints: u64,
    /// How many findings there are of each kind.
    pub kinds: BTreeMap<FindingKind, u64>,
    /// What is wrong, one by one, at most 10,000 of each kind.
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

    /// How many findings there are, told one by one or not.
    pub fn found(&self) -> u64 {
        self.kinds.values().sum()
    }
}
