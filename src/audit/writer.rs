//! The one task that writes reply records: takes all that waits, commits it in one statement, then
//! answers everybody (group commit). A record's id, place and content never change between tries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::domain::audit_record::{AuditRecord, WriterPlace};
use crate::domain::ids::WriterId;
use crate::lifecycle::Lifecycle;
use crate::store::audit::{BatchConnection, StampedRecord};
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

use super::stamp::Stamper;
use super::{AuditError, BATCH_LIMIT};

/// Most records of one batch.
const BATCH_ROWS: usize = 1_000;

/// Pause between tries of a batch that could not be written.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Longest time a batch is tried after the service was asked to stop: less than the stop's grace.
const LAST_TRIES: Duration = Duration::from_secs(7);

/// A record and who waits for it.
pub(super) struct Pending {
    pub(super) record: AuditRecord,
    pub(super) done: oneshot::Sender<Result<(), AuditError>>,
}

/// Why a batch is not known to be durable.
#[derive(Debug, thiserror::Error)]
enum BatchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row is there under the same id with other content.
    #[error("a record differs from the one stored under its id")]
    Differs,
}

pub(super) struct Writer {
    store: Store,
    stamper: Arc<Stamper>,
    available: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    id: WriterId,
    next_seq: i64,
    connection: Option<BatchConnection>,
}

impl Writer {
    pub(super) const fn new(
        id: WriterId,
        store: Store,
        stamper: Arc<Stamper>,
        available: Arc<AtomicBool>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { store, stamper, available, metrics, id, next_seq: 1, connection: None }
    }

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
            // The batch is committed; a connection that does not close is dropped.
            let _closed = tokio::time::timeout(BATCH_LIMIT, connection.close()).await;
        }
    }

    /// Writes one batch, however long it takes; returns whether the writer may go on.
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
            match self.attempt(&rows, tries > 0).await {
                Ok(()) => {
                    answer(&mut waiting, Ok(()));
                    self.available.store(true, Ordering::Release);
                    self.metrics.audit_available(true);
                    self.metrics.audit_batch(rows.len(), begun.elapsed());
                    return true;
                }
                Err(BatchError::Differs) => {
                    tracing::error!(
                        rows = rows.len(),
                        "an audit record differs from the stored one; the audit writer stops"
                    );
                    self.refuse(&mut waiting, queue);
                    return false;
                }
                Err(BatchError::Store(error)) => {
                    if tries == 0 {
                        tracing::error!(%error, rows = rows.len(), "audit records cannot be written; replies are refused");
                    }
                    self.refuse(&mut waiting, queue);
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

    /// Gives each record its place and stamp.
    fn stamp(
        &mut self,
        batch: &mut Vec<Pending>,
    ) -> (Vec<StampedRecord>, Vec<oneshot::Sender<Result<(), AuditError>>>) {
        let mut rows = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        for Pending { record, done } in batch.drain(..) {
            let place = WriterPlace { writer: self.id, seq: self.next_seq };
            self.next_seq += 1;
            rows.push(self.stamper.stamp(record, Some(place)));
            waiting.push(done);
        }
        (rows, waiting)
    }

    /// One try within the limit. After an unknown outcome the same rows are written again and, as
    /// a skipped insert alone proves nothing, what is there is compared.
    async fn attempt(&mut self, rows: &[StampedRecord], replay: bool) -> Result<(), BatchError> {
        let work = async {
            if !replay
                && let Some(mut connection) = self.connection.take()
                && connection.insert(rows).await.is_ok()
            {
                return Ok(connection);
            }
            // The connection is gone, or whatever was wrong with it is tried on a fresh one.
            let mut connection = BatchConnection::open(&self.store, BATCH_LIMIT).await?;
            let added = connection.insert_missing(rows).await?;
            if added != rows.len() as u64 {
                compare(&mut connection, rows).await?;
            }
            Ok(connection)
        };
        let connection = tokio::time::timeout(BATCH_LIMIT, work)
            .await
            .unwrap_or(Err(BatchError::Store(StoreError::TimedOut)))?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Tells everybody who waits, also in the queue, that there will be no data.
    fn refuse(
        &self,
        waiting: &mut Vec<oneshot::Sender<Result<(), AuditError>>>,
        queue: &mut mpsc::Receiver<Pending>,
    ) {
        self.available.store(false, Ordering::Release);
        self.metrics.audit_available(false);
        self.metrics.audit_failure();
        answer(waiting, Err(AuditError::Unavailable));
        while let Ok(pending) = queue.try_recv() {
            answer(&mut vec![pending.done], Err(AuditError::Unavailable));
        }
    }
}

/// Answers each once; a caller that hung up has dropped its end, which harms nobody.
fn answer(
    waiting: &mut Vec<oneshot::Sender<Result<(), AuditError>>>,
    result: Result<(), AuditError>,
) {
    for done in waiting.drain(..) {
        let _hung_up = done.send(result);
    }
}

async fn compare(
    connection: &mut BatchConnection,
    rows: &[StampedRecord],
) -> Result<(), BatchError> {
    let stored = connection.list_hashes(rows).await?;
    let same = rows.iter().all(|row| {
        stored.iter().any(|(id, hash)| *id == row.record.id && hash[..] == row.row_hash[..])
    });
    if same { Ok(()) } else { Err(BatchError::Differs) }
}
