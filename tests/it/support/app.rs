//! The service in the test's own process, over the test's own database, on a free port.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ai_cache::administration::{Grant, TenantSlug, TokenRequest};
use ai_cache::answering::Switch;
use ai_cache::app::{App, AppError, AppSettings, Auditing, Deps, Process, Running};
use ai_cache::audit::SpoolSettings;
use ai_cache::auth::HashCost;
use ai_cache::compliance::PART_BYTES;
use ai_cache::crypto::KeyProvider;
use ai_cache::domain::caller::Role;
use ai_cache::domain::clock::{Clock, SystemClock};
use ai_cache::domain::entry::Windows;
use ai_cache::domain::ids::{Ids, SystemIds, TenantId};
use ai_cache::domain::money::{Prices, Usd};
use ai_cache::http::Monitoring;
use ai_cache::keyring::Encryption;
use ai_cache::redis::RedisSettings;
use ai_cache::store::StoreSettings;
use ai_cache::store::tenants::TenantLimits;
use ai_cache::upstream::{Nothing, OpenAi, OpenAiSettings, Upstream};
use chrono::TimeDelta;

use super::client::Client;
use super::folders::scratch;
use super::services::TestDb;
use super::upstream::TestUpstream;

/// The master key of tests.
pub const MASTER_KEYS: &str = "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// The cost of a token's hash where a test promises nothing about it.
const CHEAP: HashCost = HashCost { memory_kib: 8, passes: 1 };

/// The prices of the tests' upstream: 0.15 and 0.60 dollars a million.
pub const PRICES: Prices = Prices { prompt: Usd(150_000), completion: Usd(600_000) };

/// The longest time for a unit of work of Postgres in production.
const LIMIT: Duration = Duration::from_secs(2);

/// The same where Postgres has no faults: on a busy machine ordinary work takes longer than production
/// allows.
const UNHURRIED: Duration = Duration::from_secs(20);

/// The service that a test wants.
pub struct Builder {
    db: Option<TestDb>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    settings: AppSettings,
    upstream: Option<Arc<dyn Upstream>>,
    keys: Option<PathBuf>,
    hash_cost: HashCost,
}

/// A running service.
pub struct TestApp {
    /// The database.
    pub db: TestDb,
    /// A caller without a token.
    pub client: Client,
    /// The upstream. It is not asked when a test gave another one.
    pub upstream: TestUpstream,
    running: Box<Running>,
}

/// A tenant with a token for each role that it may hold.
pub struct Tenant {
    /// The tenant's id.
    pub id: TenantId,
    /// A caller with the role app.
    pub app: Client,
    /// A caller with the role admin.
    pub admin: Client,
    /// A caller with the role compliance.
    pub compliance: Client,
}

impl Default for Builder {
    fn default() -> Self {
        let settings = AppSettings {
            database_url: String::new(),
            store: StoreSettings { pool_size: 8, limit: LIMIT },
            redis: None,
            memory_bytes: 64 * 1024 * 1024,
            max_entries: 10_000_000,
            switch: Switch::On,
            default_ttl: TimeDelta::seconds(3_600),
            stale: Windows::default(),
            encryption: Encryption::On,
            auditing: Auditing::On,
            process: Process::Service {
                spool: SpoolSettings {
                    dir: scratch("spool"),
                    max_bytes: 64 * 1024 * 1024,
                    max_age: TimeDelta::minutes(15),
                },
            },
            checkpoint: None,
            retention_days: 2_555,
            part_bytes: PART_BYTES,
            erasure_ledger: None,
            monitoring: Monitoring::On,
            trusted_proxies: Vec::new(),
            body_limit: Duration::from_secs(15),
            workers: 1,
            grace: Duration::from_secs(10),
        };
        let clock = Arc::new(SystemClock);
        let ids = Arc::new(SystemIds);
        Self { db: None, clock, ids, settings, upstream: None, keys: None, hash_cost: CHEAP }
    }
}

impl Builder {
    /// Uses this database instead of a fresh one.
    pub fn db(mut self, db: &TestDb) -> Self {
        self.db = Some(db.clone());
        self
    }

    /// Uses this clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Uses this source of ids.
    pub fn ids(mut self, ids: Arc<dyn Ids>) -> Self {
        self.ids = ids;
        self
    }

    /// Uses this Redis.
    pub fn redis_url(mut self, url: &str) -> Self {
        let timeout = Duration::from_millis(500);
        self.settings.redis = Some(RedisSettings { urls: vec![url.to_owned()], timeout });
        self
    }

    /// Uses the keys of this file.
    pub fn key_file(mut self, path: &Path) -> Self {
        self.keys = Some(path.to_owned());
        self
    }

    /// Hashes tokens at the cost of production.
    pub fn full_hash_cost(mut self) -> Self {
        self.hash_cost = HashCost::FULL;
        self
    }

    /// Has no upstream.
    pub fn no_upstream(mut self) -> Self {
        self.upstream = Some(Arc::new(Nothing));
        self
    }

    /// Uses this upstream.
    pub fn upstream(mut self, upstream: Arc<dyn Upstream>) -> Self {
        self.upstream = Some(upstream);
        self
    }

    /// Changes the settings.
    pub fn settings(mut self, change: impl FnOnce(&mut AppSettings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Changes the settings of the spool.
    pub fn spool(mut self, change: impl FnOnce(&mut SpoolSettings)) -> Self {
        let Process::Service { spool } = &mut self.settings.process else { unreachable!() };
        change(spool);
        self
    }

    /// Starts the service.
    pub async fn start(self) -> TestApp {
        self.try_start().await.unwrap()
    }

    /// Starts the service, or returns why it does not start.
    pub async fn try_start(self) -> Result<TestApp, AppError> {
        let db = match self.db {
            Some(db) => db,
            None => TestDb::new().await,
        };
        let mut settings = self.settings;
        if settings.database_url.is_empty() {
            settings.database_url = db.app_url().await;
            // Only tests with a way of their own to Postgres make faults there.
            if settings.store.limit == LIMIT {
                settings.store.limit = UNHURRIED;
            }
        }
        let fake = TestUpstream::start().await;
        let upstream = self.upstream.unwrap_or_else(|| openai(&fake, Arc::clone(&self.clock)));
        let deps = Deps {
            clock: self.clock,
            ids: self.ids,
            upstream,
            keys: Arc::new(match &self.keys {
                None => KeyProvider::from_text(MASTER_KEYS).unwrap(),
                Some(path) => KeyProvider::from_file(path).unwrap(),
            }),
            hash_cost: self.hash_cost,
        };
        let app = Box::pin(App::start(settings, deps)).await?;
        let running = Box::new(app.serve(TcpListener::bind(("127.0.0.1", 0)).unwrap())?);
        let client = Client::new(&format!("http://{}", running.address()));
        Ok(TestApp { db, client, upstream: fake, running })
    }
}

/// Makes the tests' upstream as the service sees it.
pub fn openai(fake: &TestUpstream, clock: Arc<dyn Clock>) -> Arc<dyn Upstream> {
    let settings = OpenAiSettings {
        base_url: fake.url().to_owned(),
        name: "openai".to_owned(),
        api_key: None,
        model: "gpt-4o-mini".to_owned(),
        timeout: Duration::from_secs(20),
        prices: PRICES,
    };
    Arc::new(OpenAi::new(settings, clock).unwrap())
}

impl TestApp {
    /// Begins to describe a service.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts a service as most tests want it.
    pub async fn start() -> Self {
        Builder::default().start().await
    }

    /// Returns the rooms of use cases.
    pub fn rooms(&self) -> &App {
        self.running.app()
    }

    /// Returns the URL at which it listens.
    pub fn base(&self) -> String {
        format!("http://{}", self.running.address())
    }

    /// Makes a tenant.
    pub async fn tenant(&self, slug: &str) -> Tenant {
        let rooms = self.rooms();
        let record = rooms.calls.command_line_record();
        let parsed = TenantSlug::parse(slug).unwrap();
        let row = rooms
            .administration
            .create_tenant(&parsed, slug, TenantLimits::default(), record)
            .await
            .unwrap();
        Tenant {
            id: row.id,
            app: self.client.with_token(&self.token(row.id, &[Role::App]).await),
            admin: self.client.with_token(&self.token(row.id, &[Role::Admin]).await),
            compliance: self.client.with_token(&self.token(row.id, &[Role::Compliance]).await),
        }
    }

    /// Makes a caller with the role operator.
    pub async fn operator(&self) -> Client {
        let slug = TenantSlug::parse("installation").unwrap();
        let tenant = self.rooms().administration.find_tenant(&slug).await.unwrap();
        self.client.with_token(&self.token(tenant.id, &[Role::Operator]).await)
    }

    /// Makes a token of a tenant.
    pub async fn token(&self, tenant: TenantId, roles: &[Role]) -> String {
        let roles = roles.iter().copied().collect();
        let App { administration, calls, .. } = self.rooms();
        let request = TokenRequest { tenant, roles, expires_at: None };
        let record = calls.command_line_record();
        let made = administration.create_token(request, Grant::CommandLine, record).await;
        made.unwrap().text.to_string()
    }

    /// Stops the service. Every task must end by itself.
    pub async fn stop(self) {
        assert!(self.running.stop().await, "a task was left behind");
    }
}
