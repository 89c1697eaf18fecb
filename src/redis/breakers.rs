//! Decides when Redis is left alone. The shards of a cluster fail apart, so each has a breaker. A
//! change is logged once, for all of Redis.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use chrono::TimeDelta;
use deadpool_redis::redis::{Arg, Cmd};

use crate::domain::breaker::Breaker;
use crate::domain::clock::Clock;

use super::RedisError;
use super::division::Division;

/// The failures in a row after which Redis, or a shard, is left alone.
const FAILURES: u32 = 5;
/// The time for which Redis, or a shard, is left alone.
const PAUSE: TimeDelta = TimeDelta::seconds(1);

/// One breaker, or one for each shard.
pub(super) struct Breakers {
    clock: Arc<dyn Clock>,
    /// The shards. They are replaced when a cluster turns out to be divided otherwise.
    shards: RwLock<Arc<Shards>>,
}

struct Shards {
    division: Division,
    breakers: Vec<Breaker>,
    /// The number of open breakers.
    open: AtomicUsize,
}

impl Shards {
    fn new(division: Division) -> Self {
        let breakers = (0..division.shards()).map(|_| Breaker::new(FAILURES, PAUSE)).collect();
        Self { division, breakers, open: AtomicUsize::new(0) }
    }
}

/// The breaker that judges a command.
pub(super) struct Judge {
    shards: Arc<Shards>,
    index: usize,
}

impl Judge {
    fn breaker(&self) -> &Breaker {
        &self.shards.breakers[self.index]
    }

    /// Returns whether the newest command that this breaker judged failed.
    pub(super) fn is_doubtful(&self) -> bool {
        self.breaker().is_doubtful()
    }
}

impl Breakers {
    /// Makes the breakers of a Redis whose division is not known.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, shards: RwLock::new(Arc::new(Shards::new(Division::whole()))) }
    }

    /// Takes over the present division of the cluster. If it differs from the known one, every
    /// shard begins with a new breaker.
    pub(super) fn learn(&self, division: Division) {
        let mut shards = self.shards.write().unwrap_or_else(PoisonError::into_inner);
        if shards.division != division {
            let former = std::mem::replace(&mut *shards, Arc::new(Shards::new(division)));
            if former.open.load(Ordering::Acquire) > 0 {
                tracing::info!("Redis is used again");
            }
        }
    }

    /// Returns the breaker of a command. Returns `None` if a cluster has several shards and the
    /// command names no key.
    pub(super) fn of(&self, command: &Cmd) -> Option<Judge> {
        let shards = Arc::clone(&self.shards.read().unwrap_or_else(PoisonError::into_inner));
        let index = match shards.breakers.len() {
            1 => 0,
            _ => shards.division.shard_of(key_of(command)?),
        };
        Some(Judge { shards, index })
    }

    /// Returns whether a command may be sent now.
    pub(super) fn permits(&self, judge: Option<&Judge>) -> bool {
        judge.is_none_or(|judge| judge.breaker().permits(self.clock.now()))
    }

    /// Notes that Redis served or refused a command.
    pub(super) fn succeeded(judge: Option<&Judge>) {
        if let Some(judge) = judge
            && judge.breaker().succeeded()
            && judge.shards.open.fetch_sub(1, Ordering::AcqRel) == 1
        {
            tracing::info!("Redis is used again");
        }
    }

    /// Notes that Redis did not serve a command. Returns whether Redis is left alone now.
    pub(super) fn failed(&self, judge: Option<&Judge>, error: &RedisError) -> bool {
        let Some(judge) = judge else {
            return false;
        };
        let now = self.clock.now();
        if judge.breaker().failed(now) && judge.shards.open.fetch_add(1, Ordering::AcqRel) == 0 {
            tracing::warn!(%error, "Redis fails and is left alone");
        }
        judge.breaker().is_open(now)
    }
}

/// Returns the key of a command, which is its first argument. For a script it is the argument after
/// the text and the count of keys.
fn key_of(command: &Cmd) -> Option<&[u8]> {
    let mut arguments = command.args_iter();
    let before = match arguments.next()? {
        Arg::Simple(b"EVAL") => 2,
        _ => 0,
    };
    match arguments.nth(before)? {
        Arg::Simple(key) => Some(key),
        _ => None,
    }
}
