//! Series of data subjects' requests: how many wait, and how near their end they are.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Gauge, Meter};

use super::{Metrics, gauge, names};

/// Its instruments.
pub(super) struct GdprSeries {
    due: Gauge<u64>,
}

impl GdprSeries {
    pub(super) fn new(meter: &Meter) -> Self {
        Self { due: gauge(meter, names::GDPR_DUE) }
    }
}

impl Metrics {
    /// How many open requests are due within so many days or, where it is 0, past their time.
    pub fn gdpr_due(&self, within_days: &'static str, requests: u64) {
        self.gdpr.due.record(requests, &[KeyValue::new(names::WITHIN_DAYS, within_days)]);
    }
}
