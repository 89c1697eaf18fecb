//! Owns the counts of a run of load. Counts are exact. Latencies are kept in a histogram of
//! microseconds with three significant digits, so that the results of several threads and several
//! slices can be added.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};

use super::reply::{AuditMark, Head, ReplyOrigin};

const LATENCY_MAX_MICROS: u64 = 600_000_000;

/// The way in which a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// No connection could be opened.
    Connect,
    /// No connection or no complete reply came in time.
    Timeout,
    /// The connection ended before the reply did.
    Disconnected,
    /// The bytes were not a reply that this client can read.
    Protocol,
    /// The reply had a status 3xx.
    Redirection,
    /// The reply had a status 4xx.
    ClientError,
    /// The reply had a status 5xx.
    ServerError,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Disconnected => "disconnected",
            Self::Protocol => "protocol",
            Self::Redirection => "status 3xx",
            Self::ClientError => "status 4xx",
            Self::ServerError => "status 5xx",
        })
    }
}

/// The failed requests by kind, with the text of the first failure of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures(BTreeMap<FailureKind, FailureCount>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct FailureCount {
    count: u64,
    example: String,
}

impl Failures {
    /// Returns the number of failures of `kind`.
    pub fn count(&self, kind: FailureKind) -> u64 {
        self.0.get(&kind).map_or(0, |failure| failure.count)
    }

    /// Returns the number of failures of all kinds.
    pub fn total(&self) -> u64 {
        self.0.values().map(|failure| failure.count).sum()
    }

    /// Returns each kind that occurred, its number, and the text of its first failure.
    pub fn iter(&self) -> impl Iterator<Item = (FailureKind, u64, &str)> {
        self.0.iter().map(|(kind, failure)| (*kind, failure.count, failure.example.as_str()))
    }

    fn add(&mut self, kind: FailureKind, count: u64, example: impl FnOnce() -> String) {
        self.0
            .entry(kind)
            .or_insert_with(|| FailureCount { count: 0, example: example() })
            .count += count;
    }
}

/// The result of a run, or the sum of several results.
#[derive(Debug, Clone)]
pub struct LoadOutcome {
    /// The number of requests that were tried, answered or not.
    pub requests: u64,
    /// The number of complete replies of status 2xx.
    pub replies: u64,
    /// The number of 2xx replies that came from the cache.
    pub hits: u64,
    /// The number of complete replies of any status that name their audit record.
    pub audited: u64,
    /// The bytes of the bodies of the 2xx replies.
    pub body_bytes: u64,
    /// The requests that brought no 2xx reply.
    pub failures: Failures,
    /// The time that was measured, up to the end of the last request.
    pub elapsed: Duration,
    latencies_micros: Histogram<u64>,
}

impl LoadOutcome {
    /// Makes an outcome in which nothing is counted yet.
    pub fn empty() -> Result<Self, CreationError> {
        Ok(Self {
            requests: 0,
            replies: 0,
            hits: 0,
            audited: 0,
            body_bytes: 0,
            failures: Failures::default(),
            elapsed: Duration::ZERO,
            latencies_micros: Histogram::new_with_bounds(1, LATENCY_MAX_MICROS, 3)?,
        })
    }

    /// Returns the number of 2xx replies per second of the measured time.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far under 2^52")]
    pub fn replies_per_second(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.replies as f64 / seconds } else { 0.0 }
    }

    /// Returns the share of the 2xx replies that came from the cache, from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far under 2^52")]
    pub fn hit_rate(&self) -> f64 {
        if self.replies == 0 { 0.0 } else { self.hits as f64 / self.replies as f64 }
    }

    /// Returns the latency of the 2xx replies at `quantile` (0 to 1), in milliseconds.
    #[expect(clippy::cast_precision_loss, reason = "microseconds stay far under 2^52")]
    pub fn latency_ms(&self, quantile: f64) -> f64 {
        self.latencies_micros.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// Adds the outcome of a run that followed this one. Both the counts and the times are added.
    pub fn append(&mut self, later: &Self) {
        self.absorb(later);
        self.elapsed += later.elapsed;
    }

    /// Adds the outcome of another thread of the same run. The counts are added, and the time is
    /// the longer of the two.
    pub(super) fn join(&mut self, beside: &Self) {
        self.absorb(beside);
        self.elapsed = self.elapsed.max(beside.elapsed);
    }

    fn absorb(&mut self, other: &Self) {
        self.requests += other.requests;
        self.replies += other.replies;
        self.hits += other.hits;
        self.audited += other.audited;
        self.body_bytes += other.body_bytes;
        for (kind, count, example) in other.failures.iter() {
            self.failures.add(kind, count, || example.to_owned());
        }
        // All histograms have the same bounds, so no value is out of range.
        let added = self.latencies_micros.add(&other.latencies_micros);
        debug_assert!(added.is_ok(), "histograms of different bounds");
    }

    pub(super) fn count_reply(&mut self, head: &Head, latency: Duration) {
        self.requests += 1;
        self.audited += u64::from(head.audit == AuditMark::Present);
        let refused = match head.status / 100 {
            2 => None,
            3 => Some(FailureKind::Redirection),
            4 => Some(FailureKind::ClientError),
            _ => Some(FailureKind::ServerError),
        };
        if let Some(kind) = refused {
            self.failures.add(kind, 1, || format!("status {}", head.status));
            return;
        }
        self.replies += 1;
        self.hits += u64::from(head.origin == ReplyOrigin::Hit);
        self.body_bytes += head.body_bytes as u64;
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latencies_micros.saturating_record(micros);
    }

    pub(super) fn count_failure(&mut self, kind: FailureKind, example: impl FnOnce() -> String) {
        self.requests += 1;
        self.failures.add(kind, 1, example);
    }
}

/// The running counts of the load, which a progress bar shows. They are at most about a tenth of a
/// second old, and they continue over several runs.
#[derive(Debug, Default)]
pub struct LoadProgress {
    requests: AtomicU64,
    failures: AtomicU64,
}

impl LoadProgress {
    /// Returns the number of requests finished so far. Requests of the warm-up are not counted.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns the number of finished requests that failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, requests: u64, failures: u64) {
        self.requests.fetch_add(requests, Ordering::Relaxed);
        self.failures.fetch_add(failures, Ordering::Relaxed);
    }
}
