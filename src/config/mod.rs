//! Owns the settings, which are read once, checked as a whole and trusted from then on. It is the
//! only reader of the environment. It never prints a secret.

mod audit;
mod cache;
mod database;
mod erasure;
mod gdpr;
mod keys;
mod known;
mod log;
mod reader;
mod redis;
mod secret;
mod server;
mod source;
mod upstream;

pub use audit::AuditConfig;
pub use cache::CacheConfig;
pub use database::DatabaseConfig;
pub use erasure::ErasureConfig;
pub use gdpr::GdprConfig;
pub use keys::KeysConfig;
pub use known::{Availability, KNOWN, Known};
pub use log::{LogConfig, LogFormat};
pub use redis::RedisConfig;
pub use secret::SecretText;
pub use server::ServerConfig;
pub use source::{Source, SourceError, ValueOrigin};
pub use upstream::{UpstreamConfig, UpstreamKind};

use reader::Reader;

/// Every setting of the service.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address, the data folder and the trusted proxies.
    pub server: ServerConfig,
    /// The settings of Postgres.
    pub database: DatabaseConfig,
    /// The settings of Redis.
    pub redis: RedisConfig,
    /// The settings of the cache.
    pub cache: CacheConfig,
    /// The settings of the upstream.
    pub upstream: UpstreamConfig,
    /// The place of the master keys and wrapping keys.
    pub keys: KeysConfig,
    /// The settings of the audit trail.
    pub audit: AuditConfig,
    /// The settings of retention.
    pub gdpr: GdprConfig,
    /// The settings of the erasure ledger.
    pub erasure: ErasureConfig,
    /// The settings of log lines.
    pub log: LogConfig,
    report: Vec<Setting>,
}

/// A setting as `config check` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// The name of the variable.
    pub name: &'static str,
    /// The value. A secret is shown as `[set]`.
    pub value: String,
    /// The place that the value comes from.
    pub origin: String,
}

/// All faults of the settings, one line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigErrors(pub Vec<String>);

impl Config {
    /// Reads every setting. The error holds all faults together.
    pub fn load(source: &Source) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(source);
        let server = ServerConfig::read(&mut reader);
        let database = DatabaseConfig::read(&mut reader);
        let redis = RedisConfig::read(&mut reader);
        let cache = CacheConfig::read(&mut reader);
        let upstream = UpstreamConfig::read(&mut reader, &database);
        let keys = KeysConfig::read(&mut reader);
        let audit = AuditConfig::read(&mut reader);
        let gdpr = GdprConfig::read(&mut reader);
        let erasure = ErasureConfig::read(&mut reader);
        let log = LogConfig::read(&mut reader);
        let report = reader.finish()?;
        Ok(Self {
            server,
            database,
            redis,
            cache,
            upstream,
            keys,
            audit,
            gdpr,
            erasure,
            log,
            report,
        })
    }

    /// Returns every setting of this release with its value and origin, in the order of [`KNOWN`].
    pub fn report(&self) -> &[Setting] {
        &self.report
    }
}
