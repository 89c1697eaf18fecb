//! One Postgres for the whole run. It is gone when the run ends, however it ends. Each test has a
//! database of its own, copied from a migrated template.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use ai_cache::domain::clock::SystemClock;
use ai_cache::domain::ids::SystemIds;
use ai_cache::embedded::{
    APP_ROLE, Lifetime, Listen, OWNER_ROLE, PostgresOptions, PostgresServer, RedisOptions,
    RedisServer, SUPERUSER,
};
use ai_cache::store::migrate;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, OnceCell, oneshot};
use tokio_postgres::{Client, NoTls};

use super::folders::scratch;

const TEMPLATE: &str = "template_ai_cache";

static POSTGRES: OnceCell<PostgresServer> = OnceCell::const_new();
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| scratch("postgres"));
static DATABASES: AtomicU64 = AtomicU64::new(0);

/// Returns the folders where programs are looked for.
pub fn search_path() -> String {
    option_env!("PATH").unwrap_or("/usr/bin:/usr/sbin:/bin:/usr/local/bin").to_owned()
}

/// Returns the Postgres of the run.
pub async fn postgres() -> &'static PostgresServer {
    POSTGRES
        .get_or_init(|| async {
            let options = PostgresOptions {
                lifetime: Lifetime::Disposable,
                max_connections: 400,
                ..PostgresOptions::new(search_path())
            };
            let postgres = PostgresServer::start(&FOLDER, options).await.unwrap();
            postgres.ensure_roles_and_database().await.unwrap();
            let admin = connect(&postgres.url(SUPERUSER, "postgres")).await;
            let make = format!("CREATE DATABASE {TEMPLATE} OWNER {OWNER_ROLE}");
            admin.batch_execute(&make).await.unwrap();
            migrate_template(&postgres).await;
            postgres
        })
        .await
}

/// Returns what the Postgres has logged so far.
pub fn postgres_log() -> Vec<u8> {
    std::fs::read(FOLDER.join("postgres.log")).unwrap()
}

async fn migrate_template(postgres: &PostgresServer) {
    let owner = connect(&postgres.url(SUPERUSER, TEMPLATE)).await;
    let own = format!("ALTER SCHEMA public OWNER TO {OWNER_ROLE}");
    owner.batch_execute(&own).await.unwrap();
    drop(owner);
    let (admin, app) = (postgres.url(OWNER_ROLE, TEMPLATE), postgres.url(APP_ROLE, TEMPLATE));
    migrate::migrate(&admin, Some(&app), &SystemClock, &SystemIds).await.unwrap();
}

/// Starts a Redis for one test alone.
pub async fn start_redis(listen: Listen) -> RedisServer {
    let options =
        RedisOptions { lifetime: Lifetime::Disposable, listen, ..RedisOptions::new(search_path()) };
    RedisServer::start(&scratch("redis"), options).await.unwrap()
}

/// Lists the names of sealed answers in Redis, which holds a floor and leases besides.
pub const LIST_VALUES: &str = "local found = {}
for _, key in ipairs(redis.call('KEYS', 'ai-cache:*')) do
  if #key == 41 then table.insert(found, key) end
end
return found";

/// Counts the sealed answers in Redis.
pub const COUNT_VALUES: &str = "local found = 0
for _, key in ipairs(redis.call('KEYS', 'ai-cache:*')) do
  if #key == 41 then found = found + 1 end
end
return found";

/// Connects and reads the socket until the client is dropped.
#[expect(clippy::disallowed_methods, reason = "the driver's socket task, owned by its client")]
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(async move {
        let _ended = connection.await;
    });
    client
}

/// A database of one test. It is dropped with the last of its clones.
#[derive(Clone)]
pub struct TestDb {
    database: Arc<Database>,
}

struct Database {
    name: String,
    observer: Observer,
}

/// A connection that asks for numbers. It is made when it is first used, and again when it broke:
/// tests poll, and a connection costs Postgres more than a query.
#[derive(Default)]
pub struct Observer(Mutex<Option<Client>>);

impl Observer {
    /// Returns the one number that a query gives.
    pub async fn count(&self, url: &str, query: &str) -> i64 {
        let mut client = self.0.lock().await;
        if let Some(client) = &*client {
            match client.query_one(query, &[]).await {
                Ok(row) => return row.get(0),
                Err(error) => assert!(client.is_closed(), "{error:?}"),
            }
        }
        client.insert(connect(url).await).query_one(query, &[]).await.unwrap().get(0)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The thread lives as long as the process.
        let _sent = KEEPER.unused.send(std::mem::take(&mut self.name));
    }
}

/// The number of databases that are dropped one after the other. The first drop makes a checkpoint,
/// which is expensive; the others find little to write.
const DROPPED_AT_ONCE: usize = 32;

/// Makes and drops databases over two connections of its own, on a thread of its own: a test that
/// drops its database has ended, and its runtime with it.
struct Keeper {
    wanted: UnboundedSender<(String, oneshot::Sender<()>)>,
    unused: UnboundedSender<String>,
}

static KEEPER: LazyLock<Keeper> = LazyLock::new(|| {
    let (wanted, to_make) = unbounded_channel();
    let (unused, to_drop) = unbounded_channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::join!(make_databases(to_make), drop_databases(to_drop)) });
    });
    Keeper { wanted, unused }
});

async fn admin() -> Client {
    connect(&postgres().await.url(SUPERUSER, "postgres")).await
}

async fn make_databases(mut wanted: UnboundedReceiver<(String, oneshot::Sender<()>)>) {
    let admin = admin().await;
    while let Some((statement, made)) = wanted.recv().await {
        admin.batch_execute(&statement).await.unwrap();
        made.send(()).unwrap();
    }
}

async fn drop_databases(mut unused: UnboundedReceiver<String>) {
    let (admin, mut names) = (admin().await, Vec::new());
    while let Some(name) = unused.recv().await {
        names.push(name);
        if names.len() >= DROPPED_AT_ONCE {
            for name in names.drain(..) {
                let drop = format!("DROP DATABASE {name} WITH (FORCE)");
                admin.batch_execute(&drop).await.unwrap();
            }
        }
    }
}

impl TestDb {
    /// Makes a copy of the migrated template. Copying the files costs half of the default, which
    /// writes every page to the log, because the files are in memory.
    pub async fn new() -> Self {
        Self::create(&format!("TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")).await
    }

    /// Makes a database without any table of the service.
    pub async fn empty() -> Self {
        let db = Self::create("").await;
        let owner = db.superuser().await;
        let own = format!("ALTER SCHEMA public OWNER TO {OWNER_ROLE}");
        owner.batch_execute(&own).await.unwrap();
        db
    }

    async fn create(from: &str) -> Self {
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::SeqCst));
        let make = format!("CREATE DATABASE {name} OWNER {OWNER_ROLE} {from}");
        let (done, made) = oneshot::channel();
        KEEPER.wanted.send((make, done)).unwrap();
        made.await.unwrap();
        Self { database: Arc::new(Database { name, observer: Observer::default() }) }
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.database.name
    }

    /// Returns its URL for a role.
    pub async fn url(&self, role: &str) -> String {
        postgres().await.url(role, self.name())
    }

    /// Returns its URL for the service's role.
    pub async fn app_url(&self) -> String {
        self.url(APP_ROLE).await
    }

    /// Returns its URL for the owner of the tables.
    pub async fn owner_url(&self) -> String {
        self.url(OWNER_ROLE).await
    }

    /// Connects as the superuser, who sees everything.
    pub async fn superuser(&self) -> Client {
        connect(&self.url(SUPERUSER).await).await
    }

    /// Connects as the service's role.
    pub async fn app(&self) -> Client {
        connect(&self.app_url().await).await
    }

    /// Returns the one number that a query gives, as the superuser sees it.
    pub async fn count(&self, query: &str) -> i64 {
        self.database.observer.count(&self.url(SUPERUSER).await, query).await
    }
}

/// Returns what `pg_dump` writes of a database.
pub fn pg_dump(url: &str, options: &[&str]) -> Vec<u8> {
    let program = std::fs::read_dir("/usr/lib/postgresql").ok().and_then(|versions| {
        versions.filter_map(Result::ok).map(|folder| folder.path().join("bin/pg_dump")).max()
    });
    let program = program.unwrap_or_else(|| "pg_dump".into());
    let output = std::process::Command::new(program).args(options).arg(url).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
