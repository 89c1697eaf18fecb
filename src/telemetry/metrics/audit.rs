//! Series of the audit trail: its batches, its spool and its proof.

use std::time::Duration;

use chrono::{DateTime, Utc};
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};

use super::{Metrics, counter, gauge, histogram, names};

/// The instruments of the audit trail.
pub(super) struct AuditSeries {
    records: Counter<u64>,
    batches: Counter<u64>,
    failures: Counter<u64>,
    commit: Histogram<f64>,
    available: Gauge<u64>,
    spooled: Counter<u64>,
    spool_bytes: Gauge<u64>,
    spool_torn: Counter<u64>,
    seal_lag: Gauge<u64>,
    findings: Gauge<u64>,
    verified: Gauge<u64>,
    default_rows: Gauge<u64>,
}

impl AuditSeries {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            records: counter(meter, names::AUDIT_RECORDS),
            batches: counter(meter, names::AUDIT_BATCHES),
            failures: counter(meter, names::AUDIT_FAILURES),
            commit: histogram(meter, names::AUDIT_COMMIT),
            available: gauge(meter, names::AUDIT_AVAILABLE),
            spooled: counter(meter, names::AUDIT_SPOOLED),
            spool_bytes: gauge(meter, names::AUDIT_SPOOL_BYTES),
            spool_torn: counter(meter, names::AUDIT_SPOOL_TORN),
            seal_lag: gauge(meter, names::AUDIT_SEAL_LAG),
            findings: gauge(meter, names::AUDIT_FINDINGS),
            verified: gauge(meter, names::AUDIT_VERIFIED),
            default_rows: gauge(meter, names::AUDIT_DEFAULT_ROWS),
        }
    }

    /// Gives the series that alert rules read their first value, so that they exist from the start.
    pub(super) fn begin(&self) {
        let Self { records, batches, failures, spooled, spool_torn, .. } = self;
        for counter in [records, batches, failures, spooled, spool_torn] {
            counter.add(0, &[]);
        }
        self.available.record(1, &[]);
        self.spool_bytes.record(0, &[]);
    }
}

impl Metrics {
    /// Counts a batch of records that was made durable.
    pub fn audit_batch(&self, rows: usize, took: Duration) {
        self.audit.records.add(u64::try_from(rows).unwrap_or(u64::MAX), &[]);
        self.audit.batches.add(1, &[]);
        self.audit.commit.record(took.as_secs_f64() * 1_000.0, &[]);
    }

    /// Counts a try that did not make a batch durable.
    pub fn audit_failure(&self) {
        self.audit.failures.add(1, &[]);
    }

    /// Counts records that went to the spool.
    pub fn audit_spooled(&self, rows: usize) {
        self.audit.spooled.add(u64::try_from(rows).unwrap_or(u64::MAX), &[]);
    }

    /// Sets the bytes that wait in the spool.
    pub fn audit_spool_bytes(&self, bytes: u64) {
        self.audit.spool_bytes.record(bytes, &[]);
    }

    /// Counts a segment of the spool that ended torn or damaged.
    pub fn audit_spool_torn(&self) {
        self.audit.spool_torn.add(1, &[]);
    }

    /// Sets the age of the oldest record that is not sealed.
    pub fn audit_seal_lag(&self, lag: Duration) {
        self.audit.seal_lag.record(lag.as_secs(), &[]);
    }

    /// Sets the number of findings of the last verification, and its end.
    pub fn audit_verified(&self, findings: u64, at: DateTime<Utc>) {
        self.audit.findings.record(findings, &[]);
        self.audit.verified.record(u64::try_from(at.timestamp()).unwrap_or(0), &[]);
    }

    /// Sets the number of rows in default partitions.
    pub fn audit_default_rows(&self, rows: u64) {
        self.audit.default_rows.record(rows, &[]);
    }

    /// Sets whether records can be made durable.
    pub fn audit_available(&self, available: bool) {
        self.audit.available.record(u64::from(available), &[]);
    }
}
