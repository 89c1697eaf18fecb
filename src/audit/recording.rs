//! A record on its way: a small future that gives the receipt once the record is durable.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::writer::WriteResult;
use super::{AuditError, Durability, Receipt};

/// What the record waits for.
pub(super) enum RecordingState {
    /// For nothing: audit logging is off.
    Granted,
    /// For the writer.
    Waits(oneshot::Receiver<WriteResult>),
    /// It was not even queued.
    Refused(AuditError),
}

/// A record on its way. Dropping it does not stop the record.
#[must_use = "the receipt comes when this is awaited"]
pub struct Recording {
    /// `None` once given out.
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
