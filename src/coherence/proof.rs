//! Owns the proof: how far this process has followed the stream, and until when it knows that this
//! is the end of it. The machine's own monotonic clock measures it, because a wall clock that is
//! set must neither prolong nor end a proof.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::crypto::sha256;
use crate::domain::selector::Position;
use crate::store::follow::History;

/// The time for which an answer proves the position, from the sending of the question on.
pub const PROOF: Duration = Duration::from_secs(2);

/// The proof of one process. Every hit asks it twice, so it has atomics and no lock.
#[derive(Debug)]
pub struct Proof {
    position: AtomicI64,
    era: AtomicU64,
    begun: Instant,
    /// The end of the proof, in microseconds after `begun`. It may be past.
    until_us: AtomicU64,
}

impl Proof {
    pub(super) fn new() -> Self {
        let (position, era) = (AtomicI64::new(0), AtomicU64::new(0));
        Self { position, era, begun: Instant::now(), until_us: AtomicU64::new(0) }
    }

    /// Returns the position up to which everything was applied.
    pub fn position(&self) -> Position {
        Position(self.position.load(Ordering::Acquire))
    }

    /// Returns the history in which positions count, as a number.
    pub fn era(&self) -> u64 {
        self.era.load(Ordering::Acquire)
    }

    pub(super) fn enter(&self, history: &History) {
        let name = sha256(history.name().as_bytes());
        let era = name.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        self.era.store(era, Ordering::Release);
    }

    /// Returns whether the position is known to be the newest. Only a step whose invalidation was
    /// not answered yet may be newer.
    pub fn holds(&self) -> bool {
        self.micros(Instant::now()) < self.until_us.load(Ordering::Acquire)
    }

    pub(super) fn move_to(&self, position: Position) {
        self.position.store(position.0, Ordering::Release);
    }

    pub(super) fn extend(&self, until: Instant) {
        self.until_us.fetch_max(self.micros(until), Ordering::AcqRel);
    }

    pub(super) fn end(&self) {
        self.until_us.fetch_min(self.micros(Instant::now()), Ordering::AcqRel);
    }

    /// Returns for how long the position has not been proven. Returns `None` while it is proven.
    pub(super) fn unproven_for(&self) -> Option<Duration> {
        let (now, until) = (self.micros(Instant::now()), self.until_us.load(Ordering::Acquire));
        (now >= until).then(|| Duration::from_micros(now - until))
    }

    fn micros(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.begun);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}
