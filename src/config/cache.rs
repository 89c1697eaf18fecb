//! The cache itself, and the two switches that are for development only.

use chrono::TimeDelta;

use crate::domain::entry::Windows;

use super::reader::Reader;

/// The cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the contract")]
pub struct CacheConfig {
    /// Whether it takes part.
    pub enabled: bool,
    /// Bytes of the hot tier.
    pub memory_bytes: u64,
    /// Most entries in Postgres.
    pub max_entries: u64,
    /// How long answers of operations without a time of their own are good.
    pub default_ttl: TimeDelta,
    /// How long past their time answers may still be served.
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

/// At most a day: what is older is not an answer that is a little late.
fn window(reader: &mut Reader<'_>, name: &'static str, default: u64) -> TimeDelta {
    let seconds = reader.number(name, 0..=86_400, default);
    TimeDelta::seconds(i64::try_from(seconds).unwrap_or(0))
}
