//! Moves the spooled records into Postgres, in order, when Postgres is back, and lets the writer
//! write there again. Also watches the clock. A record that is there already is compared, so that
//! any step can be done twice.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::store::audit::{BatchConnection, StampedRecord};
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

use super::BATCH_LIMIT;
use super::replay::{ReplayError, replay};
use super::spool::frame::{Frame, decode};
use super::spool::{Segment, Spool, SpoolError};
use super::state::AuditState;

/// How often the drainer looks at the spool and at a Postgres that is down.
const PERIOD: Duration = Duration::from_millis(250);

/// The longest time that a look goes on after the service was asked to stop. It is shorter than the
/// grace of the stop.
const LAST_LOOK: Duration = Duration::from_secs(3);

/// The reason why draining stopped short.
#[derive(Debug, thiserror::Error)]
enum DrainError {
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("a spool segment cannot be read: {}", .0.kind())]
    Read(#[source] std::io::Error),
}

pub(super) struct Drainer {
    pub(super) store: Store,
    pub(super) state: Arc<AuditState>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
}

impl Drainer {
    /// Runs until `lifecycle` stops. The next process adopts the records that are in the spool
    /// then. It compares those that were cut off on their way to Postgres.
    pub(super) async fn run(self, lifecycle: Lifecycle) {
        let mut told = false;
        loop {
            let looked = tokio::select! {
                looked = self.look() => looked,
                () = async { lifecycle.stopping().await; tokio::time::sleep(LAST_LOOK).await } => return,
            };
            match looked {
                Ok(()) => told = false,
                Err(DrainError::Replay(ReplayError::Differs)) => {
                    tracing::error!(
                        "a spooled audit record differs from the stored one; nothing is recorded any more"
                    );
                    self.state.note_difference();
                    return;
                }
                Err(error) => {
                    if !told {
                        tracing::warn!(%error, "the audit spool cannot be emptied");
                    }
                    told = true;
                }
            }
            tokio::select! {
                () = lifecycle.stopping() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    /// Looks after the clock, Postgres and the spool once.
    async fn look(&self) -> Result<(), DrainError> {
        self.state.look_at_clock(self.clock.now());
        self.state.with_spool(Spool::sweep);
        if !self.state.takes_postgres() {
            self.state.look_at_spool();
        }
        if self.state.takes_postgres()
            && self.state.with_spool(|spool| spool.is_empty()).unwrap_or(true)
        {
            return Ok(());
        }
        let mut connection = BatchConnection::open(&self.store, BATCH_LIMIT).await?;
        connection.ping(BATCH_LIMIT).await?;
        self.state.with_spool(Spool::close_segment);
        let mut failed = None;
        for segment in self.state.with_spool(|spool| spool.closed_segments()).unwrap_or_default() {
            match self.drain(&segment, &mut connection).await {
                // A file that the disk does not read or remove holds up neither the other files nor
                // the writer.
                Err(error @ (DrainError::Spool(_) | DrainError::Read(_))) => failed = Some(error),
                drained => drained?,
            }
        }
        // Postgres takes records, not only connections: new batches go there again, and the next
        // look drains the records that were spooled in the meantime.
        self.state.note_postgres_takes();
        self.metrics.audit_spool_bytes(self.state.with_spool(|spool| spool.bytes()).unwrap_or(0));
        connection.close().await?;
        failed.map_or(Ok(()), Err)
    }

    async fn drain(
        &self,
        segment: &Arc<Segment>,
        connection: &mut BatchConnection,
    ) -> Result<(), DrainError> {
        let bytes = segment.read().map_err(DrainError::Read)?;
        let (mut at, mut damaged) = (0, false);
        loop {
            match decode(&bytes[at..]) {
                Frame::Batch(rows, length) => {
                    for rows in rows.chunk_by(same_batch) {
                        let work = replay(connection, rows);
                        let done = tokio::time::timeout(BATCH_LIMIT, work).await;
                        done.unwrap_or(Err(ReplayError::Store(StoreError::TimedOut)))?;
                    }
                    at += length;
                }
                Frame::End => break,
                Frame::Torn => {
                    tracing::warn!(
                        bytes = bytes.len() - at,
                        "a spool segment ends in a torn batch"
                    );
                    self.metrics.audit_spool_torn();
                    break;
                }
                Frame::Damaged(length) => {
                    damaged = true;
                    at += length;
                }
            }
        }
        if damaged {
            let path = segment.path().display();
            tracing::error!(%path, "a spool segment is damaged: what is whole is drained, the file is put aside");
            self.metrics.audit_spool_torn();
            self.state.with_spool(|spool| spool.put_aside(segment)).transpose()?;
        } else {
            self.state.with_spool(|spool| spool.remove(segment)).transpose()?;
        }
        Ok(())
    }
}

/// Returns whether two rows have in common the values that are sent once for a whole batch.
fn same_batch(one: &StampedRecord, other: &StampedRecord) -> bool {
    one.ledger == other.ledger
        && one.mac_key_id == other.mac_key_id
        && one.place.map(|place| place.writer) == other.place.map(|place| place.writer)
}
