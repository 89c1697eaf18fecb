//! The audit trail's writing side: every reply waits here until its record is durable. Makes
//! `Receipt`, and nothing else does. Never holds content: records are ids, enums and numbers.

mod draft;
mod receipt;
mod recording;
mod stamp;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::domain::audit_record::AuditRecord;
use crate::domain::ids::WriterId;
use crate::lifecycle::Lifecycle;
use crate::store::Store;
use crate::store::audit::StampedRecord;
use crate::telemetry::Metrics;

pub use draft::Draft;
pub use receipt::Receipt;
pub use recording::Recording;

pub use stamp::Stamper;

use recording::State;
use writer::{Pending, Writer};

/// Longest a batch may take to become durable; after it the replies it holds are refused.
const BATCH_LIMIT: Duration = Duration::from_secs(2);

/// Records that may wait at a time. More are refused: memory is bounded, and so is the wait.
const QUEUE: usize = 8_192;

/// Why there is no durable record, and so no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// More records wait than may.
    #[error("the audit queue is full")]
    QueueFull,
    /// Records cannot be made durable just now.
    #[error("audit records cannot be made durable")]
    Unavailable,
}

/// Handle to the audit writer. Clones are the same writer.
#[derive(Clone)]
pub struct Audit {
    /// `None`: audit logging is switched off for development, receipts are granted as they are.
    queue: Option<mpsc::Sender<Pending>>,
    stamper: Arc<Stamper>,
    available: Arc<AtomicBool>,
    /// Counts the records being written up.
    drafts: TaskTracker,
}

impl Audit {
    /// Starts the writer, whose records are numbered under `id`, on a thread of its own: every
    /// reply waits for it, and between the threads of a shared runtime it would lose a fifth of a
    /// millisecond a batch. It ends when `lifecycle` stops, no record is being written up and
    /// everything queued is written.
    pub fn start(
        store: Store,
        stamper: Stamper,
        id: WriterId,
        metrics: Arc<Metrics>,
        lifecycle: &Lifecycle,
    ) -> std::io::Result<Self> {
        let stamper = Arc::new(stamper);
        let available = Arc::new(AtomicBool::new(true));
        let drafts = TaskTracker::new();
        // Closed, so that it can be waited for; it takes new ones all the same.
        drafts.close();
        // Bounded, many senders, one receiver: the writer takes all that waits at once.
        let (queue, receiver) = mpsc::channel(QUEUE);
        let writer = Writer::new(id, store, Arc::clone(&stamper), Arc::clone(&available), metrics);
        let task = writer.run(receiver, drafts.clone(), lifecycle.clone());
        lifecycle.spawn_thread("audit-writer", task)?;
        Ok(Self { queue: Some(queue), stamper, available, drafts })
    }

    /// A handle that grants receipts and writes nothing. For development only.
    pub fn off(stamper: Stamper) -> Self {
        let available = Arc::new(AtomicBool::new(true));
        Self { queue: None, stamper: Arc::new(stamper), available, drafts: TaskTracker::new() }
    }

    /// Hands a record over at once; the receipt comes when it is durable. The record is written
    /// even if nobody waits.
    pub fn record(&self, record: AuditRecord) -> Recording {
        let receipt = Receipt::of(&record);
        let state = match self.enqueue(record) {
            Ok(None) => State::Granted,
            Ok(Some(done)) => State::Waits(done),
            Err(error) => State::Refused(error),
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
    ) -> Result<Option<oneshot::Receiver<Result<(), AuditError>>>, AuditError> {
        let Some(queue) = &self.queue else {
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

    /// Stamps the record of a change, to be inserted in the change's own transaction.
    pub fn stamp(&self, record: AuditRecord) -> StampedRecord {
        self.stamper.stamp(record, None)
    }

    /// Whether records can be made durable, as far as is known.
    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Acquire)
            && self.queue.as_ref().is_none_or(|queue| !queue.is_closed())
    }

    /// Whether records are written at all.
    pub const fn is_on(&self) -> bool {
        self.queue.is_some()
    }
}
