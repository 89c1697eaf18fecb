//! The composition root: settings and what tests may replace become a running service. The one
//! place that knows which parts are there.

mod trail;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use ipnet::IpNet;

use crate::audit::{AuditStartError, CheckpointError, LedgerError, SpoolSettings};
use crate::auth::{Authenticator, Hasher, HasherError, Remembered};
use crate::coherence::{Coherence, Subscriber};
use crate::crypto::{CryptoError, KeyProvider};
use crate::domain::clock::Clock;
use crate::domain::ids::{Ids, TenantId};
use crate::domain::selector::{Change, Step};
use crate::http::{Monitoring, Server, ServerError, ServerSettings, State};
use crate::keyring::{Encryption, Keyring, KeyringParts};
use crate::lifecycle::Lifecycle;
use crate::redis::{Redis, RedisError, RedisSettings};
use crate::service::{Parts, Service, Switch, TenantSlug, UseWriter};
use crate::store::guard::GuardError;
use crate::store::{Store, StoreError, StoreSettings, guard, tenants};
use crate::telemetry::{Metrics, MetricsError};
use crate::tiers::{Cold, Hot, RedisTier, Stack, UseCounter, Warm, WarmOff};
use crate::upstream::Upstream;

/// How often remembered keys and tokens are swept, and partitions looked after.
const SWEEP: Duration = Duration::from_secs(30);
const PARTITIONS: Duration = Duration::from_hours(6);

/// How often it is looked whether the daily verification is due.
const VERIFICATION: Duration = Duration::from_mins(10);

/// How often refused requests that were only counted are recorded.
const DENIALS: Duration = Duration::from_secs(1);

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
    /// Whether entries are sealed under secret keys.
    pub encryption: Encryption,
    /// Whether records are written.
    pub auditing: Auditing,
    /// Where records wait while Postgres is down; `None` for a command, which does not wait.
    pub spool: Option<SpoolSettings>,
    /// Where each seal of the trail is kept outside; `None`: nowhere.
    pub checkpoint: Option<PathBuf>,
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
    /// The checkpoint file cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl From<LedgerError> for AppError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Store(error) => error.into(),
            LedgerError::Checkpoint(error) => error.into(),
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
        let store = Store::new(&settings.database_url, &settings.store)?;
        guard::check(&store).await?;
        let lifecycle = Lifecycle::new();
        let metrics = Arc::new(Metrics::new()?);
        let (audit, ledger) = trail::start(&settings, &deps, &store, &metrics, &lifecycle).await?;
        let (hot, used) = Hot::new(settings.memory_bytes);
        let hot = Arc::new(hot);
        let outage = settings.spool.as_ref().map_or(TimeDelta::zero(), |spool| spool.max_age);
        let remembered = Arc::new(Remembered::new(outage)?);
        let subscribers = subscribers(&hot, &remembered, &lifecycle);
        let now = deps.clock.now();
        let replica = deps.ids.next(now);
        let coherence = Coherence::start(store.clone(), replica, now, subscribers).await?;
        let coherence = Arc::new(coherence);
        let hasher = Hasher::new(settings.workers, lifecycle.clone())?;
        let keyring = Arc::new(Keyring::new(KeyringParts {
            store: store.clone(),
            provider: Arc::clone(&deps.keys),
            audit: audit.clone(),
            clock: Arc::clone(&deps.clock),
            ids: Arc::clone(&deps.ids),
            encryption: settings.encryption,
            outage,
        }));
        let warm = start_warm(&settings, &deps, &metrics, &lifecycle)?;
        let installation = find_installation(&store).await?;
        let service = Service::new(Parts {
            store: store.clone(),
            audit: audit.clone(),
            keyring,
            coherence: Arc::clone(&coherence),
            stack: Stack { hot, warm, cold: Cold::new(store.clone()) },
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
            switch: settings.switch,
            default_ttl: settings.default_ttl,
        });
        let clock = Arc::clone(&deps.clock);
        let authenticator = Authenticator::new(store, coherence, remembered, hasher, audit, clock);
        let authenticator = Arc::new(authenticator);
        let app = Self { service, authenticator, metrics, deps, settings, lifecycle };
        make_partitions(&app.service).await;
        app.service.note_ledger(ledger).await?;
        app.spawn_tasks(used);
        Ok(app)
    }

    /// The tasks that run beside the requests until the service stops.
    fn spawn_tasks(&self, used: tokio::sync::mpsc::Receiver<Arc<UseCounter>>) {
        let parts = self.service.parts();
        let lifecycle = &self.lifecycle;
        lifecycle.spawn(Arc::clone(&parts.coherence).follow(lifecycle.clone()));
        lifecycle.spawn(UseWriter::new(parts.store.clone(), used).run(lifecycle.clone()));
        let (keyring, authenticator) =
            (Arc::clone(&parts.keyring), Arc::clone(&self.authenticator));
        lifecycle.spawn(every(SWEEP, lifecycle.clone(), move || {
            keyring.forget_expired();
            authenticator.forget_expired();
            std::future::ready(())
        }));
        let (service, stop) = (Arc::clone(&self.service), lifecycle.clone());
        let held = parts.audit.hold();
        lifecycle.spawn(async move {
            every(DENIALS, stop, || {
                service.flush_denials();
                std::future::ready(())
            })
            .await;
            service.flush_denials();
            drop(held);
        });
        let service = Arc::clone(&self.service);
        lifecycle.spawn(every(PARTITIONS, lifecycle.clone(), move || {
            let service = Arc::clone(&service);
            async move { make_partitions(&service).await }
        }));
        if self.settings.spool.is_some() {
            let (service, stop) = (Arc::clone(&self.service), lifecycle.clone());
            lifecycle.spawn(async move {
                tokio::select! {
                    () = stop.stopping() => {}
                    () = every(VERIFICATION, stop.clone(), || verify_when_due(&service)) => {}
                }
            });
        }
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
            let mut tx = store.system("find the installation's own tenant").await?;
            let row = tenants::find_by_slug(&mut tx, TenantSlug::INSTALLATION).await?;
            tx.end().await?;
            Ok::<_, StoreError>(row)
        })
        .await?;
    row.map(|row| row.id).ok_or(StoreError::UnknownValue("installation"))
}

fn start_warm(
    settings: &AppSettings,
    deps: &Deps,
    metrics: &Arc<Metrics>,
    lifecycle: &Lifecycle,
) -> Result<Arc<dyn Warm>, AppError> {
    let Some(redis) = &settings.redis else {
        return Ok(Arc::new(WarmOff));
    };
    let redis = Redis::new(redis, Arc::clone(&deps.clock))?;
    let clock = Arc::clone(&deps.clock);
    Ok(Arc::new(RedisTier::start(redis, clock, Arc::clone(metrics), lifecycle)))
}

/// Makes partitions ahead: a row that finds none of its month lands in the default one, which keeps
/// that month's from being made later.
async fn make_partitions(service: &Service) {
    if let Err(error) = service.ensure_partitions().await {
        tracing::error!(%error, "audit partitions could not be made ahead");
    }
}

async fn verify_when_due(service: &Service) {
    if let Err(error) = service.verify_when_due().await {
        tracing::error!(%error, "the audit trail could not be verified");
    }
}

/// Who must react to steps of the invalidation stream.
fn subscribers(
    hot: &Arc<Hot>,
    remembered: &Arc<Remembered>,
    lifecycle: &Lifecycle,
) -> Vec<Subscriber> {
    let (hot, remembered) = (Arc::clone(hot), Arc::clone(remembered));
    let lifecycle = lifecycle.clone();
    vec![
        Box::new(move |step: &Step| {
            let (hot, Step { tenant, change, position }) = (Arc::clone(&hot), *step);
            if let Change::Entries(selector) = change {
                // It only frees memory, and may walk all of it: nobody waits.
                drop(lifecycle.spawn_blocking(move || hot.apply(tenant, position, &selector)));
            }
        }),
        Box::new(move |step: &Step| {
            if let Change::Token(token) = step.change {
                remembered.revoke(token);
            }
        }),
    ]
}

/// Runs `work` now and then until `lifecycle` stops.
async fn every<F: Future<Output = ()> + Send>(
    period: Duration,
    lifecycle: Lifecycle,
    work: impl Fn() -> F + Send,
) {
    loop {
        tokio::select! {
            () = lifecycle.stopping() => return,
            () = tokio::time::sleep(period) => work().await,
        }
    }
}
