//! A clock that tests move.

use std::sync::atomic::{AtomicI64, Ordering};

use ai_cache::domain::clock::{Clock, SystemClock};
use chrono::{DateTime, TimeDelta, Utc};

/// The machine's time plus the time that tests added.
#[derive(Default)]
pub struct TestClock {
    ahead_us: AtomicI64,
}

impl TestClock {
    /// Moves the time forward or back.
    pub fn advance(&self, by: TimeDelta) {
        self.ahead_us.fetch_add(by.num_microseconds().unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> DateTime<Utc> {
        SystemClock.now() + TimeDelta::microseconds(self.ahead_us.load(Ordering::SeqCst))
    }
}
