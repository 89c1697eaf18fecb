//! Opens the parts that every command needs: the configured database or the embedded servers of the
//! data folder, and the parts of the service that use them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::answering::Switch;
use crate::app::{App, AppSettings, Auditing, Deps, LedgerHold, Process};
use crate::audit::SpoolSettings;
use crate::auth::HashCost;
use crate::compliance::PART_BYTES;
use crate::config::{Config, KeysConfig, SecretText, Source, UpstreamConfig, UpstreamKind};
use crate::crypto::KeyProvider;
use crate::domain::clock::SystemClock;
use crate::domain::ids::SystemIds;
use crate::embedded::{
    APP_ROLE, DATABASE, Lifetime, OWNER_ROLE, PostgresOptions, PostgresServer, RedisOptions,
    RedisServer,
};
use crate::http::Monitoring;
use crate::keyring::Encryption;
use crate::redis::RedisSettings;
use crate::store::{StoreSettings, migrate};
use crate::telemetry::{self, Format};
use crate::upstream::{Demo, Nothing, OpenAi, OpenAiSettings, Upstream};

use super::failure::Failure;

/// The longest time that one unit of work of Postgres may take.
const STORE_LIMIT: Duration = Duration::from_secs(2);

/// The longest time that a stop waits for replies and records under way.
const GRACE: Duration = Duration::from_secs(10);

/// The time that a client has to send a whole body.
const BODY_LIMIT: Duration = Duration::from_secs(15);

/// The size of a demonstration answer in bytes.
pub(super) const DEMO_ANSWER_BYTES: usize = 400;

/// The name of the file with the master keys in the data folder.
const KEY_FILE: &str = "master.key";

/// The kind of process that uses the database and the embedded servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FolderUse {
    /// The only service of the data folder.
    Alone,
    /// A command that may run beside the service.
    Shared,
    /// A command for a database that may have been restored.
    Restoring,
}

/// The embedded servers. A server that is not used is `None`.
#[derive(Default)]
pub(super) struct EmbeddedServers {
    postgres: Option<PostgresServer>,
    redis: Option<RedisServer>,
}

/// The database and Redis, to which the service can connect.
pub(super) struct Backend {
    pub(super) servers: EmbeddedServers,
    hold: FolderUse,
    database_url: String,
    redis_urls: Vec<String>,
}

impl EmbeddedServers {
    /// Stops the embedded servers. A server that another ai-cache holds keeps running.
    pub(super) async fn stop(self) {
        if let Some(redis) = self.redis
            && let Err(error) = redis.stop().await
        {
            tracing::warn!(%error, "the embedded Redis did not stop");
        }
        if let Some(postgres) = self.postgres
            && let Err(error) = postgres.stop().await
        {
            tracing::warn!(%error, "the embedded Postgres did not stop");
        }
    }

    /// Returns the command line that opens the embedded database. Returns `None` if the database is
    /// not embedded.
    pub(super) fn psql_command(&self) -> Option<String> {
        self.postgres.as_ref().map(|postgres| postgres.psql_command(OWNER_ROLE, DATABASE))
    }
}

/// Starts logging as the settings say.
pub(super) fn init_logging(config: &Config) -> Result<(), Failure> {
    let format = match config.log.format {
        crate::config::LogFormat::Text => Format::Text,
        crate::config::LogFormat::Json => Format::Json,
    };
    telemetry::init(&config.log.filter, format)
        .map_err(|error| Failure::usage(format!("AI_CACHE_LOG: {error}")))
}

impl Backend {
    /// Finds or starts the database and Redis, and migrates an embedded database.
    pub(super) async fn open(
        config: &Config,
        source: &Source,
        hold: FolderUse,
        lifetime: Lifetime,
    ) -> Result<Self, Failure> {
        let configured: Vec<String> =
            config.redis.urls.iter().map(|url| url.reveal().to_owned()).collect();
        if let Some(url) = &config.database.url {
            let database_url = url.reveal().to_owned();
            let servers = EmbeddedServers::default();
            return Ok(Self { servers, hold, database_url, redis_urls: configured });
        }
        let folder = &config.server.data_dir;
        let options = PostgresOptions {
            lifetime,
            max_connections: u16::try_from(config.database.pool).unwrap_or(100) + 20,
            ..PostgresOptions::new(source.search_path())
        };
        let postgres = match hold {
            FolderUse::Alone => PostgresServer::start(folder, options).await?,
            FolderUse::Shared | FolderUse::Restoring => {
                PostgresServer::start_or_join(folder, options).await?
            }
        };
        postgres.ensure_roles_and_database().await?;
        let database_url = postgres.url(APP_ROLE, DATABASE);
        let owner_url = postgres.url(OWNER_ROLE, DATABASE);
        migrate::migrate(&owner_url, Some(&database_url), &SystemClock, &SystemIds).await?;
        let mut servers = EmbeddedServers { postgres: Some(postgres), redis: None };
        let mut redis_urls = configured;
        if redis_urls.is_empty() && hold == FolderUse::Alone {
            servers.redis = start_redis(folder, source, lifetime).await?;
            redis_urls.extend(servers.redis.as_ref().map(RedisServer::url));
        }
        Ok(Self { servers, hold, database_url, redis_urls })
    }

    /// Starts the parts of the service.
    pub(super) async fn start_app(
        &self,
        config: &Config,
        upstream: Arc<dyn Upstream>,
    ) -> Result<App, Failure> {
        let deps = Deps {
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            upstream,
            keys: Arc::new(master_keys(config)?),
            hash_cost: HashCost::FULL,
        };
        Ok(Box::pin(App::start(self.settings(config), deps)).await?)
    }

    fn process(&self, config: &Config) -> Process {
        let spool_dir = || config.server.data_dir.join("spool");
        match self.hold {
            FolderUse::Alone => Process::Service {
                spool: SpoolSettings {
                    dir: config.audit.spool_dir.clone().unwrap_or_else(spool_dir),
                    max_bytes: config.audit.spool_max_bytes,
                    max_age: config.audit.spool_max_age,
                },
            },
            FolderUse::Shared => Process::Command { hold: LedgerHold::Shared },
            FolderUse::Restoring => Process::Command { hold: LedgerHold::Restoring },
        }
    }

    fn settings(&self, config: &Config) -> AppSettings {
        let timeout = config.redis.timeout;
        let urls = self.redis_urls.clone();
        let cache = &config.cache;
        let choose = |on: bool| if on { Monitoring::On } else { Monitoring::Off };
        AppSettings {
            database_url: self.database_url.clone(),
            store: StoreSettings { pool_size: config.database.pool, limit: STORE_LIMIT },
            redis: (!urls.is_empty()).then_some(RedisSettings { urls, timeout }),
            memory_bytes: cache.memory_bytes,
            max_entries: cache.max_entries,
            switch: if cache.enabled { Switch::On } else { Switch::PassThrough },
            default_ttl: cache.default_ttl,
            stale: cache.stale,
            encryption: if cache.encryption_enabled {
                Encryption::On
            } else {
                Encryption::PublicKey
            },
            auditing: if cache.audit_logging_enabled { Auditing::On } else { Auditing::Off },
            process: self.process(config),
            checkpoint: config.audit.checkpoint_file.clone(),
            retention_days: config.gdpr.retention_days,
            part_bytes: PART_BYTES,
            erasure_ledger: config.erasure.ledger_file.clone(),
            monitoring: choose(cache.monitoring_enabled),
            trusted_proxies: config.server.trusted_proxies.clone(),
            body_limit: BODY_LIMIT,
            workers: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
            grace: GRACE,
        }
    }
}

async fn start_redis(
    folder: &Path,
    source: &Source,
    lifetime: Lifetime,
) -> Result<Option<RedisServer>, Failure> {
    if RedisServer::find_program(source.search_path()).is_none() {
        tracing::warn!("no redis-server or valkey-server is installed: there is no warm tier");
        return Ok(None);
    }
    let options = RedisOptions { lifetime, ..RedisOptions::new(source.search_path()) };
    Ok(Some(RedisServer::start(folder, options).await?))
}

/// Returns the configured master keys. If none are configured, the embedded mode uses the key file
/// of the data folder and makes it if it is missing.
pub(super) fn master_keys(config: &Config) -> Result<KeyProvider, Failure> {
    match &config.keys {
        KeysConfig::Text(text) => KeyProvider::from_text(text.reveal())
            .map_err(|error| Failure::usage(format!("AI_CACHE_MASTER_KEYS: {error}"))),
        KeysConfig::File(path) => KeyProvider::from_file(path)
            .map_err(|error| Failure::usage(format!("AI_CACHE_MASTER_KEY_FILE: {error}"))),
        KeysConfig::DataFolder if config.database.url.is_some() => Err(Failure::usage(
            "AI_CACHE_MASTER_KEY_FILE or AI_CACHE_MASTER_KEYS must be set together with DATABASE_URL",
        )),
        KeysConfig::DataFolder => {
            let path = config.server.data_dir.join(KEY_FILE);
            KeyProvider::from_file_or_new(&path).map_err(Failure::usage)
        }
    }
}

/// Makes the configured upstream.
pub(super) fn upstream(config: &UpstreamConfig) -> Result<Arc<dyn Upstream>, Failure> {
    let UpstreamConfig { kind, name, api_key, model, timeout, prices } = config.clone();
    Ok(match kind {
        UpstreamKind::None => Arc::new(Nothing),
        UpstreamKind::Demo { delay } => Arc::new(Demo::new(name, delay, DEMO_ANSWER_BYTES, prices)),
        UpstreamKind::OpenAi { url: base_url } => {
            let api_key = api_key.as_ref().map(SecretText::reveal).map(str::to_owned);
            let settings = OpenAiSettings { base_url, name, api_key, model, timeout, prices };
            let upstream = OpenAi::new(settings, Arc::new(SystemClock));
            Arc::new(upstream.map_err(Failure::usage)?)
        }
    })
}
