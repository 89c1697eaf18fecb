//! What a run of load counted. Counts are exact; latencies are kept as a histogram of microseconds
//! with three significant digits, so that several threads' and several slices' results add up.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};

use super::reply::{AuditMark, Head, ReplyOrigin};

const LATENCY_MAX_MICROS: u64 = 600_000_000;

/// How a request came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// No connection could be opened.
    Connect,
    /// No reply in time.
    Timeout,
    /// The connection ended before the reply did.
    Disconnected,
    /// The bytes were no reply this client reads.
    Protocol,
    /// Status 3xx.
    Redirection,
    /// Status 4xx.
    ClientError,
    /// Status 5xx.
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

/// Failed requests by kind, with the first text of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures(BTreeMap<FailureKind, FailureCount>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct FailureCount {
    count: u64,
    example: String,
}

impl Failures {
    /// How many of one kind.
    pub fn count(&self, kind: FailureKind) -> u64 {
        self.0.get(&kind).map_or(0, |failure| failure.count)
    }

    /// How many of all kinds.
    pub fn total(&self) -> u64 {
        self.0.values().map(|failure| failure.count).sum()
    }

    /// Each kind that occurred: how often, and what the first one said.
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

/// The result of a run, or of several added together.
#[derive(Debug, Clone)]
pub struct LoadOutcome {
    /// Requests tried, answered or not.
    pub requests: u64,
    /// Complete replies of status 2xx.
    pub replies: u64,
    /// Of those, the ones from the cache.
    pub hits: u64,
    /// Complete replies of any status that name their audit record.
    pub audited: u64,
    /// Bytes of the bodies of the 2xx replies.
    pub body_bytes: u64,
    /// Requests that brought no 2xx reply.
    pub failures: Failures,
    /// Time measured, up to the end of the last request.
    pub elapsed: Duration,
    latencies_micros: Histogram<u64>,
}

impl LoadOutcome {
    /// Nothing counted yet.
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

    /// Replies of status 2xx per second measured.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far under 2^52")]
    pub fn replies_per_second(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.replies as f64 / seconds } else { 0.0 }
    }

    /// Share of the 2xx replies that came from the cache, 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far under 2^52")]
    pub fn hit_rate(&self) -> f64 {
        if self.replies == 0 { 0.0 } else { self.hits as f64 / self.replies as f64 }
    }

    /// Latency of the 2xx replies at `quantile` (0 to 1), in milliseconds.
    #[expect(clippy::cast_precision_loss, reason = "microseconds stay far under 2^52")]
    pub fn latency_ms(&self, quantile: f64) -> f64 {
        self.latencies_micros.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// Adds a run that followed this one: counts and times add up.
    pub fn append(&mut self, later: &Self) {
        self.absorb(later);
        self.elapsed += later.elapsed;
    }

    /// Adds what another thread of the same run counted: the time is the longer one's.
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
        // Equal bounds by construction, so nothing is out of range.
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

/// Running counts for whoever shows them, a tenth of a second old. Counts go on over several runs.
#[derive(Debug, Default)]
pub struct LoadProgress {
    requests: AtomicU64,
    failures: AtomicU64,
}

impl LoadProgress {
    /// Requests finished so far, warm-up left out.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Of those, the failed ones.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, requests: u64, failures: u64) {
        self.requests.fetch_add(requests, Ordering::Relaxed);
        self.failures.fetch_add(failures, Ordering::Relaxed);
    }
}
