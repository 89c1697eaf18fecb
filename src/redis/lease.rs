//! Leases: they say which replica fetches a missing answer for all. They only save calls of the
//! upstream: what is stored is right without them, and a replica waits only when Redis says that
//! another one holds the lease.

use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::redis::cmd;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::domain::selector::{Generation, Position};
use crate::telemetry::Metrics;

use super::Redis;

/// The time that a lease lasts unless it is renewed. A killed replica costs the others this long.
const TERM: Duration = Duration::from_secs(3);

/// The time between two renewals by a holder. Two in a row may fail.
pub const RENEWAL: Duration = Duration::from_secs(1);

/// Takes a lease that is free, has an unknown form, or is held by ARGV[2]. Returns the other holder
/// if there is one.
const CLAIM: &str = "local held = redis.call('GET', KEYS[1])
if held and #held == #ARGV[1] and held ~= ARGV[2] then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return false";

const RENEW: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then
return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0";

const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then
return redis.call('DEL', KEYS[1]) end
return 0";

/// A lease's name in Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseName(Vec<u8>);

impl LeaseName {
    /// Makes the name of the lease of the answer under a Redis key. The answer of another
    /// generation has another lease.
    pub fn of(redis_key: [u8; 32], generation: Generation) -> Self {
        Self([b"ai-cache:lease:".as_slice(), &redis_key, &generation.0.to_be_bytes()].concat())
    }
}

/// A flight that has a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The flight's own id.
    pub id: Uuid,
    /// The position of its replica when it began. The flight stores nothing that was invalidated
    /// since.
    pub position: Position,
}

impl Holder {
    fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        let (id, position) = bytes.split_at_mut(16);
        id.copy_from_slice(self.id.as_bytes());
        position.copy_from_slice(&self.position.0.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (id, position) = bytes.split_first_chunk()?;
        let position = Position(i64::from_be_bytes(position.try_into().ok()?));
        Some(Self { id: Uuid::from_bytes(*id), position })
    }
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The claimant has the lease.
    Taken,
    /// Another flight holds the lease.
    HeldBy(Holder),
    /// Nothing is known: there is no Redis, or it does not say.
    Unknown,
}

/// Hands out leases.
pub trait Leases: Send + Sync + 'static {
    /// Takes a lease that is free or held by `instead_of`.
    fn claim<'a>(
        &'a self,
        name: &'a LeaseName,
        holder: Holder,
        instead_of: Option<Holder>,
    ) -> BoxFuture<'a, Claim>;

    /// Keeps a lease, if the holder still has it.
    fn renew<'a>(&'a self, name: &'a LeaseName, holder: Holder) -> BoxFuture<'a, ()>;

    /// Gives a lease back, if the holder still has it.
    fn release<'a>(&'a self, name: &'a LeaseName, holder: Holder) -> BoxFuture<'a, ()>;
}

/// The leases for a service without Redis. Each replica fetches by itself.
#[derive(Debug, Clone, Copy)]
pub struct LeasesOff;

impl Leases for LeasesOff {
    fn claim<'a>(&'a self, _: &'a LeaseName, _: Holder, _: Option<Holder>) -> BoxFuture<'a, Claim> {
        Box::pin(std::future::ready(Claim::Unknown))
    }

    fn renew<'a>(&'a self, _: &'a LeaseName, _: Holder) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    fn release<'a>(&'a self, _: &'a LeaseName, _: Holder) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Leases in Redis.
pub struct RedisLeases {
    redis: Redis,
    metrics: Arc<Metrics>,
}

impl RedisLeases {
    /// Makes the leases of this Redis.
    pub const fn new(redis: Redis, metrics: Arc<Metrics>) -> Self {
        Self { redis, metrics }
    }

    async fn run_held(&self, script: &str, name: &LeaseName, holder: Holder) {
        let term = u64::try_from(TERM.as_millis()).unwrap_or(u64::MAX);
        let mut command = cmd("EVAL");
        command.arg(script).arg(1).arg(&name.0).arg(&holder.encode()).arg(term);
        if self.redis.run::<i64>(&command).await.is_err() {
            self.metrics.redis_error();
        }
    }
}

impl Leases for RedisLeases {
    fn claim<'a>(
        &'a self,
        name: &'a LeaseName,
        holder: Holder,
        instead_of: Option<Holder>,
    ) -> BoxFuture<'a, Claim> {
        Box::pin(async move {
            let term = u64::try_from(TERM.as_millis()).unwrap_or(u64::MAX);
            let outdated = instead_of.map_or_else(Vec::new, |holder| holder.encode().to_vec());
            let mut command = cmd("EVAL");
            command.arg(CLAIM).arg(1).arg(&name.0).arg(&holder.encode()).arg(outdated).arg(term);
            match self.redis.run_if_well::<Option<Vec<u8>>>(&command).await {
                Ok(None) => Claim::Taken,
                Ok(Some(bytes)) => Holder::decode(&bytes).map_or(Claim::Unknown, Claim::HeldBy),
                Err(_) => {
                    self.metrics.redis_error();
                    Claim::Unknown
                }
            }
        })
    }

    fn renew<'a>(&'a self, name: &'a LeaseName, holder: Holder) -> BoxFuture<'a, ()> {
        Box::pin(self.run_held(RENEW, name, holder))
    }

    fn release<'a>(&'a self, name: &'a LeaseName, holder: Holder) -> BoxFuture<'a, ()> {
        Box::pin(self.run_held(RELEASE, name, holder))
    }
}
