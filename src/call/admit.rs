//! How many requests a tenant may make in a minute. A bucket a tenant (GCRA), filled evenly; nothing
//! is shared between tenants, and a tenant without a limit costs one atomic read.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::coherence::TenantView;
use crate::domain::ids::TenantId;

use super::Calls;

/// The time a limit is for, in seconds.
pub const WINDOW_SECONDS: u32 = 60;

/// What a limited tenant may still ask for here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Requests of a minute, this replica's share.
    pub limit: u32,
    /// Requests that may come at once now.
    pub remaining: u32,
    /// When a request is let through again; `None`: this one was.
    pub retry_after: Option<Duration>,
}

impl Allowance {
    /// Seconds until as many as the limit may come at once.
    pub fn reset_seconds(&self) -> u32 {
        let spent = u64::from(self.limit.saturating_sub(self.remaining));
        let seconds = (spent * u64::from(WINDOW_SECONDS)).div_ceil(u64::from(self.limit.max(1)));
        u32::try_from(seconds).unwrap_or(WINDOW_SECONDS)
    }
}

struct Bucket {
    limit: NonZeroU32,
    /// Of governor's own, monotonic clock: a clock set back must not shut a tenant out.
    gcra: RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>,
}

impl Bucket {
    fn new(limit: NonZeroU32) -> Self {
        let gcra = RateLimiter::direct(Quota::per_minute(limit));
        Self { limit, gcra: gcra.with_middleware() }
    }

    /// One of another size, spent as far as `before` was: a limit that is changed, also because
    /// replicas come and go, gives nobody a full bucket.
    fn resized(limit: NonZeroU32, before: &Self) -> Self {
        let bucket = Self::new(limit);
        let old = before.take();
        let spent = u64::from(old.limit - old.remaining.min(old.limit)) * u64::from(limit.get());
        let spent = spent.div_ceil(u64::from(old.limit.max(1)));
        if let Some(spent) = u32::try_from(spent).ok().and_then(NonZeroU32::new) {
            // It fits: it is at most the new limit.
            let _spent = bucket.gcra.check_n(spent);
        }
        bucket
    }

    fn take(&self) -> Allowance {
        let limit = self.limit.get();
        match self.gcra.check() {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                Allowance { limit, remaining, retry_after: None }
            }
            Err(until) => {
                let wait = until.wait_time_from(DefaultClock::default().now());
                Allowance { limit, remaining: 0, retry_after: Some(wait) }
            }
        }
    }
}

/// The buckets of this process.
#[derive(Default)]
pub(super) struct Quotas {
    /// Replaced whole when a limit is first seen or changed, which is rare; reading it never waits.
    buckets: ArcSwap<HashMap<TenantId, Arc<Bucket>>>,
    /// Held while a bucket is replaced, by whoever sees the change first.
    replacing: Mutex<()>,
}

impl Quotas {
    fn take(&self, tenant: TenantId, per_minute: NonZeroU32, replicas: u32) -> Allowance {
        let share = per_minute.get().div_ceil(replicas.max(1));
        let share = NonZeroU32::new(share).unwrap_or(NonZeroU32::MIN);
        if let Some(bucket) = self.buckets.load().get(&tenant)
            && bucket.limit == share
        {
            return bucket.take();
        }
        self.replace(tenant, share).take()
    }

    fn replace(&self, tenant: TenantId, limit: NonZeroU32) -> Arc<Bucket> {
        let _one_at_a_time = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = self.buckets.load();
        let bucket = match buckets.get(&tenant) {
            Some(bucket) if bucket.limit == limit => return Arc::clone(bucket),
            Some(bucket) => Bucket::resized(limit, bucket),
            None => Bucket::new(limit),
        };
        let bucket = Arc::new(bucket);
        let mut buckets = HashMap::clone(&buckets);
        buckets.insert(tenant, Arc::clone(&bucket));
        self.buckets.store(Arc::new(buckets));
        bucket
    }
}

impl Calls {
    /// Takes one request of a tenant out of its minute, which it has of all replicas that serve.
    /// `None`: the tenant has no limit.
    pub fn admit(&self, view: &TenantView) -> Option<Allowance> {
        let per_minute = NonZeroU32::new(view.requests_per_minute())?;
        Some(self.quotas.take(view.id(), per_minute, self.parts.coherence.live_replicas()))
    }
}
