//! What a process is started with: settings, and what tests may replace.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use ipnet::IpNet;

use crate::answering::Switch;
use crate::audit::SpoolSettings;
use crate::auth::HashCost;
use crate::crypto::KeyProvider;
use crate::domain::clock::Clock;
use crate::domain::entry::Windows;
use crate::domain::ids::Ids;
use crate::http::Monitoring;
use crate::keyring::Encryption;
use crate::redis::RedisSettings;
use crate::store::StoreSettings;
use crate::upstream::Upstream;

/// What the service is to be.
#[derive(Debug, Clone)]
pub struct AppSettings {
    /// The service role's database URL.
    pub database_url: String,
    /// Pool size and limit.
    pub store: StoreSettings,
    /// Redis; `None`: no warm tier.
    pub redis: Option<RedisSettings>,
    /// Bytes of the hot tier.
    pub memory_bytes: u64,
    /// Whether the cache takes part.
    pub switch: Switch,
    /// How long answers of operations without a time of their own are good.
    pub default_ttl: TimeDelta,
    /// How long past their time answers may still be served.
    pub stale: Windows,
    /// Most entries in Postgres.
    pub max_entries: u64,
    /// Whether entries are sealed under secret keys.
    pub encryption: Encryption,
    /// Whether records are written.
    pub auditing: Auditing,
    /// What the process is there for.
    pub process: Process,
    /// Where each seal of the trail is kept outside; `None`: nowhere.
    pub checkpoint: Option<PathBuf>,
    /// Days that entries, requests and records are kept, of tenants that say nothing else.
    pub retention_days: u32,
    /// Bytes of a part of an export's package in the clear.
    pub part_bytes: usize,
    /// Where erasures are kept outside; `None`: nowhere.
    pub erasure_ledger: Option<PathBuf>,
    /// Whether metrics are served.
    pub monitoring: Monitoring,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Time a client has to send a body.
    pub body_limit: Duration,
    /// Threads that serve HTTP.
    pub workers: usize,
    /// Longest time a stop waits for replies under way, and then for their records.
    pub grace: Duration,
}

/// What a process is there for.
#[derive(Debug, Clone)]
pub enum Process {
    /// It serves callers.
    Service {
        /// Where records wait while Postgres is away.
        spool: SpoolSettings,
    },
    /// It does what an operator said and ends. It does not wait for a Postgres that is away.
    Command {
        /// What it does about a ledger that is another database's.
        hold: LedgerHold,
    },
}

/// What a command does about the audit ledger of a database that was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerHold {
    /// It leaves the ledger to the services.
    Shared,
    /// It begins a new ledger, as a service does.
    Restoring,
}

impl Process {
    /// The spool of a service to be changed; a command has none.
    pub const fn spool_mut(&mut self) -> Option<&mut SpoolSettings> {
        match self {
            Self::Service { spool } => Some(spool),
            Self::Command { .. } => None,
        }
    }

    /// The spool of a service; a command has none.
    pub(super) const fn spool(&self) -> Option<&SpoolSettings> {
        match self {
            Self::Service { spool } => Some(spool),
            Self::Command { .. } => None,
        }
    }
}

/// Whether audit records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auditing {
    /// Every reply waits for its record.
    On,
    /// Receipts are granted as they are; for development only.
    Off,
}

/// What tests may replace.
#[derive(Clone)]
pub struct Deps {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub ids: Arc<dyn Ids>,
    /// Who answers what is not cached.
    pub upstream: Arc<dyn Upstream>,
    /// Master keys.
    pub keys: Arc<KeyProvider>,
    /// What hashing a token's secret costs.
    pub hash_cost: HashCost,
}
