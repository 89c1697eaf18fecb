//! Owns the settings of the cache, and the two switches that may be off only in development.

use chrono::TimeDelta;

use crate::domain::entry::Windows;

use super::reader::Reader;

/// The settings of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the contract")]
pub struct CacheConfig {
    /// Whether the cache takes part in replies.
    pub enabled: bool,
    /// The size of the hot tier in bytes.
    pub memory_bytes: u64,
    /// The greatest number of entries in Postgres, of all tenants together.
    pub max_entries: u64,
    /// The time to live of an answer whose operation has no time of its own.
    pub default_ttl: TimeDelta,
    /// The windows in which answers may be served past their time.
    pub stale: Windows,
    /// Whether entries are sealed under secret keys.
    pub encryption_enabled: bool,
    /// Whether audit records are written.
    pub audit_logging_enabled: bool,
    /// Whether metrics are served.
    pub monitoring_enabled: bool,
}

impl CacheConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let memory_mb = reader.number("AI_CACHE_MEMORY_SIZE_MB", 1..=1_048_576, 2_048);
        let ttl = reader.number("AI_CACHE_DEFAULT_TTL", 1..=31_536_000, 3_600);
        let stale = Windows {
            while_revalidate: window(reader, "AI_CACHE_STALE_WHILE_REVALIDATE_SECONDS", 60),
            if_error: window(reader, "AI_CACHE_STALE_IF_ERROR_SECONDS", 300),
        };
        let allow_insecure = reader.flag("AI_CACHE_ALLOW_INSECURE").unwrap_or(false);
        let mut guarded = |name| {
            let enabled = reader.flag(name).unwrap_or(true);
            if !enabled && !allow_insecure {
                let rule = "may be false only together with AI_CACHE_ALLOW_INSECURE=true";
                reader.refuse(name, rule);
            }
            enabled
        };
        let encryption_enabled = guarded("AI_CACHE_ENCRYPTION_ENABLED");
        let audit_logging_enabled = guarded("AI_CACHE_AUDIT_LOGGING_ENABLED");
        Self {
            enabled: reader.flag("AI_CACHE_ENABLED").unwrap_or(true),
            max_entries: reader.number("AI_CACHE_MAX_ENTRIES", 1..=1_000_000_000_000, 10_000_000),
            memory_bytes: memory_mb * 1_024 * 1_024,
            default_ttl: TimeDelta::seconds(i64::try_from(ttl).unwrap_or(3_600)),
            stale,
            encryption_enabled,
            audit_logging_enabled,
            monitoring_enabled: reader.flag("AI_CACHE_MONITORING_ENABLED").unwrap_or(true),
        }
    }
}

/// Reads a window of at most one day, because an older answer is not only a little late.
fn window(reader: &mut Reader<'_>, name: &'static str, default: u64) -> TimeDelta {
    let seconds = reader.number(name, 0..=86_400, default);
    TimeDelta::seconds(i64::try_from(seconds).unwrap_or(0))
}
