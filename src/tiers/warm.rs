//! The warm tier: sealed answers that the replicas share in Redis. A slow or broken Redis is a
//! miss, and writing to it never delays a reply.

use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::mpsc;

use crate::domain::clock::Clock;
use crate::domain::entry::Windows;
use crate::lifecycle::Lifecycle;
use crate::redis::{Redis, RedisError};
use crate::telemetry::Metrics;
use futures_util::future::{BoxFuture, join_all};

use super::{StoredAnswer, Wanted, WarmName, wire};

/// The most values that may wait to be written. Further ones are dropped, because Redis is a
/// convenience.
const QUEUE: usize = 1_024;

/// The values that are written at the same time, on the connection that all commands share. One
/// after the other, with a round trip each, they would be too slow for a busy service.
const AT_ONCE: usize = 64;

/// The most bytes that are written at the same time, unless one value alone is larger. A reader on
/// that connection waits behind them.
const BYTES_AT_ONCE: usize = 1024 * 1024;

/// A tier that replicas share.
pub trait Warm: Send + Sync + 'static {
    /// Returns the answer under a name. Any failure is a miss.
    fn get<'a>(
        &'a self,
        name: WarmName<'a>,
        wanted: &'a Wanted,
    ) -> BoxFuture<'a, Option<StoredAnswer>>;

    /// Stores an answer soon, without waiting.
    fn put(&self, name: WarmName<'_>, stored: &StoredAnswer);

    /// Removes the answer under a name, or fails.
    fn remove(&self, redis_key: [u8; 32]) -> BoxFuture<'_, Result<(), RedisError>>;

    /// Measures a round trip. Returns `None` if there is no such tier.
    fn ping(&self) -> BoxFuture<'_, Option<Result<Duration, RedisError>>>;
}

/// The tier when no Redis is configured.
#[derive(Debug, Clone, Copy)]
pub struct WarmOff;

impl Warm for WarmOff {
    fn get<'a>(&'a self, _: WarmName<'a>, _: &'a Wanted) -> BoxFuture<'a, Option<StoredAnswer>> {
        Box::pin(std::future::ready(None))
    }

    fn put(&self, _: WarmName<'_>, _: &StoredAnswer) {}

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
    usable_until: DateTime<Utc>,
}

/// The tier in Redis.
pub struct RedisTier {
    redis: Redis,
    metrics: Arc<Metrics>,
    windows: Windows,
    writes: mpsc::Sender<Write>,
}

impl RedisTier {
    /// Makes the tier, and starts the task that writes.
    pub fn start(
        redis: Redis,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        windows: Windows,
        lifecycle: &Lifecycle,
    ) -> Self {
        // The queue is bounded and lossy, because a reply never waits for Redis. The task ends with
        // the service; a value that is still queued then is only missing from Redis.
        let (writes, queue) = mpsc::channel(QUEUE);
        let tier = Self { redis: redis.clone(), metrics: Arc::clone(&metrics), windows, writes };
        lifecycle.spawn(write_all(queue, redis, clock, metrics, lifecycle.clone()));
        tier
    }
}

/// Adds the prefix that tells the installation's keys from others' in Redis.
fn prefixed(redis_key: [u8; 32]) -> Vec<u8> {
    [b"ai-cache:".as_slice(), &redis_key].concat()
}

async fn write_all(
    mut queue: mpsc::Receiver<Write>,
    redis: Redis,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    lifecycle: Lifecycle,
) {
    let mut was_refused = false;
    let mut batch: Vec<Write> = Vec::with_capacity(AT_ONCE);
    loop {
        let count = tokio::select! {
            () = lifecycle.stopping() => return,
            count = queue.recv_many(&mut batch, AT_ONCE) => count,
        };
        if count == 0 {
            return;
        }
        let now = clock.now();
        let mut waiting = batch.drain(..).peekable();
        let (mut is_refused, mut is_kept) = (false, false);
        while waiting.peek().is_some() {
            let writing = take_some(&mut waiting).into_iter().filter_map(|write| {
                let ttl = (write.usable_until - now).to_std().ok()?;
                let redis = &redis;
                Some(async move { redis.set(&write.key, &write.value, ttl).await })
            });
            for written in join_all(writing).await {
                is_kept |= written.is_ok();
                let Err(error) = written else { continue };
                metrics.redis_error();
                // The breaker tells of other failures.
                if matches!(error, RedisError::Refused { .. }) {
                    if !was_refused && !is_refused {
                        tracing::warn!(%error, "Redis keeps no new values");
                    }
                    is_refused = true;
                }
            }
        }
        if was_refused && !is_refused && is_kept {
            tracing::info!("Redis keeps new values again");
        }
        was_refused = is_refused || was_refused && !is_kept;
    }
}

/// Takes the values that are written next, at least one if there is one.
fn take_some(waiting: &mut Peekable<impl Iterator<Item = Write>>) -> Vec<Write> {
    let (mut some, mut bytes) = (Vec::new(), 0);
    while let Some(write) =
        waiting.next_if(|write| bytes == 0 || bytes + write.value.len() <= BYTES_AT_ONCE)
    {
        bytes += write.value.len();
        some.push(write);
    }
    some
}

impl Warm for RedisTier {
    fn get<'a>(
        &'a self,
        name: WarmName<'a>,
        wanted: &'a Wanted,
    ) -> BoxFuture<'a, Option<StoredAnswer>> {
        Box::pin(async move {
            let Ok(bytes) = self.redis.get(&prefixed(name.key)).await else {
                self.metrics.redis_error();
                return None;
            };
            wire::decode(&name, &wanted.place, bytes?)
        })
    }

    fn put(&self, name: WarmName<'_>, stored: &StoredAnswer) {
        let write = Write {
            key: prefixed(name.key),
            value: wire::encode(&name, stored),
            usable_until: self.windows.usable_until(stored.meta.expires_at),
        };
        if self.writes.try_send(write).is_err() {
            self.metrics.redis_error();
        }
    }

    fn remove(&self, redis_key: [u8; 32]) -> BoxFuture<'_, Result<(), RedisError>> {
        Box::pin(async move { self.redis.delete(&[prefixed(redis_key)]).await.map(drop) })
    }

    fn ping(&self) -> BoxFuture<'_, Option<Result<Duration, RedisError>>> {
        Box::pin(async move { Some(self.redis.ping().await) })
    }
}
