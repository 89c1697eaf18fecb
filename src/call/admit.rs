//! Limits how many requests a tenant may make in a minute. Each tenant has a bucket (GCRA) that
//! fills evenly. Tenants share nothing, and a tenant without a limit costs one atomic read.

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

/// The time that a limit is for, in seconds.
pub const WINDOW_SECONDS: u32 = 60;

/// The requests that a limited tenant may still make on this replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// The requests of a minute that are this replica's share.
    pub limit: u32,
    /// The requests that may come at once now.
    pub remaining: u32,
    /// The time after which a request is let through again. `None` means that this request was let
    /// through.
    pub retry_after: Option<Duration>,
}

impl Allowance {
    /// Returns the seconds until as many requests as the limit may come at once.
    pub fn reset_seconds(&self) -> u32 {
        let spent = u64::from(self.limit.saturating_sub(self.remaining));
        let seconds = (spent * u64::from(WINDOW_SECONDS)).div_ceil(u64::from(self.limit.max(1)));
        u32::try_from(seconds).unwrap_or(WINDOW_SECONDS)
    }
}

struct Bucket {
    limit: NonZeroU32,
    /// The limiter. It uses the monotonic clock of `governor`, so that a clock that is set back
    /// shuts no tenant out.
    gcra: RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>,
}

impl Bucket {
    fn new(limit: NonZeroU32) -> Self {
        let gcra = RateLimiter::direct(Quota::per_minute(limit));
        Self { limit, gcra: gcra.with_middleware() }
    }

    /// Makes a bucket of another size that is spent as far as `before` was. So a limit that
    /// changes, also because replicas come and go, gives nobody a full bucket.
    fn resized(limit: NonZeroU32, before: &Self) -> Self {
        let bucket = Self::new(limit);
        let old = before.take();
        let spent = u64::from(old.limit - old.remaining.min(old.limit)) * u64::from(limit.get());
        let spent = spent.div_ceil(u64::from(old.limit.max(1)));
        if let Some(spent) = u32::try_from(spent).ok().and_then(NonZeroU32::new) {
            // The spent part fits, because it is at most the new limit.
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
    /// The map is replaced as a whole when a limit is first seen or changed, which is rare. Reading
    /// it never waits.
    buckets: ArcSwap<HashMap<TenantId, Arc<Bucket>>>,
    /// The lock is held while a bucket is replaced, by the request that sees the change first.
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
    /// Takes one request out of a tenant's minute. All serving replicas share the minute evenly.
    /// Returns `None` if the tenant has no limit.
    pub fn admit(&self, view: &TenantView) -> Option<Allowance> {
        let per_minute = NonZeroU32::new(view.requests_per_minute())?;
        Some(self.quotas.take(view.id(), per_minute, self.parts.coherence.live_replicas()))
    }
}
