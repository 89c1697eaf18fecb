//! Seals the trail every second: hashes, signs and chains the records that are settled since the
//! last seal. One replica at a time does it, and it does not matter which one.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::crypto::{SigningKey, sha256};
use crate::domain::clock::Clock;
use crate::domain::seal::{NO_SEAL, Seal, SealContent};
use crate::lifecycle::Lifecycle;
use crate::store::seals::{self, Horizon};
use crate::store::seals::{Summary, TxRange};
use crate::store::{Store, StoreError, SystemTx, ledgers};
use crate::telemetry::Metrics;

use super::Audit;
use super::checkpoint::CheckpointFile;
use super::ledger::PresentLedger;
use super::line_file::LineFileError;

const PERIOD: Duration = Duration::from_secs(1);

/// The longest time that a stop waits for the seal that is being made, and then for the last one.
/// The next process seals the rest.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// How often an idle trail is sealed all the same. The transaction of a seal is covered only by the
/// next seal, and a replica that waits for that must not think that seals lag.
const EMPTY_EVERY: TimeDelta = TimeDelta::seconds(30);

/// The lag above which seals count as late.
pub(super) const MOST_LAG: TimeDelta = TimeDelta::seconds(60);

/// The most rows in a seal, where it can be cut there: the amount that is hashed at once is
/// bounded.
const MOST_ROWS: i64 = 200_000;

/// The most transactions that are sealed without a look at how many rows they wrote.
const FEW_TRANSACTIONS: i64 = 2_000;

/// The number of seals that are added late to the checkpoint file at a time.
const OUTSIDE_PAGE: i64 = 500;

/// How the sealer signs, and where it keeps seals outside the database.
pub struct Sealing {
    /// The key that signs.
    pub key: SigningKey,
    /// The id of the master key that `key` is derived from.
    pub key_id: String,
    /// The checkpoint file, if one is set.
    pub checkpoint: Option<CheckpointFile>,
}

/// The task that seals until the service stops.
pub(super) struct Sealer {
    pub(super) sealing: Sealing,
    pub(super) store: Store,
    /// The ledger that is sealed.
    pub(super) ledger: PresentLedger,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) audit: Audit,
    pub(super) lifecycle: Lifecycle,
    pub(super) progress: SealProgress,
}

/// The state that the sealer keeps from one look to the next.
pub(super) struct SealProgress {
    /// A transaction, and a time at which it had not begun. Until a seal covers the transaction,
    /// the lag is the age of that time.
    mark: Option<(i64, DateTime<Utc>)>,
    lags: bool,
    /// The most transactions in the next seal. It is lower after a seal that could not be made.
    reach: i64,
    /// Whether the checkpoint file holds every seal up to the last.
    outside: CheckpointState,
    /// Whether the index of transactions is known to have no gaps.
    summarized: bool,
}

/// The reason why a seal is not in the checkpoint file.
#[derive(Debug, thiserror::Error)]
enum CheckpointWriteError {
    #[error(transparent)]
    File(#[from] LineFileError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the writing did not end")]
    Stopped,
}

/// The state of the checkpoint file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CheckpointState {
    /// It is not known whether the file holds the last seal: another process may have written last.
    Unknown,
    /// The file holds the last seal.
    Kept,
    /// The last seal could not be written to the file.
    Fails,
}

impl Default for SealProgress {
    fn default() -> Self {
        Self {
            mark: None,
            lags: false,
            reach: i64::MAX,
            outside: CheckpointState::Unknown,
            summarized: false,
        }
    }
}

impl SealProgress {
    /// Notes that a seal may have been committed that was not written to the checkpoint file.
    fn doubt_outside(&mut self) {
        if self.outside == CheckpointState::Kept {
            self.outside = CheckpointState::Unknown;
        }
    }
}

/// The result of a look at the trail.
struct SealRound {
    /// Whether it was this replica's turn to seal.
    mine: bool,
    /// The seal that was made, if any.
    seal: Option<Seal>,
    /// The first transaction that is not covered. Each one below is sealed or, where this replica
    /// seals, wrote nothing.
    covered: i64,
    /// The first transaction that is not settled.
    settled: i64,
    /// The next transaction to begin.
    next: i64,
}

impl Sealer {
    /// Starts the sealer.
    pub(super) fn spawn(self) {
        let lifecycle = self.lifecycle.clone();
        lifecycle.spawn(Box::pin(self.run()));
    }

    /// Runs until `lifecycle` stops and the last records are written. Seals these records too.
    async fn run(mut self) {
        let lifecycle = self.lifecycle.clone();
        while !lifecycle.is_stopping() {
            // A stop waits for a seal that is being made. If that seal were cut off, Postgres would
            // go on with it and keep the last look from the trail.
            let stopped = async {
                lifecycle.stopping().await;
                tokio::time::sleep(LAST_LOOK).await;
            };
            let ended = tokio::select! {
                () = stopped => false,
                () = self.look() => true,
            };
            if !ended {
                self.progress.doubt_outside();
            }
            tokio::select! {
                () = lifecycle.stopping() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
        self.audit.ended().await;
        let _in_vain = tokio::time::timeout(LAST_LOOK, self.look()).await;
    }

    /// Seals the settled records, and judges the lag.
    async fn look(&mut self) {
        let (mut settled, mut mine) = (0, true);
        loop {
            let now = self.clock.now();
            match self.seal(now).await {
                Ok(looked) => {
                    (settled, mine) = (looked.settled, looked.mine);
                    if let Some(seal) = looked.seal {
                        self.keep_outside(seal).await;
                    }
                    let progress = &mut self.progress;
                    if progress.mark.is_none_or(|(mark, _)| looked.covered >= mark) {
                        progress.mark = Some((looked.next, now));
                    }
                    if !mine {
                        break;
                    }
                    progress.reach = progress.reach.saturating_mul(2);
                    if looked.covered >= looked.settled {
                        break;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the audit trail could not be sealed");
                    self.progress.reach = (self.progress.reach / 2).clamp(1, FEW_TRANSACTIONS);
                    self.progress.doubt_outside();
                    break;
                }
            }
        }
        if mine {
            // This runs after a failure too, so that no later try reads the same rows again.
            self.summarize().await;
        }
        self.note_lag(self.clock.now(), settled).await;
        if !self.audit.is_accepted() {
            self.look_for_acceptance().await;
        }
    }

    /// Makes at most one seal. While another replica seals, reads how far the trail is sealed.
    async fn seal(&self, now: DateTime<Utc>) -> Result<SealRound, StoreError> {
        let store = &self.store;
        store
            .long()
            .system("seal the audit trail", async |mut tx| {
                let mine = seals::try_lock(&mut tx).await?;
                let last = seals::newest(&mut tx, self.ledger.id).await?;
                let covered = last.as_ref().map_or(self.ledger.begun_tx, |seal| seal.content.to_tx);
                let Horizon { settled, next } = seals::horizon(&mut tx).await?;
                if covered > next {
                    // The last seal is another server's, or forged. The lag alarm is to tell.
                    return Err(StoreError::UnknownValue("transaction of the last seal"));
                }
                let mut looked = SealRound { mine, seal: None, covered, settled, next };
                if mine {
                    self.append_seal(&mut tx, &mut looked, last, now).await?;
                }
                Ok(looked)
            })
            .await
    }

    /// Summarizes the index of transactions, so that only a short part of it is new. This is no
    /// part of the seal's transaction, because a vacuum of a partition may be in the way.
    async fn summarize(&mut self) {
        // Gaps are left by another process, or by a call that was cut off.
        let summary = if self.progress.summarized { Summary::Added } else { Summary::EveryGap };
        let store = self.store.long();
        let summarized = store.system("summarize the index of transactions", async |mut tx| {
            seals::summarize(&mut tx, summary).await
        });
        let summarized = summarized.await;
        self.progress.summarized = summarized.is_ok();
        if let Err(error) = summarized {
            tracing::debug!(%error, "the index of transactions was not summarized");
        }
    }

    /// Seals the records that are settled and not covered yet, as far as one seal may reach.
    async fn append_seal(
        &self,
        tx: &mut SystemTx,
        looked: &mut SealRound,
        last: Option<Seal>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let (ledger, from_tx) = (self.ledger.id, looked.covered);
        let upto = |to| TxRange { from: from_tx, to };
        let mut to_tx = looked.settled.max(from_tx);
        to_tx = to_tx.min(from_tx.saturating_add(self.progress.reach));
        if to_tx - from_tx > FEW_TRANSACTIONS
            && let Some(tx_id) = seals::tx_after(tx, ledger, upto(to_tx), MOST_ROWS).await?
        {
            to_tx = tx_id.max(from_tx + 1);
        }
        let parts = if from_tx < to_tx {
            seals::list_parts(tx, ledger, upto(to_tx)).await?
        } else {
            Vec::new()
        };
        looked.covered = to_tx;
        let due = last.as_ref().is_none_or(|seal| now - seal.content.at >= EMPTY_EVERY);
        if parts.is_empty() && to_tx >= looked.settled && !due {
            return Ok(());
        }
        let (seq, previous) =
            last.map_or((1, NO_SEAL.to_vec()), |seal| (seal.content.seq + 1, seal.hash));
        let (at, key_id) = (to_micros(now), self.sealing.key_id.clone());
        let content = SealContent { ledger, seq, from_tx, to_tx, parts, previous, at, key_id };
        let hash = sha256(&content.canonical()).to_vec();
        let seal = Seal { signature: self.sealing.key.sign(&hash), hash, content };
        seals::insert(tx, &seal).await?;
        looked.seal = Some(seal);
        Ok(())
    }

    /// Writes a seal to the checkpoint file. Does not make a file anew that is gone: the next start
    /// must see that it is gone. Adds the seals that the file lacks after a failure, or after a
    /// stop right after a commit.
    async fn keep_outside(&mut self, seal: Seal) {
        let Some(file) = self.sealing.checkpoint.clone() else {
            return;
        };
        let (seq, before) = (seal.content.seq, self.progress.outside);
        let written = if before == CheckpointState::Kept {
            self.append_outside(file, vec![seal]).await
        } else {
            self.catch_up_outside(file, seq).await
        };
        self.progress.outside = match (&written, before) {
            (Err(error), CheckpointState::Fails) => {
                tracing::debug!(%error, seq, "seals are still not kept outside");
                CheckpointState::Fails
            }
            (Err(error), _) => {
                tracing::error!(%error, seq, "seals are not kept outside");
                CheckpointState::Fails
            }
            (Ok(()), CheckpointState::Fails) => {
                tracing::warn!(seq, "seals are kept outside again");
                CheckpointState::Kept
            }
            (Ok(()), _) => CheckpointState::Kept,
        };
    }

    /// Appends the seals after the last one in the file, up to `seq`.
    async fn catch_up_outside(
        &self,
        file: CheckpointFile,
        seq: i64,
    ) -> Result<(), CheckpointWriteError> {
        let (reader, ledger) = (file.clone(), self.ledger.id);
        let last = self.lifecycle.spawn_blocking(move || reader.last()).await;
        let last = last.map_err(|_| CheckpointWriteError::Stopped)??;
        let mut after = last.filter(|last| last.ledger_id == ledger).map_or(0, |last| last.seq);
        while after < seq {
            let page = self.store.system("read seals to keep them outside", async |mut tx| {
                let page = seals::list(&mut tx, ledger, after, OUTSIDE_PAGE).await?;
                Ok::<_, StoreError>(page)
            });
            let page = page.await?;
            let Some(last) = page.last() else { break };
            after = last.content.seq;
            self.append_outside(file.clone(), page).await?;
        }
        Ok(())
    }

    async fn append_outside(
        &self,
        file: CheckpointFile,
        seals: Vec<Seal>,
    ) -> Result<(), CheckpointWriteError> {
        let written = self.lifecycle.spawn_blocking(move || file.append(&seals)).await;
        Ok(written.map_err(|_| CheckpointWriteError::Stopped)??)
    }

    /// Raises one alarm when the seals begin to lag, and names the transactions in the way.
    async fn note_lag(&mut self, now: DateTime<Utc>, settled: i64) {
        let lag = self.progress.mark.map_or(TimeDelta::zero(), |(_, since)| now - since);
        self.metrics.audit_seal_lag(lag.to_std().unwrap_or_default());
        let lags = lag > MOST_LAG;
        if lags && !self.progress.lags {
            let blockers = self.blockers(settled).await.unwrap_or_default();
            tracing::error!(
                seconds = lag.num_seconds(),
                "the audit trail is not sealed: it waits for {}",
                if blockers.is_empty() { "Postgres".to_owned() } else { blockers.join(", ") }
            );
        } else if self.progress.lags && !lags {
            tracing::warn!("the audit trail is sealed again");
        }
        self.progress.lags = lags;
    }

    async fn blockers(&self, settled: i64) -> Result<Vec<String>, StoreError> {
        let store = &self.store;
        store
            .system("name who keeps the trail from being sealed", async |mut tx| {
                let blockers = seals::list_blockers(&mut tx, settled).await?;
                Ok(blockers)
            })
            .await
    }

    /// Looks whether an operator has accepted the new ledger through another process.
    async fn look_for_acceptance(&self) {
        let store = &self.store;
        let accepted = store.system("look whether the audit ledger is accepted", async |mut tx| {
            let accepted = ledgers::is_accepted(&mut tx, self.ledger.id).await?;
            Ok::<_, StoreError>(accepted)
        });
        if accepted.await.unwrap_or(false) {
            self.audit.accept();
        }
    }
}

/// Returns a time in the precision that Postgres keeps.
fn to_micros(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time)
}
