//! What operators see: log lines and metric series. Holds no tenant's words; labels come from
//! closed sets.

mod logging;
mod metrics;
pub mod names;

pub use logging::{Format, LoggingError, init, layer};
pub use metrics::{AuthFailure, Eviction, Metrics, MetricsError, UpstreamOutcome};
