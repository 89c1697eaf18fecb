//! A Postgres of one test alone, to be killed, hung and brought back, beside a Redis that goes on.

use std::path::{Path, PathBuf};

use ai_cache::domain::clock::SystemClock;
use ai_cache::domain::ids::SystemIds;
use ai_cache::embedded::{
    APP_ROLE, DATABASE, Lifetime, Listen, OWNER_ROLE, PostgresOptions, PostgresServer, RedisServer,
    SUPERUSER,
};
use ai_cache::store::migrate;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio_postgres::Client;

use crate::support::folders::{scratch, scratch_on_disk};
use crate::support::services::{Observer, connect, search_path, start_redis};
use crate::support::wait_until;

/// Makes a migrated Postgres in a folder and stops it.
async fn make(folder: &Path) {
    let postgres = PostgresServer::start(folder, options()).await.unwrap();
    postgres.ensure_roles_and_database().await.unwrap();
    let [owner, app] = [OWNER_ROLE, APP_ROLE].map(|role| postgres.url(role, DATABASE));
    migrate::migrate(&owner, Some(&app), &SystemClock, &SystemIds).await.unwrap();
    postgres.stop().await.unwrap();
}

/// The folder that is copied for each test: making one takes seconds.
async fn model() -> &'static Path {
    static MODEL: OnceCell<PathBuf> = OnceCell::const_new();
    let made = async || {
        let folder = scratch("model");
        make(&folder).await;
        folder
    };
    MODEL.get_or_init(made).await
}

fn options() -> PostgresOptions {
    PostgresOptions {
        lifetime: Lifetime::Bound,
        max_prepared_transactions: 2,
        ..PostgresOptions::new(search_path())
    }
}

/// A migrated Postgres in a folder of its own.
pub struct Hurt {
    folder: PathBuf,
    postgres: Option<PostgresServer>,
    redis: RedisServer,
    observer: Observer,
}

impl Hurt {
    /// One whose files survive what they would in production, for tests that kill or hang it.
    pub async fn on_disk() -> Self {
        Self::copied(scratch_on_disk("hurt")).await
    }

    /// One for tests that need a server of their own and promise nothing about its files.
    pub async fn in_memory() -> Self {
        Self::copied(scratch("hurt")).await
    }

    /// One that is no copy: its cluster has another identifier than those of the others.
    pub async fn of_another_identity() -> Self {
        let folder = scratch("hurt");
        make(&folder).await;
        Self::started(folder).await
    }

    async fn copied(folder: PathBuf) -> Self {
        let contents = model().await.join(".");
        let copied = Command::new("cp").arg("-a").arg(contents).arg(&folder).status().await;
        assert!(copied.unwrap().success());
        Self::started(folder).await
    }

    async fn started(folder: PathBuf) -> Self {
        let redis = start_redis(Listen::Unix).await;
        let mut hurt = Self { folder, postgres: None, redis, observer: Observer::default() };
        hurt.bring_back().await;
        hurt
    }

    /// Its URL for the service's role.
    pub fn url(&self) -> String {
        self.postgres.as_ref().unwrap().url(APP_ROLE, DATABASE)
    }

    /// The URL of the Redis beside it.
    pub fn redis_url(&self) -> String {
        self.redis.url()
    }

    /// Its URL for the superuser.
    pub fn superuser_url(&self) -> String {
        self.postgres.as_ref().unwrap().url(SUPERUSER, DATABASE)
    }

    /// Connected as the superuser.
    pub async fn superuser(&self) -> Client {
        connect(&self.superuser_url()).await
    }

    /// Another database of the same server, connected to as the superuser.
    pub async fn other_database(&self) -> Client {
        self.superuser().await.batch_execute("CREATE DATABASE elsewhere").await.unwrap();
        connect(&self.postgres.as_ref().unwrap().url(SUPERUSER, "elsewhere")).await
    }

    /// The one number a query gives.
    pub async fn count(&self, query: &str) -> i64 {
        self.observer.count(&self.superuser_url(), query).await
    }

    /// Counts the records under these ids.
    pub async fn records(&self, ids: &[String]) -> usize {
        let query = "SELECT count(*) FROM ai_cache_audit_logs WHERE id::text = ANY ($1)";
        let row = self.superuser().await.query_one(query, &[&ids]).await.unwrap();
        usize::try_from(row.get::<_, i64>(0)).unwrap()
    }

    /// The server's processes: the postmaster and its children.
    fn processes(&self) -> Vec<Pid> {
        let postmaster = self.postgres.as_ref().unwrap().pid().unwrap();
        let children = format!("/proc/{postmaster}/task/{postmaster}/children");
        let children = std::fs::read_to_string(children).unwrap();
        let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
        std::iter::once(postmaster).chain(children).map(Pid::from_raw).collect()
    }

    fn signal(&self, signal: Signal) {
        for pid in self.processes() {
            // A child may have ended meanwhile.
            let _gone = kill(pid, signal);
        }
    }

    /// SIGKILL to all of it.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.postgres = None;
    }

    /// Starts it, also after `kill`.
    pub async fn bring_back(&mut self) {
        let folder = self.folder.clone();
        let postgres = wait_until("Postgres starts", || {
            let folder = folder.clone();
            async move { PostgresServer::start(&folder, options()).await.ok() }
        });
        self.postgres = Some(postgres.await);
    }

    /// Ends it in peace; `bring_back` starts it again.
    pub async fn halt(&mut self) {
        self.postgres.take().unwrap().stop().await.unwrap();
    }

    /// Returns the folder of everything it keeps.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Postgres' own data folder.
    pub fn cluster(&self) -> PathBuf {
        self.folder.join("postgres/data")
    }

    /// SIGSTOP until the guard is dropped.
    pub fn hang(&self) -> Hung<'_> {
        self.signal(Signal::SIGSTOP);
        Hung(self)
    }

    /// Ends it and removes what it kept.
    pub async fn stop(mut self) {
        if let Some(postgres) = self.postgres.take() {
            postgres.stop().await.unwrap();
        }
        self.redis.stop().await.unwrap();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// A Postgres that answers nobody. Goes on when this is dropped.
pub struct Hung<'a>(&'a Hurt);

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::SIGCONT);
    }
}
