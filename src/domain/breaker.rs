//! A circuit breaker: after so many failures in a row a remote part is left alone for a while, then
//! one caller tries it again. Pure state; whoever calls the part reports how it went.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

/// Counts failures of one remote part. Atomics only, so that asking it never waits.
#[derive(Debug)]
pub struct Breaker {
    threshold: u32,
    pause: TimeDelta,
    failures: AtomicU32,
    /// Microseconds since the epoch until which calls are refused; 0 while closed.
    open_until_us: AtomicI64,
}

impl Breaker {
    /// Opens after `threshold` failures in a row, for `pause`.
    pub const fn new(threshold: u32, pause: TimeDelta) -> Self {
        Self { threshold, pause, failures: AtomicU32::new(0), open_until_us: AtomicI64::new(0) }
    }

    /// Whether a call may be made now. Once the pause is over exactly one caller is let through,
    /// and the pause begins anew until that caller reports.
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

    /// A call went well: closes. Returns whether that changed it.
    pub fn succeeded(&self) -> bool {
        self.failures.store(0, Ordering::Release);
        // Read first: while all is well nobody writes here.
        self.open_until_us.load(Ordering::Acquire) != 0
            && self.open_until_us.swap(0, Ordering::AcqRel) != 0
    }

    /// A call failed: opens at the threshold. Returns whether that changed it.
    pub fn failed(&self, now: DateTime<Utc>) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        failures >= self.threshold && {
            let until = (now + self.pause).timestamp_micros();
            self.open_until_us.swap(until, Ordering::AcqRel) == 0
        }
    }

    /// Whether the newest call that was reported failed.
    pub fn is_doubtful(&self) -> bool {
        self.failures.load(Ordering::Acquire) > 0
    }

    /// Whether calls are refused now, without taking the one permitted try.
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        let until = self.open_until_us.load(Ordering::Acquire);
        until != 0 && now.timestamp_micros() < until
    }
}
