//! The private Postgres: made on first use, started or adopted, joined by other commands, stopped.
//! Listens on a unix socket in a closed folder and nowhere else; keeps statements out of its log.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::error::EmbeddedError;
use super::folder_lock::{FolderLock, Taken};
use super::place::ServerPlace;
use super::postmaster::{
    KIND, PORT, PostgresOptions, SIGNALS, accepts_connections, cluster, make_cluster,
    not_accepting, postmaster, run,
};
use super::process::{POLL, ServerProcess, Watchdog};
use super::programs::PostgresPrograms;

/// A Postgres that accepts connections. Dropping it without `stop` asks it to stop.
#[derive(Debug)]
pub struct PostgresServer {
    socket_dir: PathBuf,
    /// `None` when another ai-cache holds the server and we only use it.
    hold: Option<OwnedServer>,
}

/// Fields drop in this order: the process is asked to stop before the lock is given up.
#[derive(Debug)]
struct OwnedServer {
    process: ServerProcess,
    watchdog: Option<Watchdog>,
    lock: FolderLock,
}

impl PostgresServer {
    /// Makes the cluster if there is none, then starts it or adopts the one a killed ai-cache left.
    /// Refused with `InUse` while another ai-cache holds the folder.
    pub async fn start(data_dir: &Path, options: PostgresOptions) -> Result<Self, EmbeddedError> {
        match FolderLock::take(&ServerPlace::lock_file(data_dir, KIND)?)? {
            Taken::Mine(lock) => Self::start_holding(lock, data_dir, &options).await,
            Taken::Other(holder) => {
                Err(EmbeddedError::InUse { folder: data_dir.to_path_buf(), holder })
            }
        }
    }

    /// As `start`, but uses the server of another ai-cache when that holds the folder; `stop` then
    /// leaves it alone. For commands beside a running `serve`.
    pub async fn start_or_join(
        data_dir: &Path,
        options: PostgresOptions,
    ) -> Result<Self, EmbeddedError> {
        match FolderLock::take(&ServerPlace::lock_file(data_dir, KIND)?)? {
            Taken::Mine(lock) => Self::start_holding(lock, data_dir, &options).await,
            Taken::Other(_) => Self::join(data_dir, &options).await,
        }
    }

    /// The folder of the socket, to be used as a client's host.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The postmaster's process id; `None` when another ai-cache holds the server.
    pub fn pid(&self) -> Option<i32> {
        self.hold.as_ref().map(|hold| hold.process.pid().as_raw())
    }

    /// Whether the server had been left running by an ai-cache that was killed.
    pub fn is_adopted(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.process.is_adopted())
    }

    /// For sqlx, tokio-postgres and libpq alike. There is no password: who may enter the socket's
    /// folder may connect. `user` and `database` are identifiers that need no escaping.
    pub fn url(&self, user: &str, database: &str) -> String {
        let host = self.socket_dir.to_string_lossy().replace('/', "%2F");
        format!("postgres://{user}@{host}:{PORT}/{database}?sslmode=disable")
    }

    /// A line for a person's shell.
    pub fn psql_command(&self, user: &str, database: &str) -> String {
        format!("psql '{}'", self.url(user, database))
    }

    /// Ends the server: fast shutdown, then an immediate one. Does nothing when another ai-cache
    /// holds it.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        let Some(OwnedServer { process, watchdog, lock }) = self.hold else {
            return Ok(());
        };
        process.stop().await?;
        if let Some(watchdog) = watchdog {
            watchdog.dismiss();
        }
        drop(lock);
        Ok(())
    }

    async fn start_holding(
        lock: FolderLock,
        data_dir: &Path,
        options: &PostgresOptions,
    ) -> Result<Self, EmbeddedError> {
        let begun = Instant::now();
        let place = ServerPlace::prepare(data_dir, KIND, options.run_as.as_deref())?;
        let programs = PostgresPrograms::find(&options.search_path, &cluster(&place))?;
        if !cluster(&place).join("PG_VERSION").exists() {
            make_cluster(&place, &programs).await?;
        }
        let mut watchdog = Watchdog::start(options.lifetime, &place, SIGNALS.hurried)?;
        let (process, socket_dir) = run(&place, &programs, options, &mut watchdog).await?;
        tracing::info!(
            adopted = process.is_adopted(),
            elapsed_ms = begun.elapsed().as_millis(),
            "embedded Postgres accepts connections"
        );
        Ok(Self { socket_dir, hold: Some(OwnedServer { process, watchdog, lock }) })
    }

    /// The holder may still be making the cluster: its socket folder is known once it starts.
    async fn join(data_dir: &Path, options: &PostgresOptions) -> Result<Self, EmbeddedError> {
        let place = ServerPlace::prepare(data_dir, KIND, options.run_as.as_deref())?;
        let deadline = Instant::now() + options.start_timeout;
        while Instant::now() < deadline {
            if let Some((_, socket_dir)) = postmaster(&place)
                && accepts_connections(&socket_dir).await
            {
                return Ok(Self { socket_dir, hold: None });
            }
            tokio::time::sleep(POLL).await;
        }
        Err(not_accepting(&place, options))
    }
}
