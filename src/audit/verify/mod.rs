//! Verifies the trail: computes the hash and MAC of every row anew, compares the rows with every
//! seal, and checks the chain of seals against the seals kept outside. Reports everything it finds,
//! in memory that does not grow with the trail.

mod chain;
mod finding;
mod offline;
mod outside;
mod purged;
mod rows;
mod tally;
mod unsealed;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, pin_mut};

use crate::crypto::KeyProvider;
use crate::domain::ids::{AuditId, LedgerId, TenantId};
use crate::domain::seal::{Seal, SealPart};
use crate::store::ledgers::{self, Ledger, LedgerOrigin};
use crate::store::seals::TxRange;
use crate::store::trail::TrailRow;
use crate::store::{Store, StoreError, SystemTx, seals, trail};

use super::{checkpoint::CheckpointFile, line_file::LineFileError};

pub use finding::{Finding, FindingKind, Verification};
pub use offline::verify_lines;

use chain::Chain;
use rows::{RowChecker, Sequences};
use tally::Tally;
use unsealed::LedgerLife;

/// The number of seals that are read at a time, and of rows whose seals are checked together.
const PAGE: i64 = 500;
const WINDOW_ROWS: i64 = 50_000;

/// The reason why a verification did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint file failed.
    #[error(transparent)]
    Checkpoint(#[from] LineFileError),
}

/// The trail to verify, and the keys and seals that it is compared with.
pub struct Verifier<'a> {
    /// Postgres.
    pub store: &'a Store,
    /// The keys of MACs and signatures.
    pub keys: &'a KeyProvider,
    /// The checkpoint file, if one is set.
    pub checkpoint: Option<&'a CheckpointFile>,
    /// If set, findings about rows are told of this tenant only. Findings about seals are always
    /// told.
    pub tenant: Option<TenantId>,
    /// The present time.
    pub now: DateTime<Utc>,
}

/// The state of a running verification.
struct VerifyRun<'a> {
    verifier: &'a Verifier<'a>,
    judge: RowChecker<'a>,
    sequences: Sequences,
    partitions: HashMap<u32, String>,
    /// The partitions that are gone, and whether each is gone in order.
    gone: BTreeMap<String, bool>,
    /// The transaction that began the oldest ledger of this server, if there is one.
    first_here: Option<i64>,
    verification: Verification,
}

impl Verifier<'_> {
    /// Verifies every ledger of the database.
    pub async fn run(&self) -> Result<Verification, VerifyError> {
        let store = self.store.long();
        let listed = store.system("begin to verify the audit trail", async |mut tx| {
            let ledgers = ledgers::list(&mut tx).await?;
            Ok::<_, StoreError>((ledgers, trail::list_partitions(&mut tx).await?))
        });
        let (ledgers, partitions) = listed.await?;
        let mut run = VerifyRun {
            verifier: self,
            judge: RowChecker::new(self.keys),
            sequences: Sequences::default(),
            partitions: partitions.into_iter().collect(),
            gone: BTreeMap::new(),
            first_here: ledgers.iter().filter(|l| is_here(l)).map(|l| l.begun_tx).min(),
            verification: Verification::default(),
        };
        for (index, ledger) in ledgers.iter().enumerate() {
            let life =
                if index + 1 == ledgers.len() { LedgerLife::Open } else { LedgerLife::Ended };
            run.ledger(ledger, life).await?;
        }
        let known: Vec<LedgerId> = ledgers.iter().map(|ledger| ledger.id).collect();
        run.strays(&known).await?;
        run.excuse_purged().await?;
        run.sequences.report(&mut run.verification);
        if let Some(file) = self.checkpoint {
            outside::compare(self.store, file, &mut run.verification).await?;
        }
        Ok(run.verification)
    }
}

impl VerifyRun<'_> {
    async fn ledger(&mut self, ledger: &Ledger, life: LedgerLife) -> Result<(), VerifyError> {
        let mut chain = Chain::new(ledger, self.verifier.keys);
        let mut read_to = ledger.begun_tx;
        loop {
            let page = self.page(ledger.id, chain.seq()).await?;
            let last_page = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
            for seal in &page {
                chain.check(seal, &mut self.verification);
            }
            let mut rest = page.as_slice();
            while !rest.is_empty() {
                let (window, after) = rest.split_at(window_length(rest));
                self.window(ledger, window, &mut read_to).await?;
                rest = after;
            }
            if last_page {
                break;
            }
        }
        self.unsealed(ledger, &chain, read_to, life).await
    }

    async fn page(&self, ledger: LedgerId, after: i64) -> Result<Vec<Seal>, StoreError> {
        let store = self.verifier.store.long();
        let list = async |mut tx| seals::list(&mut tx, ledger, after, PAGE).await;
        store.system("read seals to verify them", list).await
    }

    /// Checks the rows of consecutive seals, from where the window before ended.
    async fn window(
        &mut self,
        ledger: &Ledger,
        window: &[Seal],
        read_to: &mut i64,
    ) -> Result<(), VerifyError> {
        let to_tx = window.iter().map(|seal| seal.content.to_tx).max().unwrap_or(*read_to);
        let range = TxRange { from: *read_to, to: to_tx.max(*read_to) };
        *read_to = range.to;
        self.verification.seals += window.len() as u64;
        if window.iter().all(|seal| seal.content.parts.is_empty()) && range.is_empty() {
            return Ok(());
        }
        let mut tx = self.verifier.store.begin_reading("read rows to verify them").await?;
        trail::read_long(&mut tx).await?;
        let mut tallies: Vec<BTreeMap<String, Tally>> = Vec::new();
        tallies.resize_with(window.len(), BTreeMap::new);
        {
            let rows = trail::stream(&mut tx, ledger.id, range)?;
            pin_mut!(rows);
            let mut at = 0;
            while let Some(found) = rows.next().await {
                let found = found?;
                let tx_id = found.row.tx_id;
                while at + 1 < window.len() && tx_id >= window[at].content.to_tx {
                    at += 1;
                }
                let judged = self.row(&found);
                if tx_id < window[at].content.from_tx {
                    continue;
                }
                if judged.is_right && self.came_late(ledger, &found) {
                    self.verification.unsealed += 1;
                    continue;
                }
                let tally = tallies[at].entry(self.part(found.part)).or_default();
                tally.add(tx_id, &judged.hash);
                if judged.is_right && is_here(ledger) && found.rewritten && judged.is_told {
                    tally.note_rewritten(found.row.id);
                }
            }
        }
        for (seal, tally) in window.iter().zip(tallies) {
            self.seal(&mut tx, seal, tally).await?;
        }
        tx.end().await?;
        Ok(())
    }

    /// Judges a row by itself, and the number that its writer gave it.
    fn row(&mut self, found: &TrailRow) -> Judged {
        let row = &found.row;
        let verdict = self.judge.judge(row);
        let is_right = verdict.wrong.is_none();
        let is_told = self.verifier.tenant.is_none_or(|tenant| tenant == row.tenant_id);
        let is_new = self.sequences.note(row);
        if is_told {
            self.verification.rows += 1;
            if let Some((kind, why)) = verdict.wrong {
                self.verification.find(kind, format!("row {}", row.id), why.to_owned());
            }
            if !is_new {
                let detail = "its writer's number was there before".to_owned();
                self.verification.find(FindingKind::RowExtra, format!("row {}", row.id), detail);
            }
        }
        Judged { is_right, is_told, hash: verdict.hash }
    }

    /// Returns whether a row of another server's ledger came from a spool after the database was
    /// restored here. Its transaction is then this server's, and the numbers of the two servers
    /// have nothing in common.
    fn came_late(&self, ledger: &Ledger, found: &TrailRow) -> bool {
        !is_here(ledger)
            && !found.rewritten
            && self.first_here.is_some_and(|first| found.row.tx_id >= first)
    }

    fn part(&self, part: u32) -> String {
        self.partitions.get(&part).cloned().unwrap_or_default()
    }

    /// Compares the content of a seal for each partition with the rows that are there.
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
            let mut tally = there.remove(name).unwrap_or_default();
            if tally.count == 0 && self.is_gone(tx, name).await? {
                self.gone(tx, name).await?;
                continue;
            }
            let rewritten = std::mem::take(&mut tally.rewritten);
            let found = &mut self.verification;
            let there = tally.count;
            if there < *count {
                let detail = format!("{count} rows were sealed, {there} are there");
                found.find(FindingKind::RowMissing, place(name), detail);
            } else if there > *count {
                let detail = format!("{count} rows were sealed, {there} are there");
                found.find(FindingKind::RowExtra, place(name), detail);
            } else if tally.hash() != *hash {
                let detail = format!("other {count} rows or transactions than were sealed");
                found.find(FindingKind::RowAltered, place(name), detail);
            } else {
                continue;
            }
            self.rewritten(&rewritten);
        }
        for (name, tally) in there {
            let detail = format!("no row was sealed, {} are there", tally.count);
            self.verification.find(FindingKind::RowExtra, place(&name), detail);
            self.rewritten(&tally.rewritten);
        }
        Ok(())
    }

    /// Reports rewritten rows where seals or the horizon show that something is wrong.
    fn rewritten(&mut self, rows: &[AuditId]) {
        for row in rows {
            let detail = "it does not name the transaction that put it there".to_owned();
            self.verification.find(FindingKind::RowAltered, format!("row {row}"), detail);
        }
    }
}

/// The verdict on a row by itself.
struct Judged {
    is_right: bool,
    /// Whether the caller wants to be told of the row.
    is_told: bool,
    /// The hash that the row was most likely sealed with.
    hash: Vec<u8>,
}

/// Returns whether a ledger was begun on this server. Only then does the server know which
/// transaction put its rows there, because restoring a dump writes all of them anew.
fn is_here(ledger: &Ledger) -> bool {
    ledger.home != LedgerOrigin::OtherServer
}

/// Returns how many of the first `seals` are checked together.
fn window_length(seals: &[Seal]) -> usize {
    let mut rows = 0;
    let fits = seals.iter().take_while(|seal| {
        let first = rows == 0;
        rows = seal.content.rows().saturating_add(rows);
        first || rows <= WINDOW_ROWS
    });
    fits.count().max(1)
}
