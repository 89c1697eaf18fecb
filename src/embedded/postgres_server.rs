//! Owns the private Postgres: it makes the cluster on first use, and starts, adopts, joins or stops
//! the server. The server must listen on a unix socket in a closed folder and nowhere else, and
//! must never write statements into its log.

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

/// A Postgres that accepts connections. If a `PostgresServer` is dropped without `stop`, the server is
/// asked to stop.
#[derive(Debug)]
pub struct PostgresServer {
    socket_dir: PathBuf,
    /// The hold on the server. It is `None` if another ai-cache holds the server and this one only
    /// uses it.
    hold: Option<OwnedServer>,
}

/// The hold on a server. Rust drops the fields in this order, so the process is asked to stop
/// before the lock is released.
#[derive(Debug)]
struct OwnedServer {
    process: ServerProcess,
    watchdog: Option<Watchdog>,
    lock: FolderLock,
}

impl PostgresServer {
    /// Makes the cluster if there is none. Then starts the server, or adopts the server that a
    /// killed ai-cache left. Returns `InUse` while another ai-cache holds the folder.
    pub async fn start(data_dir: &Path, options: PostgresOptions) -> Result<Self, EmbeddedError> {
        match FolderLock::take(&ServerPlace::lock_file(data_dir, KIND)?)? {
            Taken::Mine(lock) => Self::start_holding(lock, data_dir, &options).await,
            Taken::Other(holder) => {
                Err(EmbeddedError::InUse { folder: data_dir.to_path_buf(), holder })
            }
        }
    }

    /// Does the same as `start` if no other ai-cache holds the folder. Otherwise it uses the other
    /// ai-cache's server, and `stop` leaves that server alone. Commands that run beside `serve`
    /// call this.
    pub async fn start_or_join(
        data_dir: &Path,
        options: PostgresOptions,
    ) -> Result<Self, EmbeddedError> {
        match FolderLock::take(&ServerPlace::lock_file(data_dir, KIND)?)? {
            Taken::Mine(lock) => Self::start_holding(lock, data_dir, &options).await,
            Taken::Other(_) => Self::join(data_dir, &options).await,
        }
    }

    /// Returns the folder of the socket. A client uses it as the host.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Returns the postmaster's process id. Returns `None` if another ai-cache holds the server.
    pub fn pid(&self) -> Option<i32> {
        self.hold.as_ref().map(|hold| hold.process.pid().as_raw())
    }

    /// Returns true if a killed ai-cache had left the server running.
    pub fn is_adopted(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.process.is_adopted())
    }

    /// Returns a URL that sqlx, tokio-postgres and libpq understand. There is no password, because
    /// only a user that may enter the socket's folder can connect. `user` and `database` must be
    /// identifiers that need no escaping.
    pub fn url(&self, user: &str, database: &str) -> String {
        let host = self.socket_dir.to_string_lossy().replace('/', "%2F");
        format!("postgres://{user}@{host}:{PORT}/{database}?sslmode=disable")
    }

    /// Returns a command line that a person can paste into a shell.
    pub fn psql_command(&self, user: &str, database: &str) -> String {
        format!("psql '{}'", self.url(user, database))
    }

    /// Ends the server with a fast shutdown, and with an immediate one if the fast one does not
    /// help. Does nothing if another ai-cache holds the server.
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

    /// Waits until the other ai-cache's server accepts connections. The holder may still be making
    /// the cluster, and the socket's folder is known only after the server starts.
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
