//! Owns `Recording`, a small future that gives the receipt once the record is durable.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::writer::WriteResult;
use super::{AuditError, Durability, Receipt};

/// The state of a record that was handed over.
pub(super) enum RecordingState {
    /// The record waits for nothing, because audit logging is off.
    Granted,
    /// The record waits for the writer.
    Waits(oneshot::Receiver<WriteResult>),
    /// The record was not even queued.
    Refused(AuditError),
}

/// A record on its way. Dropping the recording does not stop the record.
#[must_use = "the receipt comes when this is awaited"]
pub struct Recording {
    /// The receipt. It is `None` once it was given out.
    pub(super) receipt: Option<Receipt>,
    pub(super) state: RecordingState,
}

impl Future for Recording {
    type Output = Result<Receipt, AuditError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let durability = match &mut self.state {
            RecordingState::Granted => Durability::Database,
            RecordingState::Refused(error) => return Poll::Ready(Err(*error)),
            RecordingState::Waits(done) => match Pin::new(done).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Ok(durability))) => durability,
                Poll::Ready(Ok(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Err(_writer_gone)) => {
                    return Poll::Ready(Err(AuditError::Unavailable));
                }
            },
        };
        let receipt = self.receipt.take().map(|receipt| receipt.durable_in(durability));
        Poll::Ready(receipt.ok_or(AuditError::Unavailable))
    }
}
