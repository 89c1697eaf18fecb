//! Series made with OpenTelemetry and read by Prometheus. Recording takes prepared labels and no
//! lock of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder as _, Registry, TextEncoder};

use crate::domain::entry::Tier;
use crate::domain::money::Usd;

use super::names;

/// Upper bounds in milliseconds.
const BOUNDS_MS: [f64; 17] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0,
    5_000.0, 10_000.0, 30_000.0,
];

/// Why there are no series.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The exporter cannot be made.
    #[error("the metrics exporter cannot be made")]
    Exporter(#[from] opentelemetry_sdk::error::OTelSdkError),
    /// The series cannot be written.
    #[error("the series cannot be written")]
    Render(#[from] prometheus::Error),
    /// The series are no text.
    #[error("the series are no text")]
    Text(#[from] std::string::FromUtf8Error),
}

/// How a call of the upstream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamOutcome {
    /// With an answer.
    Ok,
    /// Without one.
    Error,
    /// Not in time.
    Timeout,
}

impl UpstreamOutcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
}

/// Why a request has no caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthFailure {
    /// No or no single bearer token.
    Missing,
    /// Wrong form or checksum.
    Malformed,
    /// Unknown, wrong, revoked or expired.
    Refused,
    /// The network's limit.
    Limited,
    /// Not to be verified now.
    Unavailable,
}

impl AuthFailure {
    const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Labels of answers, prepared: they are recorded with every one.
struct Labels {
    tiers: [[KeyValue; 1]; Tier::ALL.len()],
    hit: [KeyValue; 1],
    miss: [KeyValue; 1],
    other: [KeyValue; 1],
}

/// Every instrument.
pub struct Metrics {
    registry: Registry,
    /// Keeps the instruments' readers alive.
    _provider: SdkMeterProvider,
    labels: Labels,
    answered_hits: Arc<AtomicU64>,
    answered_misses: Arc<AtomicU64>,
    requests: Counter<u64>,
    hits: Counter<u64>,
    misses: Counter<u64>,
    response_time: Histogram<f64>,
    memory_usage: Gauge<u64>,
    memory_limit: Gauge<u64>,
    hot_entries: Gauge<u64>,
    upstream_calls: Counter<u64>,
    collapsed: Counter<u64>,
    stored: Counter<u64>,
    invalidations: Counter<u64>,
    cost_saved: Counter<f64>,
    tokens_saved: Counter<u64>,
    audit_records: Counter<u64>,
    audit_batches: Counter<u64>,
    audit_failures: Counter<u64>,
    audit_commit: Histogram<f64>,
    audit_available: Gauge<u64>,
    audit_spooled: Counter<u64>,
    audit_spool_bytes: Gauge<u64>,
    audit_spool_torn: Counter<u64>,
    audit_seal_lag: Gauge<u64>,
    audit_findings: Gauge<u64>,
    audit_verified: Gauge<u64>,
    audit_default_rows: Gauge<u64>,
    integrity_failures: Counter<u64>,
    redis_errors: Counter<u64>,
    auth_failures: Counter<u64>,
}

fn histogram(meter: &Meter, name: &'static str) -> Histogram<f64> {
    meter.f64_histogram(name).with_boundaries(BOUNDS_MS.to_vec()).build()
}

impl Metrics {
    /// Makes every instrument.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_units()
            .without_counter_suffixes()
            .without_target_info()
            .scope_info_enabled(false)
            .build()?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("ai-cache");
        let counter = |name: &'static str| meter.u64_counter(name).build();
        let gauge = |name: &'static str| meter.u64_gauge(name).build();
        let answered_hits = Arc::new(AtomicU64::new(0));
        let answered_misses = Arc::new(AtomicU64::new(0));
        observe_hit_rate(&meter, Arc::clone(&answered_hits), Arc::clone(&answered_misses));
        let label = |value: &'static str| [KeyValue::new(names::RESULT, value)];
        let metrics = Self {
            labels: Labels {
                tiers: Tier::ALL.map(|tier| [KeyValue::new(names::TIER, tier.name())]),
                hit: label("hit"),
                miss: label("miss"),
                other: label("other"),
            },
            answered_hits,
            answered_misses,
            requests: counter(names::REQUESTS),
            hits: counter(names::HITS),
            misses: counter(names::MISSES),
            response_time: histogram(&meter, names::RESPONSE_TIME),
            memory_usage: gauge(names::MEMORY_USAGE),
            memory_limit: gauge(names::MEMORY_LIMIT),
            hot_entries: gauge(names::HOT_ENTRIES),
            upstream_calls: counter(names::UPSTREAM_CALLS),
            collapsed: counter(names::COLLAPSED),
            stored: counter(names::STORED),
            invalidations: counter(names::INVALIDATIONS),
            cost_saved: meter.f64_counter(names::COST_SAVED).build(),
            tokens_saved: counter(names::TOKENS_SAVED),
            audit_records: counter(names::AUDIT_RECORDS),
            audit_batches: counter(names::AUDIT_BATCHES),
            audit_failures: counter(names::AUDIT_FAILURES),
            audit_commit: histogram(&meter, names::AUDIT_COMMIT),
            audit_available: gauge(names::AUDIT_AVAILABLE),
            audit_spooled: counter(names::AUDIT_SPOOLED),
            audit_spool_bytes: gauge(names::AUDIT_SPOOL_BYTES),
            audit_spool_torn: counter(names::AUDIT_SPOOL_TORN),
            audit_seal_lag: gauge(names::AUDIT_SEAL_LAG),
            audit_findings: gauge(names::AUDIT_FINDINGS),
            audit_verified: gauge(names::AUDIT_VERIFIED),
            audit_default_rows: gauge(names::AUDIT_DEFAULT_ROWS),
            integrity_failures: counter(names::INTEGRITY_FAILURES),
            redis_errors: counter(names::REDIS_ERRORS),
            auth_failures: counter(names::AUTH_FAILURES),
            registry,
            _provider: provider,
        };
        metrics.begin();
        Ok(metrics)
    }

    /// Series that alert rules read are there from the start, at zero.
    fn begin(&self) {
        for tier in &self.labels.tiers {
            self.hits.add(0, tier);
        }
        let counters = [
            &self.misses,
            &self.collapsed,
            &self.stored,
            &self.invalidations,
            &self.tokens_saved,
            &self.audit_records,
            &self.audit_batches,
            &self.audit_failures,
            &self.audit_spooled,
            &self.audit_spool_torn,
            &self.integrity_failures,
            &self.redis_errors,
        ];
        for counter in counters {
            counter.add(0, &[]);
        }
        self.cost_saved.add(0.0, &[]);
        self.audit_available.record(1, &[]);
        self.audit_spool_bytes.record(0, &[]);
        self.hot_tier(0, 0, 0);
    }

    /// The series in the text exposition format 0.0.4.
    pub fn render(&self) -> Result<String, MetricsError> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8(text)?)
    }

    /// Hits out of all answers, 0 when there were none.
    pub fn hit_rate(&self) -> f64 {
        rate(&self.answered_hits, &self.answered_misses)
    }

    /// A reply, on a route of ours.
    pub fn request(&self, route: &'static str, status: u16) {
        let class = match status {
            500.. => "5xx",
            400..=499 => "4xx",
            300..=399 => "3xx",
            _ => "2xx",
        };
        let labels =
            [KeyValue::new(names::ROUTE, route), KeyValue::new(names::STATUS_CLASS, class)];
        self.requests.add(1, &labels);
    }

    /// A query answered from a tier.
    pub fn hit(&self, tier: Tier, elapsed_us: u64) {
        self.answered_hits.fetch_add(1, Ordering::Relaxed);
        self.hits.add(1, &self.labels.tiers[tier.index()]);
        self.response_time.record(milliseconds(elapsed_us), &self.labels.hit);
    }

    /// A query that was not in the cache.
    pub fn miss(&self, elapsed_us: u64) {
        self.answered_misses.fetch_add(1, Ordering::Relaxed);
        self.misses.add(1, &[]);
        self.response_time.record(milliseconds(elapsed_us), &self.labels.miss);
    }

    /// A query that passed the cache by, or failed.
    pub fn other(&self, elapsed_us: u64) {
        self.response_time.record(milliseconds(elapsed_us), &self.labels.other);
    }

    /// What a hit saved.
    pub fn saved(&self, tokens: u64, cost: Usd) {
        self.tokens_saved.add(tokens, &[]);
        self.cost_saved.add(dollars(cost), &[]);
    }

    /// The hot tier's bytes, its limit and its entries.
    pub fn hot_tier(&self, bytes: u64, limit: u64, entries: usize) {
        self.memory_usage.record(bytes, &[]);
        self.memory_limit.record(limit, &[]);
        self.hot_entries.record(u64::try_from(entries).unwrap_or(u64::MAX), &[]);
    }

    /// A call of the upstream.
    pub fn upstream_call(&self, outcome: UpstreamOutcome) {
        self.upstream_calls.add(1, &[KeyValue::new(names::OUTCOME, outcome.name())]);
    }

    /// A miss that another caller's fetch answered.
    pub fn collapsed(&self) {
        self.collapsed.add(1, &[]);
    }

    /// An answer stored.
    pub fn stored(&self) {
        self.stored.add(1, &[]);
    }

    /// Entries removed.
    pub fn invalidated(&self, count: u64) {
        self.invalidations.add(count, &[]);
    }

    /// A batch of records made durable.
    pub fn audit_batch(&self, rows: usize, took: Duration) {
        self.audit_records.add(u64::try_from(rows).unwrap_or(u64::MAX), &[]);
        self.audit_batches.add(1, &[]);
        self.audit_commit.record(took.as_secs_f64() * 1_000.0, &[]);
    }

    /// A try that did not make a batch durable.
    pub fn audit_failure(&self) {
        self.audit_failures.add(1, &[]);
    }

    /// Records went to the spool.
    pub fn audit_spooled(&self, rows: usize) {
        self.audit_spooled.add(u64::try_from(rows).unwrap_or(u64::MAX), &[]);
    }

    /// So many bytes wait in the spool.
    pub fn audit_spool_bytes(&self, bytes: u64) {
        self.audit_spool_bytes.record(bytes, &[]);
    }

    /// A segment of the spool ended torn or damaged.
    pub fn audit_spool_torn(&self) {
        self.audit_spool_torn.add(1, &[]);
    }

    /// How old what is not sealed is.
    pub fn audit_seal_lag(&self, lag: Duration) {
        self.audit_seal_lag.record(lag.as_secs(), &[]);
    }

    /// What the last verification found, and when it ended.
    pub fn audit_verified(&self, findings: u64, at: DateTime<Utc>) {
        self.audit_findings.record(findings, &[]);
        self.audit_verified.record(u64::try_from(at.timestamp()).unwrap_or(0), &[]);
    }

    /// How many rows lie in default partitions.
    pub fn audit_default_rows(&self, rows: u64) {
        self.audit_default_rows.record(rows, &[]);
    }

    /// Whether records can be made durable.
    pub fn audit_available(&self, available: bool) {
        self.audit_available.record(u64::from(available), &[]);
    }

    /// A stored value that did not open.
    pub fn integrity_failure(&self) {
        self.integrity_failures.add(1, &[]);
    }

    /// A failed command of Redis.
    pub fn redis_error(&self) {
        self.redis_errors.add(1, &[]);
    }

    /// A request without a caller.
    pub fn auth_failure(&self, reason: AuthFailure) {
        self.auth_failures.add(1, &[KeyValue::new(names::REASON, reason.name())]);
    }
}

fn observe_hit_rate(meter: &Meter, hits: Arc<AtomicU64>, misses: Arc<AtomicU64>) {
    // The provider keeps the callback; the handle is of no use.
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
