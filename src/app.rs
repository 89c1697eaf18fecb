//! The composition root: settings and what tests may replace become a running service. The one
//! place that knows which parts are there.

mod shared;
mod tasks;
mod trail;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ipnet::IpNet;
use uuid::Uuid;

use crate::audit::{
    Audit, AuditStartError, LedgerError, LineFileError, PresentLedger, RetentionClasses,
    SpoolSettings,
};
use crate::auth::{Authenticator, HashCost, Hasher, HasherError, Remembered};
use crate::coherence::{self, Coherence, Event, Subscriber};
use crate::crypto::{CryptoError, KeyProvider};
use crate::domain::clock::Clock;
use crate::domain::entry::Windows;
use crate::domain::ids::{Ids, TenantId, WriterId};
use crate::domain::selector::{Change, Group, Selector, Step};
use crate::http::{Monitoring, Server, ServerError, ServerSettings, State};
use crate::keyring::{Encryption, Keyring, KeyringParts};
use crate::lifecycle::Lifecycle;
use crate::redis::{RedisError, RedisSettings};
use crate::service::{
    Capacity, Parts, RestoreError, Service, ServiceError, Switch, TenantSlug, UseWriter,
};
use crate::store::follow::Follower;
use crate::store::guard::GuardError;
use crate::store::{Store, StoreError, StoreSettings, guard, tenants};
use crate::telemetry::{Metrics, MetricsError};
use crate::tiers::{Cold, Hot, Stack, Sweeper};
use crate::upstream::Upstream;

use shared::Shared;

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
    /// Where records wait while Postgres is down; `None` for a command, which does not wait.
    pub spool: Option<SpoolSettings>,
    /// Where each seal of the trail is kept outside; `None`: nowhere.
    pub checkpoint: Option<PathBuf>,
    /// Days that entries, requests and records are kept, of tenants that say nothing else.
    pub retention_days: u32,
    /// Bytes of a part of an export's package in the clear.
    pub part_bytes: usize,
    /// Where erasures are kept outside; `None`: nowhere.
    pub erasure_ledger: Option<PathBuf>,
    /// Whether it begins a new audit ledger in a database that was restored; other commands leave that
    /// to the services.
    pub begins_ledger: bool,
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

/// Why the service does not start. One line each.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The database is not fit to serve from.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Redis is configured wrongly.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// No series.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// No random bytes.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// No hashing.
    #[error(transparent)]
    Hasher(#[from] HasherError),
    /// No HTTP.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// No audit.
    #[error(transparent)]
    Audit(#[from] AuditStartError),
    /// The checkpoint file or the erasure ledger cannot be used.
    #[error(transparent)]
    Outside(#[from] LineFileError),
    /// A use case failed.
    #[error(transparent)]
    Service(ServiceError),
}

impl From<LedgerError> for AppError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Store(error) => error.into(),
            LedgerError::Checkpoint(error) => error.into(),
        }
    }
}

impl From<RestoreError> for AppError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Service(ServiceError::Store(error)) => error.into(),
            RestoreError::Service(error) => Self::Service(error),
            RestoreError::File(error) => error.into(),
            RestoreError::Missing => Self::Service(ServiceError::Malformed),
        }
    }
}

/// The parts behind HTTP, running.
pub struct App {
    service: Arc<Service>,
    authenticator: Arc<Authenticator>,
    metrics: Arc<Metrics>,
    deps: Deps,
    settings: AppSettings,
    lifecycle: Lifecycle,
}

/// The service with its HTTP server.
pub struct Running {
    app: App,
    server: Server,
}

impl App {
    /// Checks the database and starts every part but HTTP.
    pub async fn start(settings: AppSettings, deps: Deps) -> Result<Self, AppError> {
        let (lifecycle, metrics) = (Lifecycle::new(), Arc::new(Metrics::new()?));
        let store = Store::new(&settings.database_url, &settings.store, Arc::clone(&metrics))?;
        guard::check(&store).await?;
        let now = deps.clock.now();
        // One id names the process: as a replica, as a writer, and its spool.
        let replica = deps.ids.next(now);
        let classes = trail::find_classes(&store, settings.retention_days).await?;
        let named = (&store, WriterId(replica), &classes);
        let (audit, ledger) = trail::start(&settings, &deps, named, &metrics, &lifecycle).await?;
        let (hot, used) = Hot::new(settings.memory_bytes);
        let hot = Arc::new(hot);
        let outage = settings.spool.as_ref().map_or(TimeDelta::zero(), |spool| spool.max_age);
        let remembered = Arc::new(Remembered::new(outage)?);
        let keyring = Arc::new(keyring(&settings, &deps, (&store, &audit), outage));
        let (sweeper, subscribers) =
            subscribers((&hot, &metrics), (&remembered, &keyring), classes);
        let uses = UseWriter::new(store.clone(), Arc::clone(&deps.clock), replica, used);
        let installation = find_installation(&store).await?;
        let shared = Shared::start(&settings, &deps, installation, (&metrics, &lifecycle))?;
        let Shared { warm, leases, floor } = shared;
        let follower = follower(&settings, replica, now);
        let coherence = Arc::new(Coherence::new(store.clone(), follower, floor, subscribers));
        let hasher = Hasher::new(settings.workers, deps.hash_cost, lifecycle.clone())?;
        let (max_entries, usable_for) = (settings.max_entries, settings.stale.longest());
        let service = Service::new(Parts {
            store: store.clone(),
            audit: audit.clone(),
            keyring,
            coherence: Arc::clone(&coherence),
            stack: Stack { hot, warm, cold: Cold::new(store.clone()) },
            leases,
            upstream: Arc::clone(&deps.upstream),
            hasher: hasher.clone(),
            remembered: Arc::clone(&remembered),
            clock: Arc::clone(&deps.clock),
            ids: Arc::clone(&deps.ids),
            metrics: Arc::clone(&metrics),
            lifecycle: lifecycle.clone(),
            installation,
            keys: Arc::clone(&deps.keys),
            checkpoint: trail::checkpoint(&settings),
            erasures: trail::erasures(&settings, &deps),
            switch: settings.switch,
            default_ttl: settings.default_ttl,
            stale: settings.stale,
            capacity: Capacity { max_entries, usable_for },
            retention_days: settings.retention_days,
            part_bytes: settings.part_bytes,
        });
        let clock = Arc::clone(&deps.clock);
        let authenticator = Authenticator::new(store, coherence, remembered, hasher, audit, clock);
        let authenticator = Arc::new(authenticator);
        let app = Self { service, authenticator, metrics, deps, settings, lifecycle };
        app.begin(ledger, (uses, sweeper)).await?;
        Ok(app)
    }

    /// Does what comes before the first request, and starts the tasks.
    async fn begin(
        &self,
        ledger: PresentLedger,
        (uses, sweeper): (UseWriter, Arc<Sweeper>),
    ) -> Result<(), AppError> {
        tasks::make_partitions(&self.service).await;
        self.service.note_ledger(ledger).await?;
        if self.settings.spool.is_some() {
            let parts = self.service.parts();
            // Nobody need wait for the dead; nor for a command, which does not serve.
            let dead: Vec<Uuid> = parts.audit.dead().iter().map(|dead| dead.0).collect();
            parts.coherence.sign_off(&dead).await?;
            parts.coherence.begin().await?;
            self.service.begin_erasure_ledger().await?;
        }
        Ok(self.spawn_tasks(uses, sweeper).map_err(AuditStartError::Thread)?)
    }

    /// The use cases.
    pub const fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Serves HTTP on a listener that is bound already.
    pub fn serve(self, listener: TcpListener) -> Result<Running, AppError> {
        let mut insecure = Vec::new();
        if self.settings.encryption == Encryption::PublicKey {
            insecure.push("AI_CACHE_ENCRYPTION_ENABLED=false");
        }
        if self.settings.auditing == Auditing::Off {
            insecure.push("AI_CACHE_AUDIT_LOGGING_ENABLED=false");
        }
        let state = State {
            service: Arc::clone(&self.service),
            authenticator: Arc::clone(&self.authenticator),
            metrics: Arc::clone(&self.metrics),
            clock: Arc::clone(&self.deps.clock),
            ids: Arc::clone(&self.deps.ids),
            trusted_proxies: self.settings.trusted_proxies.clone(),
            body_limit: self.settings.body_limit,
            monitoring: self.settings.monitoring,
            insecure,
        };
        let settings =
            ServerSettings { workers: self.settings.workers, grace: self.settings.grace };
        let server = Server::start(listener, state, settings, &self.lifecycle)?;
        Ok(Running { app: self, server })
    }

    /// Writes what is queued and ends every task; returns whether all ended by themselves.
    pub async fn stop(self) -> bool {
        let clean = self.lifecycle.shut_down(self.settings.grace).await;
        self.service.parts().store.close().await;
        clean
    }
}

impl Running {
    /// Where HTTP listens.
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The use cases.
    pub const fn service(&self) -> &Arc<Service> {
        self.app.service()
    }

    /// Finishes the replies under way, then everything else.
    pub async fn stop(self) -> bool {
        self.server.stop().await;
        self.app.stop().await
    }
}

/// The installation's own tenant, which `migrate` makes.
async fn find_installation(store: &Store) -> Result<TenantId, StoreError> {
    let row = store
        .bounded(async {
            let mut tx = store.begin_system("find the installation's own tenant").await?;
            let row = tenants::find_by_slug(&mut tx, TenantSlug::INSTALLATION).await?;
            tx.end().await?;
            Ok::<_, StoreError>(row)
        })
        .await?;
    row.map(|row| row.id).ok_or(StoreError::UnknownValue("installation"))
}

fn keyring(
    settings: &AppSettings,
    deps: &Deps,
    (store, audit): (&Store, &Audit),
    outage: TimeDelta,
) -> Keyring {
    Keyring::new(KeyringParts {
        store: store.clone(),
        provider: Arc::clone(&deps.keys),
        audit: audit.clone(),
        clock: Arc::clone(&deps.clock),
        ids: Arc::clone(&deps.ids),
        encryption: settings.encryption,
        outage,
    })
}

/// This process as the others see it.
fn follower(settings: &AppSettings, replica: Uuid, started_at: DateTime<Utc>) -> Follower {
    let floor = settings.redis.is_some();
    Follower { lease: coherence::LEASE, floor, replica, started_at }
}

/// Who must react to steps of the invalidation stream; the first of them has a task to be run.
fn subscribers(
    (hot, metrics): (&Arc<Hot>, &Arc<Metrics>),
    (remembered, keyring): (&Arc<Remembered>, &Arc<Keyring>),
    classes: Arc<RetentionClasses>,
) -> (Arc<Sweeper>, Vec<Subscriber>) {
    let sweeper = Arc::new(Sweeper::new(Arc::clone(hot), Arc::clone(metrics)));
    let (hearing, remembered) = (Arc::clone(&sweeper), Arc::clone(remembered));
    let keyring = Arc::clone(keyring);
    let subscribers: Vec<Subscriber> = vec![
        Box::new(move |event| hearing.hear(event)),
        Box::new(move |event| match event {
            Event::Step(Step { change: Change::Token(token), .. }) => remembered.revoke(*token),
            Event::Step(_) | Event::Tenant(_) => {}
            Event::Lost => remembered.forget_all(),
        }),
        Box::new(move |event| match event {
            Event::Step(Step {
                tenant,
                change: Change::Entries(Selector::Group(Group::Subject(id))),
                ..
            }) => keyring.forget_subject(*tenant, *id),
            Event::Step(_) | Event::Tenant(_) => {}
            Event::Lost => keyring.forget_subjects(),
        }),
        Box::new(move |event| match event {
            Event::Tenant(row) => classes.set(row.id, row.rules.retention_days),
            Event::Step(_) | Event::Lost => {}
        }),
    ];
    (sweeper, subscribers)
}
