//! The end of a reply that is streamed: recorded once, however it comes, with how much left; and the
//! token that may lose its right on the way.

use std::sync::Arc;
use std::time::Instant;

use crate::audit::{Draft, Recording};
use crate::coherence::TenantView;
use crate::domain::audit_record::{AuditRecord, Outcome};
use crate::domain::clock::Clock;
use crate::domain::ids::{AuditId, Ids, TokenId};
use crate::store::tokens::{self, TokenSecret};

use super::{Call, Calls, ServiceError};

/// The token that a stream is for.
pub struct ServedToken {
    id: TokenId,
    view: Arc<TenantView>,
}

impl ServedToken {
    /// The token of a call.
    pub fn of(call: &Call) -> Self {
        Self { id: call.caller.token, view: Arc::clone(&call.view) }
    }

    /// As far as this process has heard. When it may have missed something, Postgres is asked.
    pub async fn check(&self, calls: &Calls) -> Result<(), ServiceError> {
        let parts = &calls.parts;
        if !self.view.is_active() || parts.remembered.is_revoked(self.id) {
            return Err(ServiceError::Revoked);
        }
        if parts.coherence.is_proven() {
            return Ok(());
        }
        let asked = parts.store.system("check the token of a stream", async |mut tx| {
            tokens::find_secret(&mut tx, self.id).await
        });
        let found = Box::pin(asked).await?;
        found.filter(TokenSecret::is_usable).map(drop).ok_or(ServiceError::Revoked)
    }
}

/// Tells the end of a stream once, also when nobody asks for more of it.
pub struct StreamEnd {
    /// `None` once told.
    draft: Option<Draft>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    begun: Instant,
    /// How much was given out.
    count: i64,
}

impl Calls {
    /// The end of a stream, with what its record will say but for how it went.
    pub fn stream_end(&self, record: AuditRecord, begun: Instant) -> StreamEnd {
        StreamEnd {
            draft: Some(Draft::new(self.parts.audit.clone(), record)),
            clock: Arc::clone(&self.parts.clock),
            ids: Arc::clone(&self.parts.ids),
            begun,
            count: 0,
        }
    }
}

impl StreamEnd {
    /// Counts what is given out.
    pub fn add(&mut self, count: usize) {
        self.count += i64::try_from(count).unwrap_or(0);
    }

    /// What was read next, unless it is the end or none came: its record is durable by then.
    pub async fn pass_on<T>(
        &mut self,
        read: Result<Option<T>, ServiceError>,
    ) -> Result<Option<T>, ServiceError> {
        let outcome = match &read {
            Ok(Some(_)) => return read,
            Ok(None) => Outcome::Done,
            Err(ServiceError::Revoked) => Outcome::Denied,
            Err(_) => Outcome::Error,
        };
        if let Some(recording) = self.tell(outcome) {
            let _receipt = recording.await?;
        }
        read
    }

    fn tell(&mut self, outcome: Outcome) -> Option<Recording> {
        let draft = self.draft.take()?;
        let at = self.clock.now();
        let id = AuditId::fresh(&*self.ids, at);
        let duration_us = i64::try_from(self.begun.elapsed().as_micros()).unwrap_or(i64::MAX);
        let count = self.count;
        draft.settle(|record| {
            *record = AuditRecord { id, at, outcome, count, duration_us, ..record.clone() };
        })
    }
}

impl Drop for StreamEnd {
    fn drop(&mut self) {
        // The record is written though nobody waits for it.
        drop(self.tell(Outcome::Aborted));
    }
}
