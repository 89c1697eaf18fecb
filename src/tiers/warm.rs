//! Redis: sealed answers shared by the replicas. Slow or broken, it is a miss; writing to it never
//! delays a reply.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::mpsc;

use crate::domain::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::redis::{Redis, RedisError};
use crate::telemetry::Metrics;
use futures_util::future::BoxFuture;

use super::{StoredAnswer, Wanted, wire};

/// Values that may wait to be written. More are dropped: Redis is a convenience.
const QUEUE: usize = 1_024;

/// The shared tier.
pub trait Warm: Send + Sync + 'static {
    /// What is stored under a name; any failure is a miss.
    fn get<'a>(
        &'a self,
        redis_key: [u8; 32],
        wanted: &'a Wanted,
    ) -> BoxFuture<'a, Option<StoredAnswer>>;

    /// Stores an answer some time soon.
    fn put(&self, redis_key: [u8; 32], stored: &StoredAnswer);

    /// Removes what is stored under a name, or fails.
    fn remove(&self, redis_key: [u8; 32]) -> BoxFuture<'_, Result<(), RedisError>>;

    /// Round trip, `None` when there is no such tier.
    fn ping(&self) -> BoxFuture<'_, Option<Result<Duration, RedisError>>>;
}

/// No Redis is configured.
#[derive(Debug, Clone, Copy)]
pub struct WarmOff;

impl Warm for WarmOff {
    fn get<'a>(&'a self, _: [u8; 32], _: &'a Wanted) -> BoxFuture<'a, Option<StoredAnswer>> {
        Box::pin(std::future::ready(None))
    }

    fn put(&self, _: [u8; 32], _: &StoredAnswer) {}

    fn remove(&self, _: [u8; 32]) -> BoxFuture<'_, Result<(), RedisError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn ping(&self) -> BoxFuture<'_, Option<Result<Duration, RedisError>>> {
        Box::pin(std::future::ready(None))
    }
}

struct Write {
    key: Vec<u8>,
    value: Bytes,
    expires_at: DateTime<Utc>,
}

/// Redis as the shared tier.
pub struct RedisTier {
    redis: Redis,
    metrics: Arc<Metrics>,
    writes: mpsc::Sender<Write>,
}

impl RedisTier {
    /// Starts the task that writes.
    pub fn start(
        redis: Redis,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        lifecycle: &Lifecycle,
    ) -> Self {
        // Bounded and lossy: a reply never waits for Redis. The task ends with the service; what
        // is still queued then is only missing from Redis.
        let (writes, queue) = mpsc::channel(QUEUE);
        let tier = Self { redis: redis.clone(), metrics: Arc::clone(&metrics), writes };
        lifecycle.spawn(write_all(queue, redis, clock, metrics, lifecycle.clone()));
        tier
    }
}

/// Redis keys carry a prefix so that the installation's own can be told from others'.
fn name(redis_key: [u8; 32]) -> Vec<u8> {
    [b"ai-cache:".as_slice(), &redis_key].concat()
}

async fn write_all(
    mut queue: mpsc::Receiver<Write>,
    redis: Redis,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    lifecycle: Lifecycle,
) {
    loop {
        let write = tokio::select! {
            () = lifecycle.stopping() => return,
            write = queue.recv() => write,
        };
        let Some(write) = write else { return };
        let Ok(ttl) = (write.expires_at - clock.now()).to_std() else {
            continue;
        };
        if redis.set(&write.key, &write.value, ttl).await.is_err() {
            metrics.redis_error();
        }
    }
}

impl Warm for RedisTier {
    fn get<'a>(
        &'a self,
        redis_key: [u8; 32],
        wanted: &'a Wanted,
    ) -> BoxFuture<'a, Option<StoredAnswer>> {
        Box::pin(async move {
            let Ok(bytes) = self.redis.get(&name(redis_key)).await else {
                self.metrics.redis_error();
                return None;
            };
            wire::decode(&wanted.place, bytes?)
        })
    }

    fn put(&self, redis_key: [u8; 32], stored: &StoredAnswer) {
        let write = Write {
            key: name(redis_key),
            value: wire::encode(stored),
            expires_at: stored.meta.expires_at,
        };
        if self.writes.try_send(write).is_err() {
            self.metrics.redis_error();
        }
    }

    fn remove(&self, redis_key: [u8; 32]) -> BoxFuture<'_, Result<(), RedisError>> {
        Box::pin(async move { self.redis.delete(&[name(redis_key)]).await.map(drop) })
    }

    fn ping(&self) -> BoxFuture<'_, Option<Result<Duration, RedisError>>> {
        Box::pin(async move { Some(self.redis.ping().await) })
    }
}
