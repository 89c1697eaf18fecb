//! How long what is held on persons is kept.

use super::reader::Reader;

/// Retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GdprConfig {
    /// Days that entries, requests and records are kept, of tenants that say nothing else.
    pub retention_days: u32,
}

impl GdprConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let days = reader.number("AI_CACHE_GDPR_RETENTION_DAYS", 1..=36_500, 2_555);
        Self { retention_days: u32::try_from(days).unwrap_or(2_555) }
    }
}
