//! Settings: read once, checked whole, trusted from then on. The only reader of the environment.
//! Secrets are never printed.

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

/// Every setting.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address, folder, proxies.
    pub server: ServerConfig,
    /// Postgres.
    pub database: DatabaseConfig,
    /// Redis.
    pub redis: RedisConfig,
    /// The cache itself.
    pub cache: CacheConfig,
    /// Who answers what is not cached.
    pub upstream: UpstreamConfig,
    /// Master keys.
    pub keys: KeysConfig,
    /// The audit trail.
    pub audit: AuditConfig,
    /// Retention.
    pub gdpr: GdprConfig,
    /// The erasure ledger.
    pub erasure: ErasureConfig,
    /// Log lines.
    pub log: LogConfig,
    report: Vec<Setting>,
}

/// A setting as `config check` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// The variable.
    pub name: &'static str,
    /// Its value; a secret as `[set]`.
    pub value: String,
    /// Where it comes from.
    pub origin: String,
}

/// Everything that is wrong, a line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigErrors(pub Vec<String>);

impl Config {
    /// Reads every setting, reporting all faults together.
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

    /// Every setting with its value and origin, in the order of [`KNOWN`].
    pub fn report(&self) -> &[Setting] {
        &self.report
    }
}
