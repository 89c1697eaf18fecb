//! Proves the trail: recomputes every row's hash and MAC, every seal over the rows that are there,
//! the chain of seals, and compares it with the seals kept outside. Reports everything it finds, in
//! memory that does not grow with the trail.

mod chain;
mod finding;
mod offline;
mod rows;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, pin_mut};
use sha2::{Digest, Sha256};

use crate::crypto::KeyProvider;
use crate::domain::audit_row::AuditRow;
use crate::domain::ids::{AuditId, LedgerId, TenantId};
use crate::domain::seal::{Seal, SealPart};
use crate::store::trail::TrailRow;
use crate::store::{Store, StoreError, SystemTx, seals, trail};

use super::checkpoint::{CheckpointError, CheckpointFile};
use super::sealer::MOST_LAG;

pub use finding::{Finding, FindingKind, Verification};
pub use offline::verify_lines;

use chain::Chain;
use rows::{Judge, Sequences};

/// Seals read at a time, and rows covered by those that are checked together.
const PAGE: i64 = 500;
const WINDOW_ROWS: i64 = 50_000;

/// Longest time until the next seal, where one is made.
const NEXT_SEAL: Duration = Duration::from_secs(3);

/// Why a verification did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint file failed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// What is verified, and against what.
pub struct Verifier<'a> {
    /// Postgres.
    pub store: &'a Store,
    /// The keys of MACs and signatures.
    pub keys: &'a KeyProvider,
    /// Seals kept outside.
    pub checkpoint: Option<&'a CheckpointFile>,
    /// Findings about rows are told of this tenant's only; of seals always.
    pub tenant: Option<TenantId>,
    /// The present time.
    pub now: DateTime<Utc>,
}

/// What is known while it runs.
struct Run<'a> {
    verifier: &'a Verifier<'a>,
    judge: Judge<'a>,
    sequences: Sequences,
    ledgers: HashSet<LedgerId>,
    partitions: HashMap<u32, String>,
    /// Partitions that are gone, and whether that is in order.
    gone: BTreeMap<String, bool>,
    verification: Verification,
}

impl Verifier<'_> {
    /// Verifies every ledger of the database.
    pub async fn run(&self) -> Result<Verification, VerifyError> {
        let mut tx = self.store.system("verify the audit trail").await?;
        let ledgers = seals::list_ledgers(&mut tx).await?;
        let partitions = trail::list_partitions(&mut tx).await?;
        tx.end().await?;
        let mut run = Run {
            verifier: self,
            judge: Judge::new(self.keys),
            sequences: Sequences::default(),
            ledgers: ledgers.iter().copied().collect(),
            partitions: partitions.into_iter().collect(),
            gone: BTreeMap::new(),
            verification: Verification::default(),
        };
        for (index, ledger) in ledgers.iter().enumerate() {
            let newest = index + 1 == ledgers.len();
            run.ledger(*ledger, newest).await?;
        }
        run.sequences.report(&mut run.verification);
        if let Some(file) = self.checkpoint {
            run.compare_outside(file).await?;
        }
        let mut verification = run.verification;
        verification.ok = verification.findings.is_empty();
        Ok(verification)
    }
}

impl Run<'_> {
    async fn ledger(&mut self, ledger: LedgerId, newest: bool) -> Result<(), VerifyError> {
        let mut chain = Chain::new(ledger, self.verifier.keys);
        loop {
            let page = self.page(ledger, chain.seq()).await?;
            let last_page = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
            for seal in &page {
                chain.check(seal, &mut self.verification);
            }
            let mut rest = page.as_slice();
            while !rest.is_empty() {
                let (window, after) = rest.split_at(window_length(rest));
                self.window(ledger, window).await?;
                rest = after;
            }
            if last_page {
                break;
            }
        }
        self.unsealed(ledger, &chain, newest).await
    }

    async fn page(&self, ledger: LedgerId, after: i64) -> Result<Vec<Seal>, StoreError> {
        let mut tx = self.verifier.store.system("read seals to verify them").await?;
        let page = seals::list(&mut tx, ledger, after, PAGE).await?;
        tx.end().await?;
        Ok(page)
    }

    /// Checks the rows of some seals that follow one another.
    async fn window(&mut self, ledger: LedgerId, window: &[Seal]) -> Result<(), VerifyError> {
        let (Some(first), Some(last)) = (window.first(), window.last()) else {
            return Ok(());
        };
        let range = (first.content.from_tx, last.content.to_tx);
        self.verification.seals += window.len() as u64;
        if window.iter().all(|seal| seal.content.parts.is_empty()) && range.0 == range.1 {
            return Ok(());
        }
        let mut tx = self.verifier.store.system("read rows to verify them").await?;
        trail::read_long(&mut tx).await?;
        let mut tallies: Vec<BTreeMap<String, Tally>> = Vec::new();
        tallies.resize_with(window.len(), BTreeMap::new);
        {
            let rows = trail::stream(&mut tx, range)?;
            pin_mut!(rows);
            let mut at = 0;
            while let Some(row) = rows.next().await {
                let TrailRow { part, row } = row?;
                while at + 1 < window.len() && row.tx_id >= window[at].content.to_tx {
                    at += 1;
                }
                if let Some((part, hash)) = self.row(ledger, part, &row)
                    && row.tx_id >= window[at].content.from_tx
                {
                    tallies[at].entry(part).or_default().add(row.tx_id, &hash);
                }
            }
        }
        for (seal, tally) in window.iter().zip(tallies) {
            self.seal(&mut tx, seal, tally).await?;
        }
        tx.end().await?;
        Ok(())
    }

    /// Judges a row; gives its partition and hash when it is this ledger's.
    fn row(&mut self, ledger: LedgerId, part: u32, row: &AuditRow) -> Option<(String, Vec<u8>)> {
        if row.ledger_id != ledger && self.ledgers.contains(&row.ledger_id) {
            return None;
        }
        let verdict = self.judge.judge(row);
        let tenant = self.verifier.tenant;
        if tenant.is_none_or(|tenant| tenant == row.tenant_id) {
            self.verification.rows += 1;
            if let Some((kind, why)) = verdict.wrong {
                self.verification.find(kind, format!("row {}", row.id), why.to_owned());
            }
        }
        if !self.sequences.note(row) {
            let detail = "its writer's number was there before".to_owned();
            self.verification.find(FindingKind::RowExtra, format!("row {}", row.id), detail);
        }
        let part = self.partitions.get(&part).cloned().unwrap_or_default();
        Some((part, verdict.hash))
    }

    /// Compares what a seal says of each partition with what is there.
    async fn seal(
        &mut self,
        tx: &mut SystemTx,
        seal: &Seal,
        mut there: BTreeMap<String, Tally>,
    ) -> Result<(), VerifyError> {
        let place = |part: &str| {
            format!("seal {} of ledger {}, {part}", seal.content.seq, seal.content.ledger)
        };
        for SealPart { name, count, hash } in &seal.content.parts {
            let tally = there.remove(name).unwrap_or_default();
            if tally.count == 0 && !self.partitions.values().any(|known| known == name) {
                self.gone(tx, name).await?;
                continue;
            }
            let found = &mut self.verification;
            if tally.count < *count {
                let detail = format!("{count} rows were sealed, {} are there", tally.count);
                found.find(FindingKind::RowMissing, place(name), detail);
            } else if tally.count > *count {
                let detail = format!("{count} rows were sealed, {} are there", tally.count);
                found.find(FindingKind::RowExtra, place(name), detail);
            } else if tally.hash() != *hash {
                let detail = format!("other {count} rows or transactions than were sealed");
                found.find(FindingKind::RowAltered, place(name), detail);
            }
        }
        for (name, tally) in there {
            let detail = format!("no row was sealed, {} are there", tally.count);
            self.verification.find(FindingKind::RowExtra, place(&name), detail);
        }
        Ok(())
    }

    /// A partition is gone: was that in order? Told once.
    async fn gone(&mut self, tx: &mut SystemTx, part: &str) -> Result<(), StoreError> {
        if !self.gone.contains_key(part) {
            let purged = trail::is_purged(tx, part, self.verifier.now).await?;
            self.gone.insert(part.to_owned(), purged);
            if !purged {
                let detail = "it is gone, and no purge that was due says why".to_owned();
                self.verification.find(FindingKind::PurgeUnjustified, part, detail);
            }
        }
        Ok(())
    }

    /// Checks the rows that no seal covers: those since the last seal, and any whose transaction
    /// cannot be.
    async fn unsealed(
        &mut self,
        ledger: LedgerId,
        chain: &Chain<'_>,
        newest: bool,
    ) -> Result<(), VerifyError> {
        let mut tx = self.verifier.store.system("read unsealed rows to verify them").await?;
        trail::read_long(&mut tx).await?;
        let next = seals::horizon(&mut tx).await?.next;
        let mut unsealed = Unsealed { next, ..Unsealed::default() };
        for range in [(i64::MIN, 0), (chain.to_tx(), i64::MAX)] {
            let rows = trail::stream(&mut tx, range)?;
            pin_mut!(rows);
            while let Some(row) = rows.next().await {
                let TrailRow { part, row } = row?;
                if self.row(ledger, part, &row).is_some() {
                    unsealed.note(&row);
                }
            }
        }
        // What was begun meanwhile is no invention.
        let next = seals::horizon(&mut tx).await?.next;
        tx.end().await?;
        for (id, _) in unsealed.doubtful.iter().filter(|(_, tx_id)| *tx_id < 0 || *tx_id >= next) {
            let detail = "no such transaction was ever begun".to_owned();
            self.verification.find(FindingKind::RowAltered, format!("row {id}"), detail);
        }
        self.verification.unsealed += unsealed.count;
        // What was written last before a ledger ended stays unsealed.
        if newest {
            self.lagging(ledger, chain, &unsealed).await?;
        }
        Ok(())
    }

    /// Seals lag when they were made without what had happened a minute before. What came from a
    /// spool just now is old and not late: the next seal tells.
    async fn lagging(
        &mut self,
        ledger: LedgerId,
        chain: &Chain<'_>,
        unsealed: &Unsealed,
    ) -> Result<(), VerifyError> {
        let Some((at, tx_id)) = unsealed.oldest else {
            return Ok(());
        };
        let lag = chain.sealed_at().unwrap_or(self.verifier.now) - at;
        if lag <= MOST_LAG {
            return Ok(());
        }
        tokio::time::sleep(NEXT_SEAL).await;
        let mut tx = self.verifier.store.system("look for the next seal").await?;
        let last = seals::newest(&mut tx, ledger).await?;
        tx.end().await?;
        if last.is_none_or(|seal| seal.content.to_tx <= tx_id) {
            let (count, seconds) = (unsealed.count, lag.num_seconds());
            let detail = format!("{count} rows are not sealed, one of them since {seconds} s");
            self.verification.find(FindingKind::SealLagging, format!("ledger {ledger}"), detail);
        }
        Ok(())
    }

    /// Compares the seals kept outside with those here.
    async fn compare_outside(&mut self, file: &CheckpointFile) -> Result<(), VerifyError> {
        let mut lost: BTreeMap<LedgerId, (i64, i64, u64)> = BTreeMap::new();
        let mut tx = self.verifier.store.system("compare seals with checkpoints").await?;
        trail::read_long(&mut tx).await?;
        if !file.exists()? {
            let detail = "there is no checkpoint file".to_owned();
            self.verification.find(FindingKind::CheckpointMismatch, "checkpoints", detail);
            return Ok(tx.end().await?);
        }
        for (index, line) in file.lines()?.enumerate() {
            let Some(outside) = line else {
                let detail = "it is no checkpoint".to_owned();
                let place = format!("checkpoint line {}", index + 1);
                self.verification.find(FindingKind::CheckpointMismatch, place, detail);
                continue;
            };
            self.verification.checkpoints += 1;
            let (ledger, seq) = (outside.ledger_id, outside.seq);
            let here = seals::list(&mut tx, ledger, seq - 1, 1).await?.pop();
            match here.filter(|seal| seal.content.seq == seq) {
                Some(seal) if hex::encode(&seal.hash) == outside.seal_hash => {}
                Some(_) => {
                    let place = format!("seal {seq} of ledger {ledger}");
                    let detail = "another seal was kept outside".to_owned();
                    self.verification.find(FindingKind::CheckpointMismatch, place, detail);
                }
                None => {
                    let (first, last, count) = lost.get(&ledger).copied().unwrap_or((seq, seq, 0));
                    lost.insert(ledger, (first.min(seq), last.max(seq), count + 1));
                }
            }
        }
        tx.end().await?;
        for (ledger, (first, last, count)) in lost {
            let place = format!("seals {first} to {last} of ledger {ledger}");
            let detail = format!("{count} seals that were kept outside are not here");
            self.verification.find(FindingKind::CheckpointMismatch, place, detail);
        }
        Ok(())
    }
}

/// Rows that no seal covers.
#[derive(Default)]
struct Unsealed {
    count: u64,
    /// The time and transaction of the one that is to have happened first.
    oldest: Option<(DateTime<Utc>, i64)>,
    /// The next transaction when reading began.
    next: i64,
    /// Those whose transaction had not begun then.
    doubtful: Vec<(AuditId, i64)>,
}

impl Unsealed {
    fn note(&mut self, row: &AuditRow) {
        self.count += 1;
        if row.tx_id < 0 || row.tx_id >= self.next {
            self.doubtful.push((row.id, row.tx_id));
        } else if self.oldest.is_none_or(|(at, _)| row.occurred_at < at) {
            self.oldest = Some((row.occurred_at, row.tx_id));
        }
    }
}

/// How many seals are checked together.
fn window_length(seals: &[Seal]) -> usize {
    let mut rows = 0;
    let fits = seals.iter().take_while(|seal| {
        let first = rows == 0;
        rows += seal.content.rows();
        first || rows <= WINDOW_ROWS
    });
    fits.count().max(1)
}

/// The rows of a partition within a seal.
#[derive(Default)]
struct Tally {
    count: i64,
    hash: Sha256,
}

impl Tally {
    fn add(&mut self, tx_id: i64, row_hash: &[u8]) {
        self.count += 1;
        self.hash.update(tx_id.to_be_bytes());
        self.hash.update(row_hash);
    }

    fn hash(self) -> Vec<u8> {
        self.hash.finalize().to_vec()
    }
}
