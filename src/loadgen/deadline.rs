//! Owns the time limit of requests, without a timer per request: each caller stores the time at
//! which its work began, and one coarse tick per thread checks all callers. A `Watched` must never
//! leave its thread.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// The error of work that took longer than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired;

/// The state of one caller's work, which the tick checks.
#[derive(Debug, Default)]
pub struct Watched {
    since: Cell<Option<Instant>>,
    expired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Watched {
    /// Runs `work`, which began at `since`, until it ends. Returns [`Expired`] if
    /// [`Watched::expire`] finds it too old before that. After the future is dropped, the old
    /// `since` stays until the next call of `watch`.
    pub async fn watch<F: Future>(&self, since: Instant, work: F) -> Result<F::Output, Expired> {
        self.since.set(Some(since));
        self.expired.set(false);
        let mut work = pin!(work);
        let ended = poll_fn(|context| {
            if let Poll::Ready(output) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            if self.expired.get() {
                return Poll::Ready(Err(Expired));
            }
            self.remember(context.waker());
            Poll::Pending
        })
        .await;
        self.since.set(None);
        ended
    }

    /// Ends the work under way if it began `limit` or more before `now`.
    pub fn expire(&self, now: Instant, limit: Duration) {
        let too_old = self.since.get().is_some_and(|since| now.duration_since(since) >= limit);
        if too_old
            && !self.expired.replace(true)
            && let Some(waker) = self.waker.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    /// Stores `waker` if it differs from the stored one. A caller's waker is the same at every
    /// poll, so this clones it once.
    fn remember(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }
}
