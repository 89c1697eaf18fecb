//! Redis, single or cluster, and the only user of its crates. It may be down, hung, flushed or
//! full: every command has a limit and a breaker, and nobody notices but by slower answers.

mod handle;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use chrono::TimeDelta;
use deadpool_redis::redis::{Cmd, ErrorKind, FromRedisValue, cmd};
use tokio::sync::Mutex;

use crate::domain::breaker::Breaker;
use crate::domain::clock::Clock;

use handle::{Handle, Pool};

/// Failures in a row after which Redis is left alone, and for how long.
const FAILURES: u32 = 5;
const PAUSE: TimeDelta = TimeDelta::seconds(1);

/// How to reach Redis.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// One: a single server. Several: nodes of a cluster.
    pub urls: Vec<String>,
    /// Longest time of a command, with connecting.
    pub timeout: Duration,
}

/// Why Redis did not do what was asked. Names no key and no value.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// A URL is not one of Redis.
    #[error("a Redis URL is malformed")]
    InvalidUrl,
    /// No answer within the limit.
    #[error("Redis did not answer within its limit")]
    TimedOut,
    /// Not reachable, or the connection broke.
    #[error("Redis is out of reach")]
    Unreachable,
    /// It failed too often a moment ago and is left alone.
    #[error("Redis is left alone after failures")]
    Open,
    /// It answered with an error of its own.
    #[error("Redis refused the command ({code})")]
    Refused {
        /// The error's first word: READONLY, OOM…
        code: String,
    },
}

/// A client of Redis. Clones share its connections.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    pool: Pool,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    breaker: Breaker,
    /// One multiplexed connection that every command shares: checking one out for each command
    /// costs two to three times as much. Replaced whole when it breaks.
    shared: ArcSwapOption<Handle>,
    /// Held while connecting, so that a broken connection is replaced once.
    connecting: Mutex<()>,
}

impl Redis {
    /// Checks the URLs. Connects when it is first used.
    pub fn new(settings: &RedisSettings, clock: Arc<dyn Clock>) -> Result<Self, RedisError> {
        Ok(Self(Arc::new(Inner {
            pool: Pool::new(&settings.urls)?,
            timeout: settings.timeout,
            clock,
            breaker: Breaker::new(FAILURES, PAUSE),
            shared: ArcSwapOption::empty(),
            connecting: Mutex::new(()),
        })))
    }

    /// The value of a key.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RedisError> {
        let value: Option<Vec<u8>> = self.run(cmd("GET").arg(key)).await?;
        Ok(value.map(Bytes::from))
    }

    /// Sets a key for `ttl`, at least a millisecond.
    pub async fn set(&self, key: &[u8], value: &[u8], ttl: Duration) -> Result<(), RedisError> {
        let milliseconds = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        self.run(cmd("SET").arg(key).arg(value).arg("PX").arg(milliseconds)).await
    }

    /// Removes keys, each with a command of its own since a cluster may hold them apart; returns
    /// how many were there.
    pub async fn delete(&self, keys: &[Vec<u8>]) -> Result<u64, RedisError> {
        let mut removed = 0;
        for key in keys {
            removed += self.run::<u64>(cmd("DEL").arg(key)).await?;
        }
        Ok(removed)
    }

    /// Asks for a sign of life; returns the round trip.
    pub async fn ping(&self) -> Result<Duration, RedisError> {
        let asked = Instant::now();
        self.run::<String>(&cmd("PING")).await?;
        Ok(asked.elapsed())
    }

    /// Whether Redis is left alone just now.
    pub fn is_open(&self) -> bool {
        self.0.breaker.is_open(self.0.clock.now())
    }

    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let inner = &*self.0;
        if !inner.breaker.permits(inner.clock.now()) {
            return Err(RedisError::Open);
        }
        let mut used = None;
        let work = async {
            let handle = inner.handle().await?;
            used = Some(Arc::clone(&handle));
            handle.run(command).await
        };
        let result = match tokio::time::timeout(inner.timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(RedisError::TimedOut),
        };
        match &result {
            Ok(_) | Err(RedisError::Refused { .. }) => inner.breaker.succeeded(),
            Err(_) => {
                inner.breaker.failed(inner.clock.now());
                if let Some(used) = used {
                    inner.forget(&used);
                }
            }
        }
        result
    }
}

impl Inner {
    async fn handle(&self) -> Result<Arc<Handle>, RedisError> {
        if let Some(handle) = self.shared.load_full() {
            return Ok(handle);
        }
        let _once = self.connecting.lock().await;
        if let Some(handle) = self.shared.load_full() {
            return Ok(handle);
        }
        let handle = Arc::new(self.pool.connect().await?);
        self.shared.store(Some(Arc::clone(&handle)));
        Ok(handle)
    }

    /// Stops using a connection that failed, unless it was replaced already.
    fn forget(&self, handle: &Arc<Handle>) {
        self.shared.compare_and_swap(&Some(Arc::clone(handle)), None);
    }
}

/// What kind of failure an error of the library is.
fn classify(error: &deadpool_redis::redis::RedisError) -> RedisError {
    if error.is_timeout() {
        return RedisError::TimedOut;
    }
    match (error.kind(), error.code()) {
        (ErrorKind::Server(_) | ErrorKind::Extension, code) => {
            RedisError::Refused { code: code.unwrap_or("ERR").to_owned() }
        }
        _ => RedisError::Unreachable,
    }
}
