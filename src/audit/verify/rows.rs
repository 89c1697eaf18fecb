//! Judges rows one by one: the service must have written each as it is. Also checks that the
//! numbers of each writer are whole.

use std::collections::{BTreeMap, HashMap};

use crate::crypto::{KeyProvider, MacKey, sha256};
use crate::domain::audit_record::AuditRecord;
use crate::domain::audit_row::AuditRow;
use crate::domain::ids::{LedgerId, WriterId};
use crate::store::audit_parts::PurgedWriter;

use super::finding::{FindingKind, Verification};

/// Checks each row against its own hash and MAC.
pub(super) struct RowChecker<'a> {
    keys: &'a KeyProvider,
    macs: HashMap<String, Option<MacKey>>,
}

/// The verdict on a row.
pub(super) struct RowVerdict {
    /// The fault of the row. `None` means that the row is right.
    pub(super) wrong: Option<(FindingKind, &'static str)>,
    /// The hash that the row was most likely sealed with: the one its MAC was made of.
    pub(super) hash: Vec<u8>,
}

impl<'a> RowChecker<'a> {
    pub(super) fn new(keys: &'a KeyProvider) -> Self {
        Self { keys, macs: HashMap::new() }
    }

    pub(super) fn judge(&mut self, row: &AuditRow) -> RowVerdict {
        let computed = record_of(row)
            .map(|record| sha256(&record.canonical(row.ledger_id, row.place())).to_vec());
        let is_whole = computed.as_ref() == Some(&row.row_hash);
        let mac = self.mac(&row.mac_key_id);
        let written = |hash: &Vec<u8>| mac.is_some_and(|mac| mac.mac(hash)[..] == row.row_mac[..]);
        let wrong = match (is_whole, written(&row.row_hash)) {
            (true, true) => None,
            (true, false) => Some((FindingKind::RowForged, "its MAC is not the service's")),
            (false, true) => Some((FindingKind::RowAltered, "its fields do not give its hash")),
            (false, false) => Some((FindingKind::RowAltered, "its fields, hash and MAC differ")),
        };
        let hash = match computed {
            Some(computed) if !is_whole && written(&computed) => computed,
            _ => row.row_hash.clone(),
        };
        RowVerdict { wrong, hash }
    }

    fn mac(&mut self, id: &str) -> Option<&MacKey> {
        if !self.macs.contains_key(id) {
            self.macs.insert(id.to_owned(), self.keys.find_audit_mac_key(id));
        }
        self.macs.get(id)?.as_ref()
    }
}

/// Reads the columns of a row strictly as a record. Returns `None` if they are no record, or if
/// only one half of the writer's place is there.
fn record_of(row: &AuditRow) -> Option<AuditRecord> {
    let half = row.writer_id.is_some() != row.writer_seq.is_some();
    if half { None } else { row.record().ok() }
}

/// The numbers of each writer that were seen, as ranges, and how many of its records purges took.
#[derive(Default)]
pub(super) struct Sequences {
    seen: HashMap<(LedgerId, WriterId), BTreeMap<i64, i64>>,
    purged: HashMap<(LedgerId, WriterId), i64>,
}

impl Sequences {
    /// Notes the number of a row. Returns false if the number was seen before.
    pub(super) fn note(&mut self, row: &AuditRow) -> bool {
        let Some(place) = row.place() else {
            return true;
        };
        let ranges = self.seen.entry((row.ledger_id, place.writer)).or_default();
        let seq = place.seq;
        let before = ranges.range(..=seq).next_back().map(|(from, to)| (*from, *to));
        let from = match before {
            Some((_, to)) if to >= seq => return false,
            Some((from, to)) if to + 1 == seq => from,
            _ => seq,
        };
        let to = ranges.remove(&(seq + 1)).unwrap_or(seq);
        ranges.insert(from, to);
        true
    }

    /// Lets as many of a writer's numbers be missing as a purge took.
    pub(super) fn excuse(&mut self, purged: &PurgedWriter) {
        *self.purged.entry((purged.ledger, purged.writer)).or_default() += purged.rows;
    }

    pub(super) fn report(&self, verification: &mut Verification) {
        for ((ledger, writer), ranges) in &self.seen {
            let purged = self.purged.get(&(*ledger, *writer)).copied().unwrap_or(0);
            if missing(ranges) <= purged {
                continue;
            }
            let mut expected = 1;
            for (from, to) in ranges {
                if *from > expected {
                    let (first, last) = (expected, from - 1);
                    let detail = format!(
                        "records {first} to {last} are missing; a spool may still hold them, and \
                         purges took {purged} of the writer's"
                    );
                    verification.find(FindingKind::SeqGap, format!("writer {writer}"), detail);
                }
                expected = to + 1;
            }
        }
    }
}

/// Returns how many numbers are missing up to the greatest that was seen.
fn missing(ranges: &BTreeMap<i64, i64>) -> i64 {
    let there: i64 = ranges.iter().map(|(from, to)| to - from + 1).sum();
    ranges.last_key_value().map_or(0, |(_, last)| last - there)
}
