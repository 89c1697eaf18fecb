//! Seals of the audit trail: what each says of a range of transactions, and the canonical bytes it
//! is hashed and signed over.

use chrono::{DateTime, Utc};

use super::canonical::Encoder;
use super::ids::LedgerId;

/// SHA-256.
pub type Hash = [u8; 32];

/// What the first seal of a ledger names as the one before.
pub const NO_SEAL: Hash = [0; 32];

/// The rows of one partition in a seal's range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealPart {
    /// The partition.
    pub name: String,
    /// How many.
    pub count: i64,
    /// SHA-256 over `tx_id` (8 bytes, big-endian) and `row_hash` of each, by `tx_id` and id.
    pub hash: Vec<u8>,
}

/// What a seal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealContent {
    /// The history it belongs to.
    pub ledger: LedgerId,
    /// Its place in it, from 1.
    pub seq: i64,
    /// The first transaction it covers.
    pub from_tx: i64,
    /// The first it does not.
    pub to_tx: i64,
    /// The partitions with rows in the range, by name.
    pub parts: Vec<SealPart>,
    /// Hash of the seal before, or [`NO_SEAL`].
    pub previous: Vec<u8>,
    /// When.
    pub at: DateTime<Utc>,
    /// Which key signs it.
    pub key_id: String,
}

/// A seal as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// What it says.
    pub content: SealContent,
    /// SHA-256 of [`SealContent::canonical`].
    pub hash: Vec<u8>,
    /// Ed25519 (RFC 8032) over `hash`, 64 bytes.
    pub signature: Vec<u8>,
}

impl SealContent {
    /// The canonical bytes. Destructured whole, so that a new field cannot be left out.
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

    /// How many rows it covers.
    pub fn rows(&self) -> i64 {
        self.parts.iter().fold(0, |rows, part| part.count.saturating_add(rows))
    }
}
