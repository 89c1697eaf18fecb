//! Redis, single or cluster. This module is the only user of its crates. Redis may be down, hung,
//! flushed or full: every command has a limit and a breaker, so that callers notice it only by
//! slower answers.

mod breakers;
mod division;
mod error;
mod floor;
mod lease;
mod link;
mod servers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use deadpool_redis::redis::{Cmd, FromRedisValue, cmd};

use crate::domain::clock::Clock;
use crate::lifecycle::Lifecycle;

pub use error::RedisError;
pub use floor::{Floor, FloorKey, FloorOrigin};
pub use lease::{Claim, Holder, LeaseName, Leases, LeasesOff, RENEWAL, RedisLeases};

use breakers::{Breakers, Judge};
use link::Link;
use servers::Servers;

/// The settings to reach Redis.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// The URLs. One URL is a single server, or with `+cluster` in its scheme a node of a cluster.
    /// Several URLs are nodes of a cluster.
    pub urls: Vec<String>,
    /// The longest time of a command, with connecting.
    pub timeout: Duration,
}

/// A client of Redis. Clones share its connections.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    link: Arc<Link>,
    timeout: Duration,
    breakers: Arc<Breakers>,
}

impl Redis {
    /// Checks the URLs and begins to connect. Redis need not be reachable.
    pub fn new(
        settings: &RedisSettings,
        clock: Arc<dyn Clock>,
        lifecycle: &Lifecycle,
    ) -> Result<Self, RedisError> {
        let servers = Servers::new(&settings.urls, settings.timeout)?;
        let breakers = Arc::new(Breakers::new(clock));
        let link = Arc::new(Link::new(servers, Arc::clone(&breakers)));
        lifecycle.spawn(Arc::clone(&link).keep(lifecycle.clone()));
        Ok(Self(Arc::new(Inner { link, timeout: settings.timeout, breakers })))
    }

    /// Reads the value of a key. Returns `None` if there is none.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RedisError> {
        let value: Option<Vec<u8>> = self.run(cmd("GET").arg(key)).await?;
        Ok(value.map(Bytes::from))
    }

    /// Sets a key for `ttl`, at least a millisecond.
    pub async fn set(&self, key: &[u8], value: &[u8], ttl: Duration) -> Result<(), RedisError> {
        let milliseconds = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        self.run(cmd("SET").arg(key).arg(value).arg("PX").arg(milliseconds)).await
    }

    /// Removes keys, each with a command of its own, because a cluster may hold them apart. Returns
    /// the number of keys that existed.
    pub async fn delete(&self, keys: &[Vec<u8>]) -> Result<u64, RedisError> {
        let mut removed = 0;
        for key in keys {
            removed += self.run::<u64>(cmd("DEL").arg(key)).await?;
        }
        Ok(removed)
    }

    /// Asks for a sign of life. Returns the time of the round trip.
    pub async fn ping(&self) -> Result<Duration, RedisError> {
        let asked = Instant::now();
        self.run::<String>(&cmd("PING")).await?;
        Ok(asked.elapsed())
    }

    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let Inner { link, timeout, breakers } = &*self.0;
        let judge = breakers.of(command);
        if !breakers.permits(judge.as_ref()) {
            return Err(RedisError::Open);
        }
        let mut used = None;
        let work = async {
            let current = used.insert(link.current().await?);
            current.handle.run(command).await
        };
        let result = match tokio::time::timeout(*timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(RedisError::TimedOut),
        };
        match &result {
            Err(error) if error.is_failure() => {
                let left_alone = breakers.failed(judge.as_ref(), error);
                if let Some(used) = &used
                    && (left_alone || used.handle.ends_with_its_socket())
                {
                    link.give_up(used);
                }
            }
            _ => Breakers::succeeded(judge.as_ref()),
        }
        result
    }

    /// Runs a command only if Redis is known to be well. After a failure the command is not sent
    /// until another command succeeded, so that nobody waits for it in vain.
    async fn run_if_well<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        if self.0.breakers.of(command).as_ref().is_some_and(Judge::is_doubtful) {
            return Err(RedisError::Open);
        }
        self.run(command).await
    }
}
