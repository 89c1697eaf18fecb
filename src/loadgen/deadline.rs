//! A time limit per request without a timer per request: each caller notes when it began, and one
//! coarse tick per thread looks over all of them. Never leaves its thread.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// The work took longer than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired;

/// What one caller is doing, as the tick sees it.
#[derive(Debug, Default)]
pub struct Watched {
    since: Cell<Option<Instant>>,
    expired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Watched {
    /// Runs `work`, begun at `since`, until it ends or [`Watched::expire`] finds it too old.
    /// Dropping it ends the watch at the next call.
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

    /// Ends the work under way when it began more than `limit` before `now`.
    pub fn expire(&self, now: Instant, limit: Duration) {
        let too_old = self.since.get().is_some_and(|since| now.duration_since(since) >= limit);
        if too_old
            && !self.expired.replace(true)
            && let Some(waker) = self.waker.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    /// A caller's waker is the same at every poll, so this clones it once.
    fn remember(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }
}
