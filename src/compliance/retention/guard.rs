//! Decides when a purge waits for a person. A clock that jumped would make everything old.

use chrono::{DateTime, TimeDelta, Utc};

use crate::store::retention::Clocks;

use super::report::WaitReason;

/// The most that the service's clock and Postgres' may differ.
const APART: TimeDelta = TimeDelta::hours(1);

/// The most that the time may be away from where it should be since the last run.
const JUMP: TimeDelta = TimeDelta::hours(25);

/// One part of this many parts may go at once.
const PART: u64 = 5;

/// The amount of something that would go, and the amount that there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) due: u64,
    pub(super) all: u64,
}

impl Share {
    const fn is_large(self) -> bool {
        self.due.saturating_mul(PART) > self.all
    }
}

/// Returns the reason why a run at `now` must wait. Returns `None` if it need not.
pub(super) fn wait_reason(
    now: DateTime<Utc>,
    clocks: &Clocks,
    entries: Share,
    records: Share,
) -> Option<WaitReason> {
    if (now - clocks.server).abs() > APART {
        return Some(WaitReason::ClocksDiffer);
    }
    if let Some((begun, server)) = clocks.last {
        let expected = begun + (clocks.server - server);
        if now < begun || (now - expected).abs() > JUMP {
            return Some(WaitReason::ClockJumped);
        }
    }
    if entries.is_large() {
        return Some(WaitReason::ManyEntries);
    }
    records.is_large().then_some(WaitReason::ManyRecords)
}
