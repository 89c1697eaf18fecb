//! Compares the seals kept outside with those in the database.

use std::collections::BTreeMap;

use crate::domain::ids::LedgerId;
use crate::store::{Store, seals};

use super::super::checkpoint::{Checkpoint, CheckpointFile};
use super::VerifyError;
use super::finding::{FindingKind, Verification};

/// The number of lines that are compared at a time.
const PAGE: usize = 500;

/// The seals of each ledger that are not in the database: the first, the last and how many.
type Lost = BTreeMap<LedgerId, (i64, i64, u64)>;

/// Compares every line of `file` with the seals in the database.
pub(super) async fn compare(
    store: &Store,
    file: &CheckpointFile,
    verification: &mut Verification,
) -> Result<(), VerifyError> {
    if !file.exists()? {
        let detail = "there is no checkpoint file".to_owned();
        verification.find(FindingKind::CheckpointMismatch, "checkpoints", detail);
        return Ok(());
    }
    let mut lost = Lost::new();
    let mut page = Vec::with_capacity(PAGE);
    for (index, line) in file.lines()?.enumerate() {
        let Some(checkpoint) = line else {
            let place = format!("checkpoint line {}", index + 1);
            let detail = "it is no checkpoint".to_owned();
            verification.find(FindingKind::CheckpointMismatch, place, detail);
            continue;
        };
        page.push(checkpoint);
        if page.len() == PAGE {
            compare_page(store, &page, &mut lost, verification).await?;
            page.clear();
        }
    }
    compare_page(store, &page, &mut lost, verification).await?;
    for (ledger, (first, last, count)) in lost {
        let place = format!("seals {first} to {last} of ledger {ledger}");
        let detail = format!("{count} seals that were kept outside are not here");
        verification.find(FindingKind::CheckpointMismatch, place, detail);
    }
    Ok(())
}

async fn compare_page(
    store: &Store,
    page: &[Checkpoint],
    lost: &mut Lost,
    verification: &mut Verification,
) -> Result<(), VerifyError> {
    let seals: Vec<_> = page.iter().map(|outside| (outside.ledger_id, outside.seq)).collect();
    let store = store.long();
    let listed = store.system("compare seals with checkpoints", async |mut tx| {
        seals::list_hashes(&mut tx, &seals).await
    });
    let here = listed.await?;
    for outside in page {
        verification.checkpoints += 1;
        let (ledger, seq) = (outside.ledger_id, outside.seq);
        match here.get(&(ledger, seq)) {
            Some(hash) if hex::encode(hash) == outside.seal_hash => {}
            Some(_) => {
                let place = format!("seal {seq} of ledger {ledger}");
                let detail = "another seal was kept outside".to_owned();
                verification.find(FindingKind::CheckpointMismatch, place, detail);
            }
            None => {
                let (first, last, count) = lost.get(&ledger).copied().unwrap_or((seq, seq, 0));
                lost.insert(ledger, (first.min(seq), last.max(seq), count + 1));
            }
        }
    }
    Ok(())
}
