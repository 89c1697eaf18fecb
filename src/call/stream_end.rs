//! The end of a reply that is streamed. It is recorded once, however it comes, with the amount
//! that was given out.

use std::sync::Arc;
use std::time::Instant;

use crate::audit::{Draft, Recording};
use crate::domain::action::Action;
use crate::domain::audit_record::{AuditRecord, Outcome};
use crate::domain::ids::AuditId;

use super::on_word::OnWord;
use super::served_token::ServedToken;
use super::{Calls, CallsParts, ServiceError};

/// Records the end of a stream once, also when nobody asks for more of it.
pub struct StreamEnd {
    /// The record of the end. `None` once it is made.
    draft: Option<Draft>,
    /// The token that the stream is for. `None` for an operator at the command line.
    token: Option<ServedToken>,
    calls: Arc<Calls>,
    begun: Instant,
    /// The amount that was given out.
    count: i64,
}

impl Calls {
    /// Makes the end of a stream that is given out on this word. Its record says `action`.
    pub fn stream_end(self: &Arc<Self>, word: &OnWord<'_>, action: Action) -> StreamEnd {
        StreamEnd {
            draft: Some(Draft::new(self.parts.audit.clone(), word.end_record(action))),
            token: word.token(),
            calls: Arc::clone(self),
            begun: word.begun(),
            count: 0,
        }
    }
}

impl StreamEnd {
    /// Checks that the token of the stream is still accepted. A part is checked after it was read,
    /// because the reading takes its time: no part leaves once the revocation is known.
    pub async fn check_token(&self) -> Result<(), ServiceError> {
        match &self.token {
            Some(token) => token.check(&self.calls.parts).await,
            None => Ok(()),
        }
    }

    /// Adds `count` to the amount that was given out.
    pub fn add(&mut self, count: usize) {
        self.count += i64::try_from(count).unwrap_or(0);
    }

    /// Passes on the part that was read next. If it is the end or an error, the record of the end
    /// is durable before this returns.
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
        let CallsParts { clock, ids, .. } = &self.calls.parts;
        let at = clock.now();
        let id = AuditId::fresh(&**ids, at);
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
