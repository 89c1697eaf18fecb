//! Sums up rows: those of a partition within a seal, and those that no seal covers.

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};

use crate::domain::audit_row::AuditRow;
use crate::domain::ids::AuditId;

/// The most rewritten rows that are named for a partition within a seal.
const MOST_NAMED: usize = 1_000;

/// The rows of a partition within a seal.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) count: i64,
    /// The rows that are right in themselves, but that another transaction than the one they name
    /// put there.
    pub(super) rewritten: Vec<AuditId>,
    hash: Sha256,
}

impl Tally {
    pub(super) fn add(&mut self, tx_id: i64, row_hash: &[u8]) {
        self.count += 1;
        self.hash.update(tx_id.to_be_bytes());
        self.hash.update(row_hash);
    }

    pub(super) fn note_rewritten(&mut self, row: AuditId) {
        if self.rewritten.len() < MOST_NAMED {
            self.rewritten.push(row);
        }
    }

    pub(super) fn hash(self) -> Vec<u8> {
        self.hash.finalize().to_vec()
    }
}

/// The rows that no seal covers.
#[derive(Default)]
pub(super) struct Unsealed {
    pub(super) count: u64,
    /// The time and the transaction of the row that says it happened first.
    pub(super) oldest: Option<(DateTime<Utc>, i64)>,
}

impl Unsealed {
    pub(super) fn note(&mut self, row: &AuditRow) {
        self.count += 1;
        if self.oldest.is_none_or(|(at, _)| row.occurred_at < at) {
            self.oldest = Some((row.occurred_at, row.tx_id));
        }
    }
}
