//! The series of data subjects' requests: how many wait, and how near their due time is.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Gauge, Meter};

use super::{Metrics, gauge, names};

/// The instruments of data subjects' requests.
pub(super) struct GdprSeries {
    due: Gauge<u64>,
}

impl GdprSeries {
    pub(super) fn new(meter: &Meter) -> Self {
        Self { due: gauge(meter, names::GDPR_DUE) }
    }
}

impl Metrics {
    /// Sets the number of open requests that are due within these days. 0 days stands for requests
    /// past their time.
    pub fn gdpr_due(&self, within_days: &'static str, requests: u64) {
        self.gdpr.due.record(requests, &[KeyValue::new(names::WITHIN_DAYS, within_days)]);
    }
}
