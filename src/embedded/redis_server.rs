//! Owns the private Redis: it starts or adopts the server and stops it. The server must keep
//! nothing on disk. It listens on a unix socket in a closed folder, or on a loopback port in tests.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::error::EmbeddedError;
use super::folder_lock::{FolderLock, Taken};
use super::place::{ServerKind, ServerPlace};
use super::process::{Lifetime, POLL, ServerProcess, StopSignals, Watchdog, apart, log_to};
use super::programs::find_redis;

const KIND: ServerKind = ServerKind { name: "redis", users: &["redis", "nobody"] };

const SIGNALS: StopSignals = StopSignals {
    polite: Signal::SIGTERM,
    hurried: Signal::SIGKILL,
    patience: Duration::from_secs(10),
};

/// The longest time that one question to the server may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// The settings that every server gets. It makes no snapshots and no append-only file, and when its
/// memory is full, it removes the least recently used keys.
const SETTINGS: [(&str, &str); 6] = [
    ("--save", ""),
    ("--appendonly", "no"),
    ("--maxmemory-policy", "allkeys-lru"),
    ("--daemonize", "no"),
    ("--logfile", ""),
    ("--protected-mode", "yes"),
];

/// The address at which the server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// A socket in a folder that only the server's user and root may enter.
    Unix,
    /// A port of 127.0.0.1. A server on a port is never adopted.
    Tcp(u16),
}

/// The options by which the server is found, run and sized.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// The value of PATH, as `config` read it.
    pub search_path: String,
    /// The name of the server's user, for an ai-cache that is run by root. `None` means `redis`,
    /// or `nobody` if there is no user `redis`.
    pub run_as: Option<String>,
    pub lifetime: Lifetime,
    pub listen: Listen,
    pub max_memory_mb: u32,
    pub start_timeout: Duration,
}

impl RedisOptions {
    pub fn new(search_path: impl Into<String>) -> Self {
        Self {
            search_path: search_path.into(),
            run_as: None,
            lifetime: Lifetime::Independent,
            listen: Listen::Unix,
            max_memory_mb: 256,
            start_timeout: Duration::from_secs(20),
        }
    }
}

/// A Redis that answers. If a `RedisServer` is dropped without `stop`, the server is asked to stop.
#[derive(Debug)]
pub struct RedisServer {
    address: RedisAddress,
    process: ServerProcess,
    watchdog: Option<Watchdog>,
    lock: FolderLock,
}

#[derive(Debug, Clone)]
enum RedisAddress {
    Socket(PathBuf),
    Port(u16),
}

impl RedisServer {
    /// Returns the path of the server's program. Returns `None` if none is installed.
    pub fn find_program(search_path: &str) -> Option<PathBuf> {
        find_redis(search_path)
    }

    /// Starts the server, or adopts the server that a killed ai-cache left on the same socket.
    /// Returns `InUse` while another ai-cache holds the folder.
    pub async fn start(data_dir: &Path, options: RedisOptions) -> Result<Self, EmbeddedError> {
        let begun = Instant::now();
        let lock = match FolderLock::take(&ServerPlace::lock_file(data_dir, KIND)?)? {
            Taken::Mine(lock) => lock,
            Taken::Other(holder) => {
                return Err(EmbeddedError::InUse { folder: data_dir.to_path_buf(), holder });
            }
        };
        let program = find_redis(&options.search_path).ok_or(EmbeddedError::RedisMissing)?;
        let place = ServerPlace::prepare(data_dir, KIND, options.run_as.as_deref())?;
        let address = match options.listen {
            Listen::Unix => RedisAddress::Socket(place.socket_dir.join("redis.sock")),
            Listen::Tcp(port) => RedisAddress::Port(port),
        };
        let mut watchdog = Watchdog::start(options.lifetime, &place, SIGNALS.polite)?;
        let mut process = if let Some(pid) = find_left(&address).await {
            ServerProcess::adopt(pid, KIND.name, SIGNALS)
        } else {
            let command = server_command(&program, &place, &address, &options)?;
            ServerProcess::start(command, KIND.name, SIGNALS)?
        };
        if let Some(watchdog) = &mut watchdog {
            watchdog.watch(&process);
        }
        wait_until_answering(&mut process, &address, &place, &options).await?;
        tracing::info!(
            adopted = process.is_adopted(),
            elapsed_ms = begun.elapsed().as_millis(),
            "embedded Redis answers"
        );
        Ok(Self { address, process, watchdog, lock })
    }

    /// Returns a URL for the redis crate: `redis+unix:///…` or `redis://127.0.0.1:…`.
    pub fn url(&self) -> String {
        match &self.address {
            RedisAddress::Socket(path) => format!("redis+unix://{}", path.display()),
            RedisAddress::Port(port) => format!("redis://127.0.0.1:{port}"),
        }
    }

    pub fn pid(&self) -> i32 {
        self.process.pid().as_raw()
    }

    /// Returns true if a killed ai-cache had left the server running.
    pub fn is_adopted(&self) -> bool {
        self.process.is_adopted()
    }

    pub async fn stop(self) -> Result<(), EmbeddedError> {
        let Self { process, watchdog, lock, .. } = self;
        process.stop().await?;
        if let Some(watchdog) = watchdog {
            watchdog.dismiss();
        }
        drop(lock);
        Ok(())
    }
}

fn server_command(
    program: &Path,
    place: &ServerPlace,
    address: &RedisAddress,
    options: &RedisOptions,
) -> Result<Command, EmbeddedError> {
    let mut command = apart(program, place.user);
    for (name, value) in SETTINGS {
        command.args([name, value]);
    }
    command.args(["--maxmemory", &format!("{}mb", options.max_memory_mb)]);
    command.arg("--dir").arg(&place.server_dir);
    match address {
        RedisAddress::Socket(path) => {
            command.args(["--port", "0", "--unixsocketperm", "700", "--unixsocket"]).arg(path);
        }
        RedisAddress::Port(port) => {
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        }
    }
    log_to(&mut command, &place.log_file())?;
    Ok(command)
}

/// Returns the process that listens on the socket, or `None` if no process does. The process may be
/// adopted, because only a server of the same user can listen in that folder, and this ai-cache
/// holds the folder's lock.
async fn find_left(address: &RedisAddress) -> Option<Pid> {
    let RedisAddress::Socket(_) = address else {
        return None;
    };
    process_id(&ask(address, "INFO server").await?)
}

fn process_id(info: &str) -> Option<Pid> {
    let line = info.lines().find_map(|line| line.strip_prefix("process_id:"))?;
    line.trim().parse().ok().filter(|pid| *pid > 1).map(Pid::from_raw)
}

/// Waits until `process` itself answers. An answer of another process that had the port before does
/// not count.
async fn wait_until_answering(
    process: &mut ServerProcess,
    address: &RedisAddress,
    place: &ServerPlace,
    options: &RedisOptions,
) -> Result<(), EmbeddedError> {
    let deadline = Instant::now() + options.start_timeout;
    while Instant::now() < deadline {
        let answer = ask(address, "INFO server").await;
        if answer.as_deref().and_then(process_id) == Some(process.pid()) {
            return Ok(());
        }
        if !process.is_running() {
            return Err(EmbeddedError::Ended { server: KIND.name, log: place.log_file() });
        }
        tokio::time::sleep(POLL).await;
    }
    let waited = options.start_timeout;
    Err(EmbeddedError::NotAccepting { server: KIND.name, log: place.log_file(), waited })
}

/// Sends one inline command and reads until the server closes the connection.
async fn ask(address: &RedisAddress, question: &str) -> Option<String> {
    let text = format!("{question}\r\nQUIT\r\n");
    let exchange = async {
        match address {
            RedisAddress::Socket(path) => converse(UnixStream::connect(path).await?, &text).await,
            RedisAddress::Port(port) => {
                converse(TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await?, &text).await
            }
        }
    };
    tokio::time::timeout(ASK_TIMEOUT, exchange).await.ok()?.ok()
}

async fn converse<S>(mut stream: S, text: &str) -> std::io::Result<String>
where
    S: AsyncReadExt + AsyncWriteExt + Unpin,
{
    stream.write_all(text.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
