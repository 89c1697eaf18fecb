//! Owns the settings of the log lines. It never writes one.

use tracing_subscriber::EnvFilter;

use super::reader::Reader;

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// The lines are text for people.
    Text,
    /// Each line is one JSON object.
    Json,
}

/// The settings of log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// The levels by target, as a filter of `tracing_subscriber`.
    pub filter: String,
    /// The form of the lines.
    pub format: LogFormat,
}

impl LogConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let format = reader.parsed("AI_CACHE_LOG_FORMAT", "text or json", |text| match text {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => None,
        });
        let filter_rule = "a log filter such as info or ai_cache=debug,warn";
        let filter = reader.parsed("AI_CACHE_LOG", filter_rule, |text| {
            let known = EnvFilter::builder().parse(text).is_ok();
            known.then(|| text.to_owned())
        });
        Self {
            filter: filter.unwrap_or_else(|| "info".to_owned()),
            format: format.unwrap_or(LogFormat::Text),
        }
    }
}
