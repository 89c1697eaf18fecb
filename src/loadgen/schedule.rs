//! Which request comes next, and when there is none left. Decides nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// One caller's source of requests.
pub enum Schedule {
    /// Each number below `total` once over all callers.
    Counted {
        /// The next number; shared by all callers.
        next: Arc<AtomicU64>,
        /// How many in all.
        total: u64,
    },
    /// Drawn uniformly until a time.
    Timed {
        /// This caller's draws.
        draws: SmallRng,
        /// No request begins later.
        until: Instant,
    },
}

impl Schedule {
    /// Draws for one caller, until `until`.
    pub fn timed(seed: u64, caller: usize, until: Instant) -> Self {
        let draws = SmallRng::seed_from_u64(seed.wrapping_add(caller as u64));
        Self::Timed { draws, until }
    }

    /// The index below `length` of the request to begin at `now`.
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
