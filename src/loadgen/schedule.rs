//! Decides which request a caller sends next and when none is left. It must decide nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// The source of one caller's requests.
pub enum Schedule {
    /// Each number below `total` is used once over all callers.
    Counted {
        /// The next number. All callers share it.
        next: Arc<AtomicU64>,
        /// The number of requests of all callers together.
        total: u64,
    },
    /// Requests are drawn uniformly until a time.
    Timed {
        /// The random draws of this caller.
        draws: SmallRng,
        /// The time from which no request begins.
        until: Instant,
    },
}

impl Schedule {
    /// Makes the schedule of one caller that draws requests until `until`.
    pub fn timed(seed: u64, caller: usize, until: Instant) -> Self {
        let draws = SmallRng::seed_from_u64(seed.wrapping_add(caller as u64));
        Self::Timed { draws, until }
    }

    /// Returns the index below `length` of the request to begin at `now`. Returns `None` if no
    /// request is left.
    pub fn next(&mut self, now: Instant, length: usize) -> Option<usize> {
        match self {
            Self::Counted { next, total } => {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let index = usize::try_from(number).ok()?.checked_rem(length)?;
                (number < *total).then_some(index)
            }
            Self::Timed { draws, until } => {
                (now < *until && length > 0).then(|| draws.random_range(0..length))
            }
        }
    }
}
