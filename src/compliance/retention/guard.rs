//! When a purge waits for a person: a clock that jumped would make everything old.

use chrono::{DateTime, TimeDelta, Utc};

use crate::store::retention::Clocks;

use super::report::WaitReason;

/// Furthest the service's clock and Postgres' may differ.
const APART: TimeDelta = TimeDelta::hours(1);

/// Furthest the time may be from where it should be by the last run.
const JUMP: TimeDelta = TimeDelta::hours(25);

/// One part of so many may go at once.
const PART: u64 = 5;

/// How much of something would go, of how much there is.
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

/// Why a run at `now` must wait; `None`: it need not.
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
