//! The settings that a process is started with, and the parts that tests may replace.

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

/// The settings of the service.
#[derive(Debug, Clone)]
pub struct AppSettings {
    /// The URL of the database for the service's role.
    pub database_url: String,
    /// The size of the pool, and the limit of a unit of work.
    pub store: StoreSettings,
    /// The settings of Redis. `None` means that there is no warm tier.
    pub redis: Option<RedisSettings>,
    /// The bytes of the hot tier.
    pub memory_bytes: u64,
    /// Whether the cache takes part.
    pub switch: Switch,
    /// The time to live of answers whose operation has none of its own.
    pub default_ttl: TimeDelta,
    /// The windows in which stale answers may be served.
    pub stale: Windows,
    /// The most entries in Postgres.
    pub max_entries: u64,
    /// Whether entries are sealed under secret keys.
    pub encryption: Encryption,
    /// Whether records are written.
    pub auditing: Auditing,
    /// The purpose of the process.
    pub process: Process,
    /// The file that keeps each seal of the trail outside the database. `None` means that there is
    /// none.
    pub checkpoint: Option<PathBuf>,
    /// The days that entries, requests and records are kept for tenants without a period of their
    /// own.
    pub retention_days: u32,
    /// The bytes of a part of an export's package, in the clear.
    pub part_bytes: usize,
    /// The file that keeps erasures outside the database. `None` means that there is none.
    pub erasure_ledger: Option<PathBuf>,
    /// Whether metrics are served.
    pub monitoring: Monitoring,
    /// The proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The time that a client has to send a body.
    pub body_limit: Duration,
    /// The threads that serve HTTP.
    pub workers: usize,
    /// The longest time that a stop waits for replies under way, and then for their records.
    pub grace: Duration,
}

/// The purpose of a process.
#[derive(Debug, Clone)]
pub enum Process {
    /// The process serves callers.
    Service {
        /// The place where records wait while Postgres is away.
        spool: SpoolSettings,
    },
    /// The process does what an operator said and ends. It does not wait for an unreachable
    /// Postgres.
    Command {
        /// The command's way with the audit ledger of a restored database.
        hold: LedgerHold,
    },
}

/// The way of a command with the audit ledger of a database that was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerHold {
    /// The command leaves the ledger to the services.
    Shared,
    /// The command begins a new ledger, as a service does.
    Restoring,
}

impl Process {
    /// Returns the spool of a service. Returns `None` for a command.
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
    /// Receipts are granted without a record; for development only.
    Off,
}

/// The parts that tests may replace.
#[derive(Clone)]
pub struct Deps {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of ids.
    pub ids: Arc<dyn Ids>,
    /// The model that answers what is not cached.
    pub upstream: Arc<dyn Upstream>,
    /// The master keys.
    pub keys: Arc<KeyProvider>,
    /// The cost of hashing a token's secret.
    pub hash_cost: HashCost,
}
