//! The series of the cache: answers, contents, removals, and whether freshness is proven.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};

use crate::domain::entry::Tier;
use crate::domain::money::Usd;

use super::{Metrics, counter, gauge, histogram, names};

/// The reason why entries were removed from Postgres without a request for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// Nobody can be given these entries any more.
    Unusable,
    /// There were too many entries, and these were used least recently.
    Idle,
}

impl Eviction {
    const ALL: [Self; 2] = [Self::Unusable, Self::Idle];

    const fn name(self) -> &'static str {
        match self {
            Self::Unusable => "unusable",
            Self::Idle => "idle",
        }
    }

    fn label(self) -> [KeyValue; 1] {
        [KeyValue::new(names::REASON, self.name())]
    }
}

/// The prepared labels of answers, which are recorded with every answer.
struct AnswerAttributes {
    tiers: [[KeyValue; 1]; Tier::ALL.len()],
    hit: [KeyValue; 1],
    miss: [KeyValue; 1],
    other: [KeyValue; 1],
}

/// The instruments of the cache.
pub(super) struct CacheSeries {
    labels: AnswerAttributes,
    answered_hits: Arc<AtomicU64>,
    answered_misses: Arc<AtomicU64>,
    hits: Counter<u64>,
    misses: Counter<u64>,
    stale: Counter<u64>,
    response_time: Histogram<f64>,
    memory_usage: Gauge<u64>,
    memory_limit: Gauge<u64>,
    hot_entries: Gauge<u64>,
    hot_sweeps: Counter<u64>,
    proven: Gauge<u64>,
    unproven: Gauge<f64>,
    collapsed: Counter<u64>,
    stored: Counter<u64>,
    invalidations: Counter<u64>,
    evicted: Counter<u64>,
    cost_saved: Counter<f64>,
    tokens_saved: Counter<u64>,
}

impl CacheSeries {
    pub(super) fn new(meter: &Meter) -> Self {
        let answered_hits = Arc::new(AtomicU64::new(0));
        let answered_misses = Arc::new(AtomicU64::new(0));
        observe_hit_rate(meter, Arc::clone(&answered_hits), Arc::clone(&answered_misses));
        let label = |value: &'static str| [KeyValue::new(names::RESULT, value)];
        Self {
            labels: AnswerAttributes {
                tiers: Tier::ALL.map(|tier| [KeyValue::new(names::TIER, tier.name())]),
                hit: label("hit"),
                miss: label("miss"),
                other: label("other"),
            },
            answered_hits,
            answered_misses,
            hits: counter(meter, names::HITS),
            misses: counter(meter, names::MISSES),
            stale: counter(meter, names::STALE),
            response_time: histogram(meter, names::RESPONSE_TIME),
            memory_usage: gauge(meter, names::MEMORY_USAGE),
            memory_limit: gauge(meter, names::MEMORY_LIMIT),
            hot_entries: gauge(meter, names::HOT_ENTRIES),
            hot_sweeps: counter(meter, names::HOT_SWEEPS),
            proven: gauge(meter, names::PROVEN),
            unproven: meter.f64_gauge(names::UNPROVEN).build(),
            collapsed: counter(meter, names::COLLAPSED),
            stored: counter(meter, names::STORED),
            invalidations: counter(meter, names::INVALIDATIONS),
            evicted: counter(meter, names::EVICTED),
            cost_saved: meter.f64_counter(names::COST_SAVED).build(),
            tokens_saved: counter(meter, names::TOKENS_SAVED),
        }
    }

    /// Gives the series that alert rules read their first value, so that they exist from the start.
    pub(super) fn begin(&self) {
        for tier in &self.labels.tiers {
            self.hits.add(0, tier);
        }
        for reason in Eviction::ALL {
            self.evicted.add(0, &reason.label());
        }
        let Self { misses, stale, hot_sweeps, collapsed, stored, .. } = self;
        let Self { invalidations, tokens_saved, .. } = self;
        for counter in [misses, stale, hot_sweeps, collapsed, stored, invalidations, tokens_saved] {
            counter.add(0, &[]);
        }
        self.cost_saved.add(0.0, &[]);
    }
}

impl Metrics {
    /// Returns the share of hits among all answers. Returns 0 if there were none.
    pub fn hit_rate(&self) -> f64 {
        rate(&self.cache.answered_hits, &self.cache.answered_misses)
    }

    /// Counts a query that a tier answered.
    pub fn hit(&self, tier: Tier, elapsed_us: u64) {
        let cache = &self.cache;
        cache.answered_hits.fetch_add(1, Ordering::Relaxed);
        cache.hits.add(1, &cache.labels.tiers[tier.index()]);
        cache.response_time.record(milliseconds(elapsed_us), &cache.labels.hit);
    }

    /// Counts a hit whose answer was past its time.
    pub fn stale(&self) {
        self.cache.stale.add(1, &[]);
    }

    /// Counts a query that was not in the cache.
    pub fn miss(&self, elapsed_us: u64) {
        let cache = &self.cache;
        cache.answered_misses.fetch_add(1, Ordering::Relaxed);
        cache.misses.add(1, &[]);
        cache.response_time.record(milliseconds(elapsed_us), &cache.labels.miss);
    }

    /// Counts a query that passed the cache by, or failed.
    pub fn other(&self, elapsed_us: u64) {
        self.cache.response_time.record(milliseconds(elapsed_us), &self.cache.labels.other);
    }

    /// Adds what a hit saved.
    pub fn saved(&self, tokens: u64, cost: Usd) {
        self.cache.tokens_saved.add(tokens, &[]);
        self.cache.cost_saved.add(dollars(cost), &[]);
    }

    /// Sets the bytes of the hot tier, its limit and its entries.
    pub fn hot_tier(&self, bytes: u64, limit: u64, entries: usize) {
        self.cache.memory_usage.record(bytes, &[]);
        self.cache.memory_limit.record(limit, &[]);
        self.cache.hot_entries.record(u64::try_from(entries).unwrap_or(u64::MAX), &[]);
    }

    /// Counts a walk through the hot tier that frees the memory of invalidated entries.
    pub fn hot_sweep(&self) {
        self.cache.hot_sweeps.add(1, &[]);
    }

    /// Sets the time for which it has not been proven that no invalidation was missed. `None` means
    /// that it is proven.
    pub fn unproven(&self, since: Option<Duration>) {
        self.cache.proven.record(u64::from(since.is_none()), &[]);
        self.cache.unproven.record(since.unwrap_or_default().as_secs_f64(), &[]);
    }

    /// Counts a miss that another caller's fetch answered.
    pub fn collapsed(&self) {
        self.cache.collapsed.add(1, &[]);
    }

    /// Counts a stored answer.
    pub fn stored(&self) {
        self.cache.stored.add(1, &[]);
    }

    /// Counts entries that an invalidation removed.
    pub fn invalidated(&self, count: u64) {
        self.cache.invalidations.add(count, &[]);
    }

    /// Counts entries that an eviction removed from Postgres.
    pub fn evicted(&self, reason: Eviction, count: u64) {
        self.cache.evicted.add(count, &reason.label());
    }
}

fn observe_hit_rate(meter: &Meter, hits: Arc<AtomicU64>, misses: Arc<AtomicU64>) {
    // The provider keeps the callback, so the handle is not needed.
    let _gauge = meter
        .f64_observable_gauge(names::HIT_RATE)
        .with_callback(move |gauge| gauge.observe(rate(&hits, &misses), &[]))
        .build();
}

#[expect(clippy::cast_precision_loss, reason = "counters stay far below 2^53")]
fn rate(hits: &AtomicU64, misses: &AtomicU64) -> f64 {
    let hits = hits.load(Ordering::Relaxed);
    let all = hits + misses.load(Ordering::Relaxed);
    if all == 0 { 0.0 } else { hits as f64 / all as f64 }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a reply stay far below 2^53")]
fn milliseconds(us: u64) -> f64 {
    us as f64 / 1_000.0
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a series for people; money is kept exactly elsewhere"
)]
fn dollars(cost: Usd) -> f64 {
    cost.0 as f64 / 1e12
}
