//! The signals for operators: log lines and metric series. They hold no words of a tenant, and
//! labels come from closed sets.

mod logging;
mod metrics;
pub mod names;

pub use logging::{Format, LoggingError, init, layer};
pub use metrics::{AuthFailure, Eviction, Metrics, MetricsError, UpstreamOutcome};
