//! Owns the list of all variables: the name and the default of each, whether it is secret, and
//! whether this release has its feature.

/// Whether the feature of a setting exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// This release has the feature.
    Now,
    /// A later release has the feature. The setting is refused now, because nobody would notice if
    /// it were ignored.
    Later,
}

/// Whether a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// The value may be shown.
    Shown,
    /// The value may be shown once it was accepted. A refused value may hold a password or a key.
    ShownWhenGood,
    /// The value may not be shown. Only the fact that it is set may be shown.
    Secret,
}

/// A variable that sets something.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// The name of the variable. A name that ends in `*` stands for every name that begins with the
    /// part before it.
    pub name: &'static str,
    /// The name of the variable in the systems that this service replaces.
    pub alias: Option<&'static str>,
    /// The value that holds if the variable is not set. It is in words if the value is not fixed.
    pub default: &'static str,
    /// Whether the value may be shown.
    pub secrecy: Secrecy,
    /// Whether the feature exists.
    pub availability: Availability,
}

impl Known {
    /// Returns whether an environment variable of this name sets this variable.
    pub fn covers(&self, name: &str) -> bool {
        let own = match self.name.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == self.name,
        };
        own || self.alias == Some(name)
    }
}

const fn known(name: &'static str, default: &'static str) -> Known {
    let (secrecy, availability) = (Secrecy::Shown, Availability::Now);
    Known { name, alias: None, default, secrecy, availability }
}

const fn shown_when_good(known: Known) -> Known {
    Known { secrecy: Secrecy::ShownWhenGood, ..known }
}

const fn secret(name: &'static str, default: &'static str) -> Known {
    Known { secrecy: Secrecy::Secret, ..known(name, default) }
}

const fn later(name: &'static str) -> Known {
    Known { availability: Availability::Later, ..known(name, "") }
}

const fn alias(known: Known, alias: &'static str) -> Known {
    Known { alias: Some(alias), ..known }
}

/// Every variable of the service.
pub const KNOWN: &[Known] = &[
    known("AI_CACHE_BIND", "127.0.0.1:3000"),
    known("AI_CACHE_DATA_DIR", "./.ai-cache"),
    known("AI_CACHE_TRUSTED_PROXIES", ""),
    secret("DATABASE_URL", "embedded"),
    secret("AI_CACHE_ADMIN_DATABASE_URL", "not set"),
    known("AI_CACHE_DATABASE_POOL", "10"),
    alias(secret("AI_CACHE_REDIS_URL", "not set"), "REDIS_URL"),
    known("AI_CACHE_REDIS_TIMEOUT_MS", "100"),
    alias(known("AI_CACHE_ENABLED", "true"), "CACHE_ENABLED"),
    known("AI_CACHE_MEMORY_SIZE_MB", "2048"),
    known("AI_CACHE_MAX_ENTRIES", "10000000"),
    alias(known("AI_CACHE_DEFAULT_TTL", "3600"), "CACHE_TIMEOUT"),
    known("AI_CACHE_STALE_WHILE_REVALIDATE_SECONDS", "60"),
    known("AI_CACHE_STALE_IF_ERROR_SECONDS", "300"),
    known("AI_CACHE_ENCRYPTION_ENABLED", "true"),
    known("AI_CACHE_AUDIT_LOGGING_ENABLED", "true"),
    known("AI_CACHE_MONITORING_ENABLED", "true"),
    known("AI_CACHE_ALLOW_INSECURE", "false"),
    known("AI_CACHE_UPSTREAM", "demo without DATABASE_URL, else none"),
    shown_when_good(known("AI_CACHE_UPSTREAM_URL", "not set")),
    known("AI_CACHE_UPSTREAM_NAME", "the kind of upstream"),
    secret("AI_CACHE_UPSTREAM_API_KEY", "not set"),
    known("AI_CACHE_UPSTREAM_MODEL", "gpt-4o-mini"),
    known("AI_CACHE_UPSTREAM_TIMEOUT_SECONDS", "60"),
    known("AI_CACHE_UPSTREAM_DEMO_DELAY_MS", "300"),
    known("AI_CACHE_PRICE_PROMPT_USD_PER_MILLION", "0"),
    known("AI_CACHE_PRICE_COMPLETION_USD_PER_MILLION", "0"),
    secret("AI_CACHE_MASTER_KEYS", "not set"),
    known("AI_CACHE_MASTER_KEY_FILE", "master.key in the data folder"),
    known("AI_CACHE_AUDIT_SPOOL_DIR", "spool in the data folder"),
    known("AI_CACHE_AUDIT_SPOOL_MAX_MB", "256"),
    known("AI_CACHE_AUDIT_SPOOL_MAX_MINUTES", "15"),
    known("AI_CACHE_AUDIT_CHECKPOINT_FILE", "not set"),
    known("AI_CACHE_GDPR_RETENTION_DAYS", "2555"),
    known("AI_CACHE_ERASURE_LEDGER_FILE", "not set"),
    known("AI_CACHE_LOG", "info"),
    known("AI_CACHE_LOG_FORMAT", "text"),
    later("AI_CACHE_MEMORY_MAX_MB"),
    later("AI_CACHE_SEASONAL_SCALING_ENABLED"),
    later("AI_CACHE_AUTO_SCALE_THRESHOLD"),
    later("AI_CACHE_SCALE_UP_FACTOR"),
    later("AI_CACHE_SCALE_DOWN_FACTOR"),
    later("AI_CACHE_ALERT_THRESHOLD_MS"),
    later("AI_CACHE_HIT_RATE_ALERT_THRESHOLD"),
    later("OTEL_EXPORTER_OTLP_*"),
];

/// Returns the known name that is nearest to an unknown name.
pub fn nearest(name: &str) -> &'static str {
    let names = KNOWN.iter().map(|known| known.name);
    names.min_by_key(|known| strsim::damerau_levenshtein(known, name)).unwrap_or("AI_CACHE_BIND")
}
