//! What is logged, and how.

use tracing_subscriber::EnvFilter;

use super::reader::Reader;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Levels by target.
    pub filter: String,
    /// How lines are written.
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
