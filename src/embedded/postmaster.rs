//! Makes the embedded cluster, whole or not at all, and finds, starts and awaits its postmaster.
//! Changes a pid file only for the holder of the folder's lock, and never the pid file of a running
//! server.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio_postgres::NoTls;

use super::error::EmbeddedError;
use super::place::{ServerKind, ServerPlace};
use super::process::{
    self, Lifetime, POLL, ServerProcess, StopSignals, Watchdog, apart, is_alive, log_to,
};
use super::programs::PostgresPrograms;

/// The cluster's superuser. It makes roles and databases, and the service never connects as it.
pub const SUPERUSER: &str = "postgres";

pub(super) const KIND: ServerKind = ServerKind { name: "postgres", users: &["postgres", "nobody"] };

/// The port number in the name of the socket file. No TCP port is opened.
pub(super) const PORT: u16 = 5432;

/// SIGINT is Postgres' fast shutdown, SIGQUIT its immediate one.
pub(super) const SIGNALS: StopSignals = StopSignals {
    polite: Signal::SIGINT,
    hurried: Signal::SIGQUIT,
    patience: Duration::from_secs(30),
};

/// The longest time that one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The settings that the service relies on. They stand on the command line, so that no file in the
/// cluster overrides them. They keep failing statements and their values out of the log.
const SETTINGS: [&str; 15] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "fsync=on",
    "full_page_writes=on",
    "synchronous_commit=on",
    "log_error_verbosity=terse",
    "log_min_error_statement=panic",
    "log_parameter_max_length=0",
    "log_parameter_max_length_on_error=0",
    "logging_collector=off",
    "log_destination=stderr",
    "log_line_prefix=%m [%p] ",
    "log_timezone=UTC",
    "timezone=UTC",
    "jit=off",
];

/// The options by which the server is found, run and sized.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The value of PATH, as `config` read it.
    pub search_path: String,
    /// The name of the server's user, for an ai-cache that is run by root. `None` means `postgres`,
    /// or `nobody` if there is no user `postgres`.
    pub run_as: Option<String>,
    pub lifetime: Lifetime,
    pub max_connections: u16,
    pub shared_buffers_mb: u16,
    pub max_wal_size_mb: u16,
    /// The number of transactions that may be left prepared. It is 0 by default, because a prepared
    /// transaction holds back the trail's seals.
    pub max_prepared_transactions: u16,
    /// The longest time that a start may take. Recovery after a crash is part of a start.
    pub start_timeout: Duration,
}

impl PostgresOptions {
    pub fn new(search_path: impl Into<String>) -> Self {
        Self {
            search_path: search_path.into(),
            run_as: None,
            lifetime: Lifetime::Independent,
            max_connections: 100,
            shared_buffers_mb: 128,
            max_wal_size_mb: 2048,
            max_prepared_transactions: 0,
            start_timeout: Duration::from_mins(2),
        }
    }
}

enum Waited {
    Accepting,
    Ended,
    TimedOut,
}

pub(super) fn cluster(place: &ServerPlace) -> PathBuf {
    place.server_dir.join("data")
}

pub(super) fn not_accepting(place: &ServerPlace, options: &PostgresOptions) -> EmbeddedError {
    let waited = options.start_timeout;
    EmbeddedError::NotAccepting { server: KIND.name, log: place.log_file(), waited }
}

/// Makes the cluster under another name and renames it when it is whole. So a kill -9 in between
/// leaves no incomplete cluster.
pub(super) async fn make_cluster(
    place: &ServerPlace,
    programs: &PostgresPrograms,
) -> Result<(), EmbeddedError> {
    let unfinished = place.server_dir.join("data.new");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(EmbeddedError::folder("remove", &unfinished))?;
    }
    let program = programs.initdb();
    let mut command = apart(&program, place.user);
    command.arg("-D").arg(&unfinished);
    command.args(["-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--no-instructions"]);
    command.args(["--auth-local=trust", "--auth-host=reject"]);
    log_to(&mut command, &place.log_file())?;
    let status = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .status()
        .await
        .map_err(|source| EmbeddedError::Program { program, source })?;
    if !status.success() {
        return Err(EmbeddedError::Ended { server: "initdb", log: place.log_file() });
    }
    let whole = cluster(place);
    fs::rename(&unfinished, &whole).map_err(EmbeddedError::folder("make", whole))
}

/// Adopts the cluster's server if it runs, and starts it otherwise. If the adopted server is
/// stopping, `run` waits for its end and starts a new one. If a started server ends at once because
/// children of the last server are still ending, `run` starts it again.
pub(super) async fn run(
    place: &ServerPlace,
    programs: &PostgresPrograms,
    options: &PostgresOptions,
    watchdog: &mut Option<Watchdog>,
) -> Result<(ServerProcess, PathBuf), EmbeddedError> {
    let deadline = Instant::now() + options.start_timeout;
    let was_left = cluster(place).join("postmaster.pid").exists();
    loop {
        let (mut process, socket_dir) = if let Some((pid, socket_dir)) = postmaster(place) {
            (ServerProcess::adopt(pid, KIND.name, SIGNALS), socket_dir)
        } else {
            disown_pid_files(place)?;
            let command = server_command(place, programs, options)?;
            let process = ServerProcess::start(command, KIND.name, SIGNALS)?;
            (process, place.socket_dir.clone())
        };
        if let Some(watchdog) = watchdog.as_mut() {
            watchdog.watch(&process);
        }
        match wait_until_accepting(&mut process, &socket_dir, deadline).await {
            Waited::Accepting => return Ok((process, socket_dir)),
            Waited::Ended if was_left && Instant::now() < deadline => {
                tokio::time::sleep(POLL).await;
            }
            Waited::Ended => {
                return Err(EmbeddedError::Ended { server: KIND.name, log: place.log_file() });
            }
            Waited::TimedOut => return Err(not_accepting(place, options)),
        }
    }
}

fn server_command(
    place: &ServerPlace,
    programs: &PostgresPrograms,
    options: &PostgresOptions,
) -> Result<Command, EmbeddedError> {
    let mut command = apart(&programs.postgres(), place.user);
    command.arg("-D").arg(cluster(place)).arg("-k").arg(&place.socket_dir);
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    command.arg("-c").arg(format!("port={PORT}"));
    command.arg("-c").arg(format!("max_connections={}", options.max_connections));
    command.arg("-c").arg(format!("shared_buffers={}MB", options.shared_buffers_mb));
    command.arg("-c").arg(format!("max_wal_size={}MB", options.max_wal_size_mb));
    command
        .arg("-c")
        .arg(format!("max_prepared_transactions={}", options.max_prepared_transactions));
    log_to(&mut command, &place.log_file())?;
    Ok(command)
}

/// Returns the running postmaster of this cluster and the folder of its socket. They stand in
/// lines 1 and 5 of the pid file. Returns `None` if no postmaster of this cluster runs.
pub(super) fn postmaster(place: &ServerPlace) -> Option<(Pid, PathBuf)> {
    let text = fs::read_to_string(pid_file(place)).ok()?;
    let pid = pid_in(&text)?;
    let is_ours = process::has_argument(pid, &cluster(place)).unwrap_or(true);
    let socket_dir = text.lines().nth(4).map(str::trim).filter(|line| !line.is_empty());
    (is_alive(pid) && is_ours)
        .then(|| (pid, socket_dir.map_or_else(|| place.socket_dir.clone(), PathBuf::from)))
}

/// Replaces the id in the pid file by an id that no process has. Otherwise Postgres would refuse
/// to start if any process has the last server's id now. That can happen, because ids start over in
/// a container and a dead process keeps its id until it is collected. The rest of the file stays,
/// because it tells Postgres whether children of the last server still run. The socket's lock file
/// tells nothing more and is removed. Only the holder of the folder's lock may call this.
fn disown_pid_files(place: &ServerPlace) -> Result<(), EmbeddedError> {
    let socket_lock = place.socket_dir.join(format!(".s.PGSQL.{PORT}.lock"));
    if socket_lock.exists() {
        fs::remove_file(&socket_lock).map_err(EmbeddedError::folder("remove", &socket_lock))?;
    }
    let file = pid_file(place);
    let Ok(text) = fs::read_to_string(&file) else {
        return Ok(());
    };
    let Some((_, rest)) = text.split_once('\n') else {
        return Ok(());
    };
    let rewrite = || -> std::io::Result<()> {
        let owner = fs::symlink_metadata(cluster(place))?;
        let new = file.with_extension("pid.new");
        if new.exists() {
            fs::remove_file(&new)?;
        }
        let mut options = OpenOptions::new();
        let mut opened = options.write(true).create_new(true).mode(0o600).open(&new)?;
        opened.write_all(format!("{}\n{rest}", i32::MAX).as_bytes())?;
        fchown(&opened, Some(owner.uid()), Some(owner.gid()))?;
        fs::rename(&new, &file)
    };
    rewrite().map_err(EmbeddedError::folder("write", &file))
}

fn pid_file(place: &ServerPlace) -> PathBuf {
    cluster(place).join("postmaster.pid")
}

fn pid_in(text: &str) -> Option<Pid> {
    text.lines().next()?.trim().parse().ok().filter(|pid| *pid > 1).map(Pid::from_raw)
}

async fn wait_until_accepting(
    process: &mut ServerProcess,
    socket_dir: &Path,
    deadline: Instant,
) -> Waited {
    loop {
        if accepts_connections(socket_dir).await {
            return Waited::Accepting;
        }
        if !process.is_running() {
            return Waited::Ended;
        }
        if Instant::now() >= deadline {
            return Waited::TimedOut;
        }
        tokio::time::sleep(POLL).await;
    }
}

pub(super) async fn accepts_connections(socket_dir: &Path) -> bool {
    let config = client_config(socket_dir, SUPERUSER, "postgres");
    // A successful login is enough. The client and the connection are dropped.
    matches!(tokio::time::timeout(CONNECT_TIMEOUT, config.connect(NoTls)).await, Ok(Ok(_)))
}

/// Returns a tokio-postgres configuration for the socket in `socket_dir`.
pub(super) fn client_config(
    socket_dir: &Path,
    user: &str,
    database: &str,
) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config.host_path(socket_dir).port(PORT).user(user).dbname(database);
    config.connect_timeout(CONNECT_TIMEOUT);
    config
}
