//! Owns the setting of how long data on persons are kept.

use super::reader::Reader;

/// The settings of retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GdprConfig {
    /// The days for which entries, requests and records are kept. It holds for tenants that have no
    /// number of their own.
    pub retention_days: u32,
}

impl GdprConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let days = reader.number("AI_CACHE_GDPR_RETENTION_DAYS", 1..=36_500, 2_555);
        Self { retention_days: u32::try_from(days).unwrap_or(2_555) }
    }
}
