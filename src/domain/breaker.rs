//! Owns the state of a circuit breaker: after some failures in a row nobody calls a remote part for
//! a pause, and then one caller tries it again. The breaker calls nothing itself. The code that
//! calls the remote part reports each success and failure.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

/// Counts the failures of one remote part. It holds atomics only, so that a question to it never
/// waits.
#[derive(Debug)]
pub struct Breaker {
    threshold: u32,
    pause: TimeDelta,
    failures: AtomicU32,
    /// The time until which calls are refused, in microseconds since the epoch. It is 0 while the
    /// breaker is closed.
    open_until_us: AtomicI64,
}

impl Breaker {
    /// Makes a closed breaker that opens for `pause` after `threshold` failures in a row.
    pub const fn new(threshold: u32, pause: TimeDelta) -> Self {
        Self { threshold, pause, failures: AtomicU32::new(0), open_until_us: AtomicI64::new(0) }
    }

    /// Returns whether a call may be made now. Once the pause is over, exactly one caller gets
    /// true, and the pause begins anew until that caller reports.
    pub fn permits(&self, now: DateTime<Utc>) -> bool {
        let until = self.open_until_us.load(Ordering::Acquire);
        if until == 0 {
            return true;
        }
        if now.timestamp_micros() < until {
            return false;
        }
        let next = (now + self.pause).timestamp_micros();
        self.open_until_us
            .compare_exchange(until, next, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Records that a call succeeded and closes the breaker. Returns whether the breaker was open
    /// before.
    pub fn succeeded(&self) -> bool {
        self.failures.store(0, Ordering::Release);
        // The value is read first, so that nobody writes to it while all calls succeed.
        self.open_until_us.load(Ordering::Acquire) != 0
            && self.open_until_us.swap(0, Ordering::AcqRel) != 0
    }

    /// Records that a call failed and opens the breaker at the threshold. Returns whether this call
    /// opened a closed breaker.
    pub fn failed(&self, now: DateTime<Utc>) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        failures >= self.threshold && {
            let until = (now + self.pause).timestamp_micros();
            self.open_until_us.swap(until, Ordering::AcqRel) == 0
        }
    }

    /// Returns whether the newest reported call failed.
    pub fn is_doubtful(&self) -> bool {
        self.failures.load(Ordering::Acquire) > 0
    }

    /// Returns whether calls are refused now. It does not use up the one try that is permitted
    /// after the pause.
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        let until = self.open_until_us.load(Ordering::Acquire);
        until != 0 && now.timestamp_micros() < until
    }
}
