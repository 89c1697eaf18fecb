//! Every variable of this release: a good value, how it shows in the settings, bad values.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ai_cache::config::{Config, KeysConfig, LogFormat, UpstreamKind};
use ai_cache::domain::money::Usd;
use chrono::TimeDelta;

/// A variable.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) good: &'static str,
    /// Returns whether a configuration has that value.
    pub(super) is_set: fn(&Config) -> bool,
    /// Not empty: that is refused of every variable alike.
    pub(super) bad: &'static [&'static str],
    /// The variables that must be set with a good value.
    pub(super) beside: &'static [(&'static str, &'static str)],
    /// Whether a bad value is the only fault only without those.
    pub(super) bad_alone: bool,
    pub(super) secret: bool,
    /// Whether an error shows what was given.
    pub(super) bad_is_shown: bool,
}

const fn row(
    name: &'static str,
    good: &'static str,
    bad: &'static [&'static str],
    is_set: fn(&Config) -> bool,
) -> Row {
    Row {
        name,
        good,
        is_set,
        bad,
        beside: &[],
        bad_alone: false,
        secret: false,
        bad_is_shown: true,
    }
}

const fn secret(row: Row) -> Row {
    Row { secret: true, bad_is_shown: false, ..row }
}

const fn beside(row: Row, beside: &'static [(&'static str, &'static str)]) -> Row {
    Row { beside, ..row }
}

const SWITCH: &[&str] = &["yes", "maybe", "2"];

const DATABASE: &[&str] = &["mysql://app:pw@db/x", "localhost:5432"];

const MASTER_KEY: &str = "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

const OPENAI: &[(&str, &str)] = &[("AI_CACHE_UPSTREAM", "openai")];

const INSECURE: &[(&str, &str)] = &[("AI_CACHE_ALLOW_INSECURE", "true")];

/// The rows, in the order of the known names.
pub(super) const TABLE: &[Row] = &[
    row(
        "AI_CACHE_BIND",
        "0.0.0.0:8080",
        &["3000", "localhost:3000", "127.0.0.1:99999"],
        |config| config.server.bind == SocketAddr::from(([0, 0, 0, 0], 8080)),
    ),
    row("AI_CACHE_DATA_DIR", "/srv/cache", &[], |config| {
        config.server.data_dir.as_os_str() == "/srv/cache"
    }),
    row(
        "AI_CACHE_TRUSTED_PROXIES",
        "10.0.0.0/8, ::1",
        &["10.0.0.0/33", "proxy", "10.0.0.1,"],
        |config| {
            let networks = config.server.trusted_proxies.iter();
            networks.map(ToString::to_string).eq(["10.0.0.0/8", "::1/128"])
        },
    ),
    secret(row("DATABASE_URL", "postgres://app:pw@db/ai", DATABASE, |config| {
        config.database.url.as_ref().is_some_and(|url| url.reveal() == "postgres://app:pw@db/ai")
    })),
    secret(row("AI_CACHE_ADMIN_DATABASE_URL", "postgresql://own@db/ai", DATABASE, |config| {
        config
            .database
            .admin_url
            .as_ref()
            .is_some_and(|url| url.reveal() == "postgresql://own@db/ai")
    })),
    row("AI_CACHE_DATABASE_POOL", "25", &["1", "501", "-3", "ten"], |config| {
        config.database.pool == 25
    }),
    secret(row(
        "AI_CACHE_REDIS_URL",
        "redis://a:1,redis://b:2",
        &[
            "http://a:1",
            "redis://a:1,b:2",
            "redis://a:1,",
            "redis://",
            "redis://:pw@",
            "redis://a:1,rediss://b:2",
            "rediss://a:1/#insecure",
            "rediss+cluster://a:1/#insecure",
            "unix://a",
            "unix:///a,unix:///b",
        ],
        |config| {
            config
                .redis
                .urls
                .iter()
                .map(ai_cache::config::SecretText::reveal)
                .eq(["redis://a:1", "redis://b:2"])
        },
    )),
    row("AI_CACHE_REDIS_TIMEOUT_MS", "250", &["0", "10001", "fast"], |config| {
        config.redis.timeout == Duration::from_millis(250)
    }),
    row("AI_CACHE_ENABLED", "false", SWITCH, |config| !config.cache.enabled),
    row("AI_CACHE_MEMORY_SIZE_MB", "64", &["0", "-64", "64MB", "1048577"], |config| {
        config.cache.memory_bytes == 64 * 1_024 * 1_024
    }),
    row("AI_CACHE_MAX_ENTRIES", "5000", &["0", "-1", "1e6", "1000000000001"], |config| {
        config.cache.max_entries == 5_000
    }),
    row("AI_CACHE_DEFAULT_TTL", "120", &["0", "1.5", "1h", "31536001"], |config| {
        config.cache.default_ttl.num_seconds() == 120
    }),
    row("AI_CACHE_STALE_WHILE_REVALIDATE_SECONDS", "0", &["-1", "1m", "86401"], |config| {
        config.cache.stale.while_revalidate.num_seconds() == 0
    }),
    row("AI_CACHE_STALE_IF_ERROR_SECONDS", "86400", &["-1", "5.5", "86401"], |config| {
        config.cache.stale.if_error.num_seconds() == 86_400
    }),
    beside(
        row("AI_CACHE_ENCRYPTION_ENABLED", "false", SWITCH, |config| {
            !config.cache.encryption_enabled
        }),
        INSECURE,
    ),
    beside(
        row("AI_CACHE_AUDIT_LOGGING_ENABLED", "false", SWITCH, |config| {
            !config.cache.audit_logging_enabled
        }),
        INSECURE,
    ),
    row("AI_CACHE_MONITORING_ENABLED", "false", SWITCH, |config| !config.cache.monitoring_enabled),
    Row {
        beside: &[("AI_CACHE_ENCRYPTION_ENABLED", "false")],
        bad_alone: true,
        ..row("AI_CACHE_ALLOW_INSECURE", "true", SWITCH, |config| !config.cache.encryption_enabled)
    },
    row("AI_CACHE_UPSTREAM", "none", &["bedrock", "OpenAI"], |config| {
        config.upstream.kind == UpstreamKind::None
    }),
    Row {
        beside: OPENAI,
        bad_is_shown: false,
        ..row(
            "AI_CACHE_UPSTREAM_URL",
            "http://model:8000/v1",
            &["model:8000", "ftp://m/v1", "http://m/v1?k=1", "http://", "https://u:pw@m/v1"],
            |config| matches!(&config.upstream.kind, UpstreamKind::OpenAi { url } if url == "http://model:8000/v1"),
        )
    },
    row("AI_CACHE_UPSTREAM_NAME", "bedrock-eu", &["Bedrock", "hot", "none", "a b"], |config| {
        config.upstream.name == "bedrock-eu"
    }),
    secret(row("AI_CACHE_UPSTREAM_API_KEY", "sk-123", &[], |config| {
        config.upstream.api_key.as_ref().is_some_and(|key| key.reveal() == "sk-123")
    })),
    row("AI_CACHE_UPSTREAM_MODEL", "llama-3", &[], |config| config.upstream.model == "llama-3"),
    row("AI_CACHE_UPSTREAM_TIMEOUT_SECONDS", "15", &["0", "601", "15s"], |config| {
        config.upstream.timeout == Duration::from_secs(15)
    }),
    row("AI_CACHE_UPSTREAM_DEMO_DELAY_MS", "5", &["60001", "-1"], |config| {
        config.upstream.kind == UpstreamKind::Demo { delay: Duration::from_millis(5) }
    }),
    row(
        "AI_CACHE_PRICE_PROMPT_USD_PER_MILLION",
        "0.15",
        &["-1", "0.0000001", "1000001", "free"],
        |config| config.upstream.prices.prompt == Usd(150_000),
    ),
    row("AI_CACHE_PRICE_COMPLETION_USD_PER_MILLION", "0.60", &["-1", "$1"], |config| {
        config.upstream.prices.completion == Usd(600_000)
    }),
    secret(row(
        "AI_CACHE_MASTER_KEYS",
        MASTER_KEY,
        &["k1:abc", "k1", ","],
        |config| matches!(&config.keys, KeysConfig::Text(text) if text.reveal() == MASTER_KEY),
    )),
    row(
        "AI_CACHE_MASTER_KEY_FILE",
        "/etc/key",
        &[],
        |config| matches!(&config.keys, KeysConfig::File(path) if path.as_os_str() == "/etc/key"),
    ),
    row("AI_CACHE_AUDIT_SPOOL_DIR", "/var/spool/ai-cache", &[], |config| {
        config.audit.spool_dir.as_deref() == Some(Path::new("/var/spool/ai-cache"))
    }),
    row("AI_CACHE_AUDIT_SPOOL_MAX_MB", "64", &["0", "-1", "65537", "64 MB"], |config| {
        config.audit.spool_max_bytes == 64 * 1024 * 1024
    }),
    row("AI_CACHE_AUDIT_SPOOL_MAX_MINUTES", "5", &["0", "1441", "5m"], |config| {
        config.audit.spool_max_age == TimeDelta::minutes(5)
    }),
    row("AI_CACHE_AUDIT_CHECKPOINT_FILE", "/mnt/worm/seals.ndjson", &[], |config| {
        config.audit.checkpoint_file.as_deref() == Some(Path::new("/mnt/worm/seals.ndjson"))
    }),
    row("AI_CACHE_GDPR_RETENTION_DAYS", "365", &["0", "36501", "7y"], |config| {
        config.gdpr.retention_days == 365
    }),
    row("AI_CACHE_ERASURE_LEDGER_FILE", "/mnt/worm/erasures.ndjson", &[], |config| {
        config.erasure.ledger_file.as_deref() == Some(Path::new("/mnt/worm/erasures.ndjson"))
    }),
    row("AI_CACHE_LOG", "warn,ai_cache=trace", &["ai_cache=loud", "=,="], |config| {
        config.log.filter == "warn,ai_cache=trace"
    }),
    row("AI_CACHE_LOG_FORMAT", "json", &["xml", "JSON"], |config| {
        config.log.format == LogFormat::Json
    }),
];
