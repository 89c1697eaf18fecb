//! Owns the audit seals: the statement of each over a range of transactions, and the canonical
//! bytes that are hashed and signed. An audit seal is no sealed value.

use chrono::{DateTime, Utc};

use super::canonical::Encoder;
use super::ids::LedgerId;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The hash that the first seal of a ledger holds in place of the hash of a previous seal.
pub const NO_SEAL: Hash = [0; 32];

/// The rows of one partition in the range of a seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealPart {
    /// The name of the partition.
    pub name: String,
    /// The number of rows.
    pub count: i64,
    /// The SHA-256 over `tx_id` (8 bytes, big-endian) and `row_hash` of each row, in the order of
    /// `tx_id` and id.
    pub hash: Vec<u8>,
}

/// The statement of a seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealContent {
    /// The ledger that it belongs to.
    pub ledger: LedgerId,
    /// The number of the seal in its ledger, from 1.
    pub seq: i64,
    /// The first transaction that it covers.
    pub from_tx: i64,
    /// The first transaction after `from_tx` that it does not cover.
    pub to_tx: i64,
    /// The partitions with rows in the range, in the order of their names.
    pub parts: Vec<SealPart>,
    /// The hash of the previous seal, or [`NO_SEAL`].
    pub previous: Vec<u8>,
    /// The time at which it was made.
    pub at: DateTime<Utc>,
    /// The id of the key that signs it.
    pub key_id: String,
}

/// A seal, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The statement of the seal.
    pub content: SealContent,
    /// The SHA-256 of [`SealContent::canonical`].
    pub hash: Vec<u8>,
    /// The signature over `hash` by Ed25519 (RFC 8032), 64 bytes.
    pub signature: Vec<u8>,
}

impl SealContent {
    /// Returns the canonical bytes. The function destructures the whole statement, so that a new
    /// field cannot be left out.
    pub fn canonical(&self) -> Vec<u8> {
        let Self { ledger, seq, from_tx, to_tx, parts, previous, at, key_id } = self;
        let mut out = Encoder::new("ai-cache audit seal 1");
        out.bytes(ledger.0.as_bytes()).i64(*seq).i64(*from_tx).i64(*to_tx);
        out.u64(parts.len() as u64);
        for SealPart { name, count, hash } in parts {
            out.text(name).i64(*count).bytes(hash);
        }
        out.bytes(previous).i64(at.timestamp_micros()).text(key_id);
        out.finish()
    }

    /// Returns the number of rows that the seal covers.
    pub fn rows(&self) -> i64 {
        self.parts.iter().fold(0, |rows, part| part.count.saturating_add(rows))
    }
}
