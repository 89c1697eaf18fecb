//! What is logged, and how.

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
        Self {
            filter: reader.text("AI_CACHE_LOG").unwrap_or("info").to_owned(),
            format: format.unwrap_or(LogFormat::Text),
        }
    }
}
