//! The one task that writes the records of replies. It takes all that wait, commits them in one
//! statement or, if Postgres does not take them, appends them to the spool, and then answers. The
//! id, the place and the content of a record never change between tries.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::domain::audit_record::{AuditRecord, WriterPlace};
use crate::domain::clock::Clock;
use crate::domain::ids::WriterId;
use crate::lifecycle::Lifecycle;
use crate::store::audit::{BatchConnection, StampedRecord};
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

use super::replay::{ReplayError, replay};
use super::stamp::Stamper;
use super::state::AuditState;
use super::{AuditError, BATCH_LIMIT, Durability};

/// The most records of one batch.
const BATCH_ROWS: usize = 1_000;

/// The pause between two tries of a batch that could not be written.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The longest time that a batch is tried after the service was asked to stop. It is shorter than
/// the grace of the stop.
const LAST_TRIES: Duration = Duration::from_secs(7);

/// The result for a record: where it is durable, or why it is not.
pub(super) type WriteResult = Result<Durability, AuditError>;

/// A record, and the channel to the caller that waits for it.
pub(super) struct Pending {
    pub(super) record: AuditRecord,
    pub(super) done: oneshot::Sender<WriteResult>,
}

pub(super) struct Writer {
    pub(super) id: WriterId,
    pub(super) store: Store,
    pub(super) stamper: Arc<Stamper>,
    pub(super) state: Arc<AuditState>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) next_seq: i64,
    pub(super) connection: Option<BatchConnection>,
}

impl Writer {
    /// Runs until `lifecycle` stops, the last of `drafts` is gone and the queue is empty.
    pub(super) async fn run(
        mut self,
        mut queue: mpsc::Receiver<Pending>,
        drafts: TaskTracker,
        lifecycle: Lifecycle,
    ) {
        let mut batch = Vec::with_capacity(BATCH_ROWS);
        let mut last = std::pin::pin!(async {
            lifecycle.stopping().await;
            drafts.wait().await;
        });
        loop {
            let taken = tokio::select! {
                biased;
                taken = queue.recv_many(&mut batch, BATCH_ROWS) => taken,
                () = &mut last, if !queue.is_closed() => {
                    queue.close();
                    continue;
                }
            };
            if taken == 0 {
                break;
            }
            if !self.write(&mut batch, &mut queue, &lifecycle).await {
                break;
            }
        }
        if let Some(connection) = self.connection.take() {
            // The batch is committed. A connection that does not close in time is dropped.
            let _closed = tokio::time::timeout(BATCH_LIMIT, connection.close()).await;
        }
    }

    /// Makes one batch durable, in Postgres or else in the spool, however long it takes. Returns
    /// whether the writer may go on.
    async fn write(
        &mut self,
        batch: &mut Vec<Pending>,
        queue: &mut mpsc::Receiver<Pending>,
        lifecycle: &Lifecycle,
    ) -> bool {
        let begun = Instant::now();
        let (rows, mut waiting) = self.stamp(batch);
        let mut tries = 0;
        let mut last_tries: Option<Instant> = None;
        loop {
            match self.make_durable(&rows, tries).await {
                Ok(Some(durability)) => {
                    answer(&mut waiting, Ok(durability));
                    self.metrics.audit_batch(rows.len(), begun.elapsed());
                    return true;
                }
                Ok(None) => self.refuse(&mut waiting, queue),
                Err(_differs) => {
                    tracing::error!(
                        rows = rows.len(),
                        "an audit record differs from the stored one; the audit writer stops"
                    );
                    self.state.note_difference();
                    self.refuse(&mut waiting, queue);
                    return false;
                }
            }
            tries += 1;
            if lifecycle.is_stopping()
                && last_tries.get_or_insert_with(Instant::now).elapsed() > LAST_TRIES
            {
                tracing::error!(
                    rows = rows.len(),
                    "audit records of refused replies were not written"
                );
                return false;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Tries once to make a batch durable, in Postgres while it takes batches and then in the
    /// spool. Returns `None` if neither took it.
    async fn make_durable(
        &mut self,
        rows: &[StampedRecord],
        tries: u32,
    ) -> Result<Option<Durability>, ReplayError> {
        if !self.state.look_at_clock(self.clock.now()) {
            return Ok(None);
        }
        if self.state.takes_postgres() {
            match self.attempt(rows, tries).await {
                Ok(()) => return Ok(Some(Durability::Database)),
                Err(ReplayError::Store(error)) => {
                    tracing::error!(%error, rows = rows.len(), "Postgres takes no audit records; they go to the spool");
                    self.state.note_postgres_refuses();
                }
                Err(ReplayError::Differs) => return Err(ReplayError::Differs),
            }
        }
        match self.state.append(rows) {
            Ok(()) => Ok(Some(Durability::Spool)),
            Err(error) => {
                if tries == 0 {
                    tracing::error!(%error, rows = rows.len(), "audit records cannot be made durable; replies are refused");
                }
                Ok(None)
            }
        }
    }

    /// Gives each record its place and stamp, in the order of the records' ids. Rows are sealed in
    /// that order, and rows that already lie in it are sorted at no cost.
    fn stamp(
        &mut self,
        batch: &mut Vec<Pending>,
    ) -> (Vec<StampedRecord>, Vec<oneshot::Sender<WriteResult>>) {
        let mut rows = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        batch.sort_unstable_by_key(|pending| pending.record.id);
        for Pending { record, done } in batch.drain(..) {
            let place = WriterPlace { writer: self.id, seq: self.next_seq };
            self.next_seq += 1;
            rows.push(self.stamper.stamp(record, Some(place)));
            waiting.push(done);
        }
        (rows, waiting)
    }

    /// Tries Postgres once within the limit. With `again`, the outcome of an earlier try is
    /// unknown, and the same rows are written again.
    async fn attempt(&mut self, rows: &[StampedRecord], tries: u32) -> Result<(), ReplayError> {
        let work = async {
            if tries == 0
                && let Some(mut connection) = self.connection.take()
                && connection.insert(rows).await.is_ok()
            {
                return Ok(connection);
            }
            // The connection is gone or something is wrong with it, so a fresh one is tried.
            let mut connection = BatchConnection::open(&self.store, BATCH_LIMIT).await?;
            replay(&mut connection, rows).await?;
            Ok(connection)
        };
        let connection = tokio::time::timeout(BATCH_LIMIT, work)
            .await
            .unwrap_or(Err(ReplayError::Store(StoreError::TimedOut)))?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Tells every caller that waits, also in the queue, that there will be no data.
    fn refuse(
        &self,
        waiting: &mut Vec<oneshot::Sender<WriteResult>>,
        queue: &mut mpsc::Receiver<Pending>,
    ) {
        self.metrics.audit_failure();
        answer(waiting, Err(AuditError::Unavailable));
        while let Ok(pending) = queue.try_recv() {
            answer(&mut vec![pending.done], Err(AuditError::Unavailable));
        }
    }
}

/// Answers each caller once. A caller that hung up has dropped its end, which harms nobody.
fn answer(waiting: &mut Vec<oneshot::Sender<WriteResult>>, result: WriteResult) {
    for done in waiting.drain(..) {
        let _hung_up = done.send(result);
    }
}
