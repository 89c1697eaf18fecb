//! The composition root: it makes a running service of the settings and of the parts that tests may
//! replace. It is the one place that knows which parts there are.

mod error;
mod rooms;
mod settings;
mod shared;
mod subscribers;
mod trail;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::administration::{Administration, TenantSlug};
use crate::answering::{Answering, UseWriter};
use crate::audit::{Audit, AuditStartError, PresentLedger};
use crate::auth::AuthenticatorParts;
use crate::auth::{Authenticator, Hasher, Remembered};
use crate::call::Calls;
use crate::coherence::{self, Coherence};
use crate::compliance::Compliance;
use crate::domain::clock::Clock;
use crate::domain::ids::{TenantId, WriterId};
use crate::http::{HealthParts, Server, ServerSettings, State};
use crate::jobs::{Jobs, Partitions};
use crate::keyring::{Encryption, Keyring, KeyringParts};
use crate::lifecycle::Lifecycle;
use crate::redis::Leases;
use crate::store::follow::Follower;
use crate::store::{Store, StoreError, guard, tenants};
use crate::telemetry::Metrics;
use crate::tiers::{Cold, Hot, Stack, Sweeper};

pub use error::AppError;
pub use settings::{AppSettings, Auditing, Deps, LedgerHold, Process};

use shared::Shared;
use subscribers::subscribers;
use trail::TrailNeeds;

/// The parts behind HTTP, running.
pub struct App {
    /// The room of answers.
    pub answering: Arc<Answering>,
    /// The room of compliance staff.
    pub compliance: Arc<Compliance>,
    /// The room of administrators and operators.
    pub administration: Arc<Administration>,
    /// The parts that all rooms share.
    pub calls: Arc<Calls>,
    jobs: Jobs,
    health: HealthParts,
    remembered: Arc<Remembered>,
    metrics: Arc<Metrics>,
    deps: Deps,
    settings: AppSettings,
}

/// The service with its HTTP server.
pub struct Running {
    app: App,
    server: Server,
}

/// The parts that the rooms are made from.
struct Foundation {
    store: Store,
    audit: Audit,
    keyring: Arc<Keyring>,
    coherence: Arc<Coherence>,
    stack: Stack,
    remembered: Arc<Remembered>,
    hasher: Hasher,
    leases: Arc<dyn Leases>,
    installation: TenantId,
    metrics: Arc<Metrics>,
    lifecycle: Lifecycle,
}

impl App {
    /// Checks the database and starts every part but HTTP.
    pub async fn start(settings: AppSettings, deps: Deps) -> Result<Self, AppError> {
        let (lifecycle, metrics) = (Lifecycle::new(), Arc::new(Metrics::new()?));
        let store = Store::new(&settings.database_url, &settings.store, Arc::clone(&metrics))?;
        guard::check(&store).await?;
        let now = deps.clock.now();
        // One id names the process: as a replica, as a writer, and in its spool's folder.
        let replica = deps.ids.next(now);
        let classes = trail::find_classes(&store, settings.retention_days).await?;
        let needs = TrailNeeds {
            store: &store,
            writer: WriterId(replica),
            classes: &classes,
            metrics: &metrics,
            lifecycle: &lifecycle,
        };
        let (audit, ledger) = trail::start(&settings, &deps, needs).await?;
        let (hot, used) = Hot::new(settings.memory_bytes);
        let hot = Arc::new(hot);
        let outage = settings.process.spool().map_or(TimeDelta::zero(), |spool| spool.max_age);
        let remembered = Arc::new(Remembered::new(outage)?);
        let keyring = Arc::new(keyring(&settings, &deps, &store, &audit, outage));
        let (sweeper, subscribers) = subscribers(&hot, &metrics, &remembered, &keyring, classes);
        let uses = UseWriter::new(store.clone(), Arc::clone(&deps.clock), replica, used);
        let installation = find_installation(&store).await?;
        let shared = Shared::start(&settings, &deps, installation, &metrics, &lifecycle)?;
        let Shared { warm, leases, floor } = shared;
        let follower = follower(&settings, replica, now);
        let coherence = Arc::new(Coherence::new(store.clone(), follower, floor, subscribers));
        let hasher = Hasher::new(settings.workers, deps.hash_cost, lifecycle.clone())?;
        let stack = Stack { hot, warm, cold: Cold::new(store.clone()) };
        let foundation = Foundation {
            store,
            audit,
            keyring,
            coherence,
            stack,
            remembered,
            hasher,
            leases,
            installation,
            metrics,
            lifecycle,
        };
        let app = Self::of(foundation, settings, deps);
        app.begin(ledger, uses, sweeper).await?;
        Ok(app)
    }

    /// Puts the rooms together.
    fn of(foundation: Foundation, settings: AppSettings, deps: Deps) -> Self {
        let calls = rooms::calls(&foundation, &deps);
        let answering = rooms::answering(&foundation, &settings, &deps, &calls);
        let compliance = rooms::compliance(&foundation, &settings, &deps, &calls);
        let administration = rooms::administration(&foundation, &settings, &deps, &calls);
        let Foundation { store, audit, coherence, stack, keyring, lifecycle, metrics, .. } =
            foundation;
        let authenticator = Arc::new(Authenticator::new(AuthenticatorParts {
            store: store.clone(),
            coherence: Arc::clone(&coherence),
            remembered: Arc::clone(&foundation.remembered),
            hasher: foundation.hasher,
            audit: audit.clone(),
            clock: Arc::clone(&deps.clock),
        }));
        let health = HealthParts {
            store: store.clone(),
            audit: audit.clone(),
            coherence: Arc::clone(&coherence),
            stack,
            upstream: Arc::clone(&deps.upstream),
            lifecycle: lifecycle.clone(),
            switch: settings.switch,
        };
        let jobs = Jobs {
            store,
            audit,
            calls: Arc::clone(&calls),
            compliance: Arc::clone(&compliance),
            administration: Arc::clone(&administration),
            coherence,
            keyring,
            authenticator,
            keys: Arc::clone(&deps.keys),
            clock: Arc::clone(&deps.clock),
            lifecycle,
        };
        let remembered = foundation.remembered;
        Self {
            answering,
            compliance,
            administration,
            calls,
            jobs,
            health,
            remembered,
            metrics,
            deps,
            settings,
        }
    }

    /// Does the work that comes before the first request, and starts the jobs.
    async fn begin(
        &self,
        ledger: PresentLedger,
        uses: UseWriter,
        sweeper: Arc<Sweeper>,
    ) -> Result<(), AppError> {
        let Jobs { store, audit, coherence, clock, .. } = &self.jobs;
        Partitions { store: store.clone(), clock: Arc::clone(clock) }.make().await;
        self.compliance.note_ledger(ledger).await?;
        let is_service = matches!(self.settings.process, Process::Service { .. });
        if is_service {
            // Nobody need wait for dead processes. A command signs nobody off, because it does not
            // serve.
            let dead: Vec<Uuid> = audit.dead().iter().map(|dead| dead.0).collect();
            coherence.sign_off(&dead).await?;
            coherence.begin().await?;
            self.compliance.begin_erasure_ledger().await?;
        }
        if is_service {
            self.jobs.start_service(sweeper).map_err(AuditStartError::Thread)?;
        }
        self.jobs.start(uses);
        Ok(())
    }

    /// Returns the audit trail.
    pub const fn audit(&self) -> &Audit {
        &self.jobs.audit
    }

    /// Returns Postgres.
    pub const fn store(&self) -> &Store {
        &self.jobs.store
    }

    /// Returns the keys of tenants and persons.
    pub const fn keyring(&self) -> &Arc<Keyring> {
        &self.jobs.keyring
    }

    /// Returns the invalidation stream.
    pub const fn coherence(&self) -> &Arc<Coherence> {
        &self.jobs.coherence
    }

    /// Returns the tiers: memory, Redis and Postgres.
    pub const fn stack(&self) -> &Stack {
        &self.health.stack
    }

    /// Returns the tokens that this process knows.
    pub const fn remembered(&self) -> &Arc<Remembered> {
        &self.remembered
    }

    /// Returns the clock.
    pub const fn clock(&self) -> &Arc<dyn Clock> {
        &self.deps.clock
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
            answering: Arc::clone(&self.answering),
            compliance: Arc::clone(&self.compliance),
            administration: Arc::clone(&self.administration),
            calls: Arc::clone(&self.calls),
            health: self.health.clone(),
            authenticator: Arc::clone(&self.jobs.authenticator),
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
        let server = Server::start(listener, state, settings, &self.jobs.lifecycle)?;
        Ok(Running { app: self, server })
    }

    /// Writes everything that is queued and ends every task. Returns whether all tasks ended by
    /// themselves.
    pub async fn stop(self) -> bool {
        let clean = self.jobs.lifecycle.shut_down(self.settings.grace).await;
        self.store().close().await;
        clean
    }
}

impl Running {
    /// Returns the address at which HTTP listens.
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Returns the parts behind HTTP.
    pub const fn app(&self) -> &App {
        &self.app
    }

    /// Finishes the replies under way, then everything else.
    pub async fn stop(self) -> bool {
        self.server.stop().await;
        self.app.stop().await
    }
}

/// Finds the installation's own tenant, which `migrate` makes.
async fn find_installation(store: &Store) -> Result<TenantId, StoreError> {
    let row = store
        .system("find the installation's own tenant", async |mut tx| {
            let row = tenants::find_by_slug(&mut tx, TenantSlug::INSTALLATION).await?;
            Ok::<_, StoreError>(row)
        })
        .await?;
    row.map(|row| row.id).ok_or(StoreError::UnknownValue("installation"))
}

fn keyring(
    settings: &AppSettings,
    deps: &Deps,
    store: &Store,
    audit: &Audit,
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

/// Describes this process as other replicas see it.
fn follower(settings: &AppSettings, replica: Uuid, started_at: DateTime<Utc>) -> Follower {
    let floor = settings.redis.is_some();
    Follower { lease: coherence::LEASE, floor, replica, started_at }
}
