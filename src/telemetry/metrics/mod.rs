//! The series, made with OpenTelemetry and read by Prometheus, a file per subject. Recording takes
//! prepared labels and no lock of this crate.

mod audit;
mod cache;
mod gdpr;

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder as _, Registry, TextEncoder};

use super::names;

pub use cache::Eviction;

use audit::AuditSeries;
use cache::CacheSeries;
use gdpr::GdprSeries;

/// The upper bounds of histograms, in milliseconds.
const BOUNDS_MS: [f64; 17] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0,
    5_000.0, 10_000.0, 30_000.0,
];

/// The reason why there are no series.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The exporter cannot be made.
    #[error("the metrics exporter cannot be made")]
    Exporter(#[from] opentelemetry_sdk::error::OTelSdkError),
    /// The series cannot be written.
    #[error("the series cannot be written")]
    Render(#[from] prometheus::Error),
    /// The series are not valid UTF-8.
    #[error("the series are no text")]
    Text(#[from] std::string::FromUtf8Error),
}

/// The end of a call of the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamOutcome {
    /// The upstream answered.
    Ok,
    /// The upstream gave no answer.
    Error,
    /// The upstream did not answer in time.
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

/// The reason why a request has no caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthFailure {
    /// The request has no bearer token, or several.
    Missing,
    /// The token has a wrong form or checksum.
    Malformed,
    /// The token is unknown, wrong, revoked or expired.
    Refused,
    /// The network has reached its limit.
    Limited,
    /// The token cannot be verified now.
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

/// Every instrument.
pub struct Metrics {
    registry: Registry,
    /// The provider keeps the readers of the instruments alive.
    _provider: SdkMeterProvider,
    audit: AuditSeries,
    cache: CacheSeries,
    gdpr: GdprSeries,
    requests: Counter<u64>,
    upstream_calls: Counter<u64>,
    integrity_failures: Counter<u64>,
    redis_errors: Counter<u64>,
    auth_failures: Counter<u64>,
    transactions: Histogram<f64>,
}

fn counter(meter: &Meter, name: &'static str) -> Counter<u64> {
    meter.u64_counter(name).build()
}

fn gauge(meter: &Meter, name: &'static str) -> Gauge<u64> {
    meter.u64_gauge(name).build()
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
        let metrics = Self {
            audit: AuditSeries::new(&meter),
            cache: CacheSeries::new(&meter),
            gdpr: GdprSeries::new(&meter),
            requests: counter(&meter, names::REQUESTS),
            upstream_calls: counter(&meter, names::UPSTREAM_CALLS),
            integrity_failures: counter(&meter, names::INTEGRITY_FAILURES),
            redis_errors: counter(&meter, names::REDIS_ERRORS),
            auth_failures: counter(&meter, names::AUTH_FAILURES),
            transactions: histogram(&meter, names::TRANSACTION_TIME),
            registry,
            _provider: provider,
        };
        metrics.begin();
        Ok(metrics)
    }

    /// Gives the series that alert rules read their first value, so that they exist from the start.
    fn begin(&self) {
        self.integrity_failures.add(0, &[]);
        self.redis_errors.add(0, &[]);
        self.audit.begin();
        self.cache.begin();
        self.hot_tier(0, 0, 0);
    }

    /// Renders the series in the text exposition format 0.0.4.
    pub fn render(&self) -> Result<String, MetricsError> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8(text)?)
    }

    /// Counts a reply on a route of the service.
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

    /// Counts a call of the upstream.
    pub fn upstream_call(&self, outcome: UpstreamOutcome) {
        self.upstream_calls.add(1, &[KeyValue::new(names::OUTCOME, outcome.name())]);
    }

    /// Counts a stored value that did not open.
    pub fn integrity_failure(&self) {
        self.integrity_failures.add(1, &[]);
    }

    /// Counts a failed command of Redis.
    pub fn redis_error(&self) {
        self.redis_errors.add(1, &[]);
    }

    /// Records the time of a transaction with Postgres, however it ended.
    pub fn transaction(&self, name: &'static str, took: Duration) {
        let label = [KeyValue::new(names::TRANSACTION, name)];
        self.transactions.record(took.as_secs_f64() * 1_000.0, &label);
    }

    /// Counts a request without a caller.
    pub fn auth_failure(&self, reason: AuthFailure) {
        self.auth_failures.add(1, &[KeyValue::new(names::REASON, reason.name())]);
    }
}
