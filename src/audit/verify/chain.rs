//! Judges the seals of a ledger one after another: each must be whole, signed, and next to the one
//! before.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::crypto::{KeyProvider, SigningKey, sha256};
use crate::domain::ids::LedgerId;
use crate::domain::seal::{NO_SEAL, Seal};
use crate::store::ledgers::Ledger;

use super::finding::{FindingKind, Verification};

/// The state of the check of one chain, after its last checked seal.
pub(super) struct Chain<'a> {
    ledger: LedgerId,
    keys: &'a KeyProvider,
    known: HashMap<String, Option<SigningKey>>,
    seq: i64,
    to_tx: i64,
    sealed_at: Option<DateTime<Utc>>,
    hash: Vec<u8>,
}

impl<'a> Chain<'a> {
    pub(super) fn new(ledger: &Ledger, keys: &'a KeyProvider) -> Self {
        let (known, hash) = (HashMap::new(), NO_SEAL.to_vec());
        let Ledger { id, begun_tx, .. } = *ledger;
        Self { ledger: id, keys, known, seq: 0, to_tx: begun_tx, sealed_at: None, hash }
    }

    /// Returns the number of the last seal.
    pub(super) const fn seq(&self) -> i64 {
        self.seq
    }

    /// Returns when the last seal was made. Returns `None` if there was no seal yet.
    pub(super) const fn sealed_at(&self) -> Option<DateTime<Utc>> {
        self.sealed_at
    }

    pub(super) fn check(&mut self, seal: &Seal, verification: &mut Verification) {
        let content = &seal.content;
        let place = format!("seal {} of ledger {}", content.seq, self.ledger);
        let mut find = |kind, detail: String| verification.find(kind, &place, detail);
        if sha256(&content.canonical())[..] != seal.hash[..] {
            find(FindingKind::SealBroken, "its fields do not give its hash".to_owned());
        }
        if content.seq == self.seq + 1 {
            if content.previous != self.hash {
                find(FindingKind::SealBroken, "it does not name the hash before".to_owned());
            }
            if content.from_tx != self.to_tx {
                let detail = format!("it begins at {}, not {}", content.from_tx, self.to_tx);
                find(FindingKind::SealBroken, detail);
            }
        } else {
            let (first, last) = (self.seq + 1, content.seq - 1);
            find(FindingKind::SealGap, format!("seals {first} to {last} before it are missing"));
        }
        let key = self.known.entry(content.key_id.clone()).or_insert_with(|| {
            self.keys.find_audit_signing_key(&content.key_id).and_then(Result::ok)
        });
        match key {
            Some(key) if key.verifies(&seal.hash, &seal.signature) => {}
            Some(_) => find(FindingKind::BadSignature, "it is not by its key".to_owned()),
            None => {
                let detail = format!("there is no master key named {}", content.key_id);
                find(FindingKind::BadSignature, detail);
            }
        }
        (self.seq, self.to_tx) = (content.seq, content.to_tx);
        self.sealed_at = Some(content.at);
        self.hash.clone_from(&seal.hash);
    }
}
