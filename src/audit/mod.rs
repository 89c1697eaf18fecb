//! The writing side of the audit trail: every reply waits here until its record is durable. Only
//! this module makes a `Receipt`. It never holds content: records are ids, enums and numbers.

mod checkpoint;
mod classes;
mod draft;
mod drainer;
mod erasure_ledger;
mod ledger;
mod line_file;
mod partitions;
mod receipt;
mod recording;
mod replay;
mod sealer;
mod spool;
mod stamp;
mod state;
pub mod verify;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::domain::audit_record::AuditRecord;
use crate::domain::clock::Clock;
use crate::domain::ids::WriterId;
use crate::lifecycle::Lifecycle;
use crate::store::Store;
use crate::store::audit::StampedRecord;
use crate::telemetry::Metrics;

pub use checkpoint::{Checkpoint, CheckpointFile};
pub use classes::RetentionClasses;
pub use draft::Draft;
pub use erasure_ledger::{Erasure, ErasureDecision, ErasureLedger, Read as ReadErasures};
pub use ledger::{LedgerError, LedgerReason, PresentLedger, find as find_ledger, find_or_begin};
pub use line_file::LineFileError;
pub use partitions::make_partitions;
pub use receipt::{Durability, Receipt};
pub use recording::Recording;
pub use sealer::Sealing;
pub use spool::{SpoolError, SpoolSettings};

pub use stamp::Stamper;

use drainer::Drainer;
use recording::RecordingState;
use sealer::{SealProgress, Sealer};
use spool::Spool;
use state::AuditState;
use writer::{Pending, WriteResult, Writer};

/// The longest time a batch may take to become durable. After it the replies of the batch are
/// refused.
const BATCH_LIMIT: Duration = Duration::from_secs(2);

/// The most records that may wait at a time. More are refused, so that memory and the wait are
/// bounded.
const QUEUE: usize = 8_192;

/// The reason why there is no durable record, and so no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// As many records wait as may.
    #[error("the audit queue is full")]
    QueueFull,
    /// Records cannot be made durable just now.
    #[error("audit records cannot be made durable")]
    Unavailable,
}

/// The reason why the audit does not start.
#[derive(Debug, thiserror::Error)]
pub enum AuditStartError {
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// No thread can be started.
    #[error("a thread cannot be started: {}", .0.kind())]
    Thread(#[from] std::io::Error),
}

/// The parts that the audit is started with.
pub struct AuditParts {
    /// Postgres.
    pub store: Store,
    /// The stamper, which makes records tamper-evident.
    pub stamper: Stamper,
    /// The id of the writer, under which the records of this process are numbered.
    pub writer: WriterId,
    /// The ledger that the records belong to. It is also the stamper's ledger.
    pub ledger: PresentLedger,
    /// How seals are made. `None` means that other processes seal the records.
    pub sealing: Option<Sealing>,
    /// Where records wait for Postgres. `None` means that they wait nowhere.
    pub spool: Option<SpoolSettings>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// A handle to the audit writer. Clones belong to the same writer.
#[derive(Clone)]
pub struct Audit {
    /// The running writer. `None` means that audit logging is switched off for development:
    /// receipts are granted without a record.
    running: Option<RunningWriter>,
    stamper: Arc<Stamper>,
    /// Counts the records being written up.
    drafts: TaskTracker,
    /// Whether a replica may serve from the present ledger.
    accepted: Arc<AtomicBool>,
    dead: Arc<[WriterId]>,
}

/// A handle's ends of the writer.
#[derive(Clone)]
struct RunningWriter {
    queue: mpsc::Sender<Pending>,
    state: Arc<AuditState>,
    /// The token that is cancelled when the last record is written.
    ended: CancellationToken,
}

impl Audit {
    /// Opens the spool and starts the drainer, the sealer and the writer. The writer has a thread
    /// of its own: every reply waits for it, and between the threads of a shared runtime it would
    /// lose a fifth of a millisecond per batch. The writer ends when `lifecycle` stops, no record
    /// is being written up and everything queued is durable.
    pub fn start(parts: AuditParts, lifecycle: &Lifecycle) -> Result<Self, AuditStartError> {
        let AuditParts { store, stamper, writer: id, ledger, sealing, spool, clock, metrics } =
            parts;
        let stamper = Arc::new(stamper);
        let spool = spool.map(|spool| Spool::open(spool, id, Arc::clone(&clock))).transpose()?;
        let dead = spool.as_ref().map_or_else(Arc::default, |spool| Arc::from(&*spool.dead));
        let state = Arc::new(AuditState::new(spool, Arc::clone(&metrics)));
        let drafts = TaskTracker::new();
        // A closed tracker can be waited for, and it takes new drafts all the same.
        drafts.close();
        // The queue is bounded, with many senders and one receiver: the writer takes all that waits
        // at once.
        let (queue, receiver) = mpsc::channel(QUEUE);
        let drainer = Drainer {
            store: store.clone(),
            state: Arc::clone(&state),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
        };
        let writer = Writer {
            id,
            store: store.clone(),
            stamper: Arc::clone(&stamper),
            state: Arc::clone(&state),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            next_seq: 1,
            connection: None,
        };
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let work = writer.run(receiver, drafts.clone(), lifecycle.clone());
        let task = async move {
            work.await;
            drop(end);
        };
        lifecycle.spawn_thread("audit-writer", task)?;
        lifecycle.spawn_thread("audit-drainer", drainer.run(lifecycle.clone()))?;
        let accepted = Arc::new(AtomicBool::new(ledger.accepted));
        let running = Some(RunningWriter { queue, state, ended });
        let audit = Self { running, stamper, drafts, accepted, dead };
        if let Some(sealing) = sealing {
            let (audit, lifecycle, progress) =
                (audit.clone(), lifecycle.clone(), SealProgress::default());
            let sealer =
                Sealer { sealing, store, ledger, clock, metrics, audit, lifecycle, progress };
            sealer.spawn();
        }
        Ok(audit)
    }

    /// Returns a handle that grants receipts and writes nothing. It is for development only.
    pub fn off(stamper: Stamper) -> Self {
        let (stamper, accepted) = (Arc::new(stamper), Arc::new(AtomicBool::new(true)));
        let (drafts, dead) = (TaskTracker::new(), Arc::default());
        Self { running: None, stamper, drafts, accepted, dead }
    }

    /// Hands a record over at once. The receipt comes when the record is durable. The record is
    /// written even if nobody waits.
    pub fn record(&self, record: AuditRecord) -> Recording {
        let receipt = Receipt::of(&record);
        let state = match self.enqueue(record) {
            Ok(None) => RecordingState::Granted,
            Ok(Some(done)) => RecordingState::Waits(done),
            Err(error) => RecordingState::Refused(error),
        };
        Recording { receipt: Some(receipt), state }
    }

    /// Hands a record over without waiting for it.
    pub fn record_detached(&self, record: AuditRecord) {
        if self.enqueue(record).is_err() {
            tracing::warn!("a record nobody waits for could not be queued");
        }
    }

    fn enqueue(
        &self,
        record: AuditRecord,
    ) -> Result<Option<oneshot::Receiver<WriteResult>>, AuditError> {
        let Some(RunningWriter { queue, .. }) = &self.running else {
            return Ok(None);
        };
        if !self.is_available() {
            return Err(AuditError::Unavailable);
        }
        let (done, waits) = oneshot::channel();
        queue.try_send(Pending { record, done }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => AuditError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => AuditError::Unavailable,
        })?;
        Ok(Some(waits))
    }

    /// Returns a token. While a task holds it, the writer does not end, so that the task can hand
    /// records over at a stop.
    pub fn hold(&self) -> TaskTrackerToken {
        self.drafts.token()
    }

    /// Stamps the record of a change, to be inserted in the change's own transaction.
    pub fn stamp(&self, record: AuditRecord) -> StampedRecord {
        self.stamper.stamp(record, None)
    }

    /// Returns whether records can be made durable, as far as is known.
    pub fn is_available(&self) -> bool {
        let available =
            |running: &RunningWriter| running.state.is_available() && !running.queue.is_closed();
        self.running.as_ref().is_none_or(available)
    }

    /// Waits until the last record is written.
    pub async fn ended(&self) {
        if let Some(running) = &self.running {
            running.ended.cancelled().await;
        }
    }

    /// Returns the processes of this installation that were found dead at the start.
    pub fn dead(&self) -> &[WriterId] {
        &self.dead
    }

    /// Returns whether a replica may serve from the present ledger.
    pub fn is_accepted(&self) -> bool {
        self.accepted.load(Ordering::Acquire)
    }

    /// Accepts the present ledger, because an operator took note of why it was begun.
    pub fn accept(&self) {
        self.accepted.store(true, Ordering::Release);
        tracing::warn!("the new audit ledger is accepted");
    }

    /// Returns whether records can be made durable and the present ledger is accepted. Looks at the
    /// spool first if records depend on it, and so waits for the disk.
    pub fn look(&self) -> bool {
        if let Some(running) = &self.running
            && !running.state.takes_postgres()
        {
            running.state.look_at_spool();
        }
        self.is_available() && self.is_accepted()
    }

    /// Returns whether Postgres takes records, as far as is known. Changes need it.
    pub fn takes_postgres(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.state.takes_postgres())
    }

    /// Returns whether records are written at all.
    pub const fn is_on(&self) -> bool {
        self.running.is_some()
    }
}
