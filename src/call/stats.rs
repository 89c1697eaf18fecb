//! Live counters of each tenant and operation since the process began. Counting costs a few atomic
//! additions; reading adds the counters up.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};

use crate::domain::entry::Tier;
use crate::domain::ids::TenantId;
use crate::domain::money::Usd;
use crate::domain::operation::Operation;

/// Each doubling of the response time has eight buckets, so percentiles are within 9 %.
const STEPS_PER_DOUBLING: f64 = 8.0;
const BUCKETS: usize = 240;

/// Counters of all tenants.
pub struct Stats {
    /// The time when counting began.
    pub since: DateTime<Utc>,
    /// The map is replaced as a whole when a tenant is first counted, which is rare. Reading it
    /// never waits.
    tenants: ArcSwap<HashMap<TenantId, Arc<TenantStats>>>,
}

/// Counters of one tenant.
#[derive(Default)]
pub struct TenantStats {
    operations: [OperationStats; Operation::ALL.len()],
    invalidations: AtomicU64,
}

/// Counters of one operation.
#[derive(Default)]
pub struct OperationStats {
    hits: [AtomicU64; Tier::ALL.len()],
    misses: AtomicU64,
    errors: AtomicU64,
    upstream_calls: AtomicU64,
    collapsed: AtomicU64,
    tokens_saved: AtomicU64,
    cost_saved: AtomicU64,
    response_us: AtomicU64,
    responses: Histogram,
}

struct Histogram([AtomicU64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// The counters, added up.
#[derive(Debug, Clone, PartialEq)]
pub struct Totals {
    /// Answers from each tier.
    pub hits: [u64; Tier::ALL.len()],
    /// Answers from the upstream, and questions without an answer.
    pub misses: u64,
    /// Failed queries.
    pub errors: u64,
    /// Calls of the upstream.
    pub upstream_calls: u64,
    /// Answers shared with another caller's fetch.
    pub collapsed: u64,
    /// Tokens that were not bought again.
    pub tokens_saved: u64,
    /// Money that was not spent again.
    pub cost_saved: Usd,
    /// Sum of all response times in microseconds.
    pub response_us: u64,
    buckets: [u64; BUCKETS],
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            hits: [0; Tier::ALL.len()],
            misses: 0,
            errors: 0,
            upstream_calls: 0,
            collapsed: 0,
            tokens_saved: 0,
            cost_saved: Usd::default(),
            response_us: 0,
            buckets: [0; BUCKETS],
        }
    }
}

impl Stats {
    pub(super) fn new(since: DateTime<Utc>) -> Self {
        Self { since, tenants: ArcSwap::default() }
    }

    /// Returns the counters of a tenant.
    pub fn tenant(&self, id: TenantId) -> Arc<TenantStats> {
        if let Some(stats) = self.tenants.load().get(&id) {
            return Arc::clone(stats);
        }
        let fresh = Arc::new(TenantStats::default());
        self.tenants.rcu(|tenants| {
            let mut tenants = HashMap::clone(tenants);
            tenants.entry(id).or_insert_with(|| Arc::clone(&fresh));
            tenants
        });
        self.tenants.load().get(&id).map_or(fresh, Arc::clone)
    }
}

impl TenantStats {
    /// Returns the counters of an operation.
    pub const fn operation(&self, operation: Operation) -> &OperationStats {
        &self.operations[operation.index()]
    }

    /// Counts removed entries.
    pub fn invalidated(&self, count: u64) {
        self.invalidations.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the number of entries that invalidations removed.
    pub fn invalidations(&self) -> u64 {
        self.invalidations.load(Ordering::Relaxed)
    }

    /// Adds up the counters of one operation, or of all.
    pub fn totals(&self, only: Option<Operation>) -> Totals {
        let mut totals = Totals::default();
        for operation in Operation::ALL {
            if only.is_none_or(|wanted| wanted == operation) {
                self.operation(operation).add_to(&mut totals);
            }
        }
        totals
    }
}

impl OperationStats {
    /// Counts an answer from a tier and what it saved.
    pub fn hit(&self, tier: Tier, tokens: u64, cost: Usd) {
        self.hits[tier.index()].fetch_add(1, Ordering::Relaxed);
        self.tokens_saved.fetch_add(tokens, Ordering::Relaxed);
        self.cost_saved.fetch_add(cost.0, Ordering::Relaxed);
    }

    /// Counts an answer that was not cached.
    pub fn miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a miss that another caller's fetch answered.
    pub fn collapsed(&self) {
        self.collapsed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a query without a reply.
    pub fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call of the upstream.
    pub fn upstream_call(&self) {
        self.upstream_calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the response time of a reply.
    pub fn responded(&self, elapsed_us: u64) {
        self.response_us.fetch_add(elapsed_us, Ordering::Relaxed);
        self.responses.0[bucket(elapsed_us)].fetch_add(1, Ordering::Relaxed);
    }

    fn add_to(&self, totals: &mut Totals) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (total, counter) in totals.hits.iter_mut().zip(&self.hits) {
            *total += read(counter);
        }
        totals.misses += read(&self.misses);
        totals.errors += read(&self.errors);
        totals.upstream_calls += read(&self.upstream_calls);
        totals.collapsed += read(&self.collapsed);
        totals.tokens_saved += read(&self.tokens_saved);
        totals.cost_saved = totals.cost_saved + Usd(read(&self.cost_saved));
        totals.response_us += read(&self.response_us);
        for (total, counter) in totals.buckets.iter_mut().zip(&self.responses.0) {
            *total += read(counter);
        }
    }
}

impl Totals {
    /// Returns the answers from all tiers.
    pub fn all_hits(&self) -> u64 {
        self.hits.iter().sum()
    }

    /// Returns the share of hits among all answers. Returns 0 if there were none.
    pub fn hit_rate(&self) -> f64 {
        ratio(self.all_hits(), self.all_hits() + self.misses)
    }

    /// Returns the mean response time in milliseconds. Returns 0 if there were no replies.
    pub fn mean_ms(&self) -> f64 {
        ratio(self.response_us, self.buckets.iter().sum()) / 1_000.0
    }

    /// Returns the response time in milliseconds that `share` (0 to 1) of the replies did not
    /// exceed. Returns 0 if there were no replies.
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let total: u64 = self.buckets.iter().sum();
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && ratio(seen, total) >= share {
                return upper_bound_us(index) / 1_000.0;
            }
        }
        0.0
    }
}

#[expect(clippy::cast_precision_loss, reason = "counters stay far below 2^53")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a logarithm of microseconds, clamped to the table"
)]
fn bucket(elapsed_us: u64) -> usize {
    let position = (elapsed_us.max(1) as f64).log2() * STEPS_PER_DOUBLING;
    (position.ceil() as usize).min(BUCKETS - 1)
}

#[expect(clippy::cast_precision_loss, reason = "an index below 240")]
fn upper_bound_us(index: usize) -> f64 {
    (index as f64 / STEPS_PER_DOUBLING).exp2()
}
