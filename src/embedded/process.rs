//! Owns a server's process: it starts the process apart from ai-cache or adopts it, and then
//! watches, signals and awaits it. It signals only a process that it started or that its caller
//! identified.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::EmbeddedError;
use super::place::{ServerPlace, ServerUser};

/// The time between two looks at a socket or a process.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// The size above which a log is renamed when the server starts.
const LOG_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The time for which the server lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// The server survives a kill -9 of ai-cache, and the next start adopts it.
    Independent,
    /// The server is stopped at once when ai-cache ends, however it ends.
    Bound,
    /// The server is stopped as with `Bound`, and then everything that was made for it is removed.
    /// Tests use this.
    Disposable,
}

/// The signals that stop a server. `hurried` is sent if the server still runs `patience` after
/// `polite`.
#[derive(Debug, Clone, Copy)]
pub(super) struct StopSignals {
    pub(super) polite: Signal,
    pub(super) hurried: Signal,
    pub(super) patience: Duration,
}

#[derive(Debug)]
pub(super) struct ServerProcess {
    server: &'static str,
    pid: Pid,
    /// The handle of the process. It is `None` if the process was adopted.
    child: Option<Child>,
    signals: StopSignals,
}

impl ServerProcess {
    pub(super) fn start(
        mut command: Command,
        server: &'static str,
        signals: StopSignals,
    ) -> Result<Self, EmbeddedError> {
        let child = command.spawn().map_err(|source| EmbeddedError::Program {
            program: PathBuf::from(command.get_program()),
            source,
        })?;
        let pid = Pid::from_raw(child.id().cast_signed());
        Ok(Self { server, pid, child: Some(child), signals })
    }

    pub(super) fn adopt(pid: Pid, server: &'static str, signals: StopSignals) -> Self {
        Self { server, pid, child: None, signals }
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn is_adopted(&self) -> bool {
        self.child.is_none()
    }

    pub(super) fn is_running(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => is_alive(self.pid),
        }
    }

    /// Sends the polite signal and waits, then sends the hurried signal and waits again. Returns
    /// `NotStopping` if the process still runs after that.
    pub(super) async fn stop(mut self) -> Result<(), EmbeddedError> {
        for signal in [self.signals.polite, self.signals.hurried] {
            self.signal(signal);
            let deadline = Instant::now() + self.signals.patience;
            while self.is_running() && Instant::now() < deadline {
                tokio::time::sleep(POLL).await;
            }
            if !self.is_running() {
                return Ok(());
            }
        }
        Err(EmbeddedError::NotStopping { server: self.server, pid: self.pid.as_raw() })
    }

    fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            // The process may have ended since the check. Then there is nothing to stop.
            let _already_gone = kill(self.pid, signal).is_err();
        }
    }
}

impl Drop for ServerProcess {
    /// Asks the process to stop and does not wait for it. This matters if `stop` was not called,
    /// after an error during the start or after a panic.
    fn drop(&mut self) {
        self.signal(self.signals.polite);
    }
}

/// A shell that reads from a pipe and ends the server when the pipe closes. Only ai-cache holds the
/// other end. The kernel closes it however ai-cache ends, so the watchdog works for kill -9 too.
#[derive(Debug)]
pub(super) struct Watchdog {
    pipe: ChildStdin,
    shell: Child,
}

/// The script of the watchdog's shell. $1 is the signal, $2 and $3 are folders to remove if they
/// are empty, and the other arguments are paths to remove. A line on the pipe is the id of the
/// process to end, or `stopped` if there is no process to end.
const WATCHDOG_SCRIPT: &str = r#"
signal=$1; first=$2; second=$3; shift 3; pid=
while read -r line; do pid=$line; done
case $pid in
    '') exit 0 ;;
    stopped) ;;
    *)
        kill -s "$signal" "$pid"
        tries=0
        while [ "$tries" -lt 50 ] && kill -0 "$pid"; do sleep 0.1; tries=$((tries + 1)); done
        kill -s KILL "$pid" ;;
esac
[ "$#" -eq 0 ] && exit 0
rm -rf -- "$@"
rmdir -- "$first" "$second"
"#;

impl Watchdog {
    /// Starts the shell. Returns `None` if the server may outlive ai-cache.
    pub(super) fn start(
        lifetime: Lifetime,
        place: &ServerPlace,
        signal: Signal,
    ) -> Result<Option<Self>, EmbeddedError> {
        if lifetime == Lifetime::Independent {
            return Ok(None);
        }
        let shell = PathBuf::from("/bin/sh");
        let mut command = apart(&shell, None);
        command.args(["-c", WATCHDOG_SCRIPT, "sh"]);
        command.arg(signal.as_str().trim_start_matches("SIG"));
        command.args(place.folders_if_empty());
        if lifetime == Lifetime::Disposable {
            command.args(place.belongings());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let failed = |source| EmbeddedError::Program { program: shell.clone(), source };
        let mut shell_process = command.spawn().map_err(failed)?;
        let pipe = shell_process
            .stdin
            .take()
            .ok_or_else(|| failed(std::io::ErrorKind::BrokenPipe.into()))?;
        Ok(Some(Self { pipe, shell: shell_process }))
    }

    pub(super) fn watch(&mut self, process: &ServerProcess) {
        self.tell(&format!("{}\n", process.pid()));
    }

    /// Tells the shell that the server was stopped. The shell sends no signal, removes what it has
    /// to remove, and ends.
    pub(super) fn dismiss(mut self) {
        self.tell("stopped\n");
        drop(self.pipe);
        drop(self.shell.wait());
    }

    fn tell(&mut self, line: &str) {
        if self.pipe.write_all(line.as_bytes()).is_err() {
            tracing::warn!("the watchdog of an embedded server is gone");
        }
    }
}

/// Returns a command that inherits nothing from ai-cache: no environment, because it may hold keys,
/// no working folder, and no Ctrl-C of the terminal. If `user` is given, the command runs as that
/// user without supplementary groups.
pub(super) fn apart(program: &Path, user: Option<ServerUser>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("LC_ALL", "C")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null());
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// Appends both outputs of `command` to the file `log`.
pub(super) fn log_to(command: &mut Command, log: &Path) -> Result<(), EmbeddedError> {
    let open = || -> std::io::Result<(File, File)> {
        if fs::metadata(log).is_ok_and(|meta| meta.len() > LOG_MAX_BYTES) {
            fs::rename(log, log.with_extension("log.1"))?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(log)?;
        Ok((file.try_clone()?, file))
    };
    let (out, err) = open().map_err(EmbeddedError::folder("write", log))?;
    command.stdout(out).stderr(err);
    Ok(())
}

/// Returns true if a process with this id runs and ai-cache may signal it. Returns false for a dead
/// process that is not collected yet. Such a process remains in a container without an init.
pub(super) fn is_alive(pid: Pid) -> bool {
    match kill(pid, None) {
        Ok(()) => !is_zombie(pid),
        Err(_) => false,
    }
}

/// Reads the state of the process, which is the word after the name in parentheses (proc(5)).
fn is_zombie(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
    })
}

/// Tells whether `argument` is on the command line of `pid`. Returns `None` if the command line
/// cannot be read.
pub(super) fn has_argument(pid: Pid, argument: &Path) -> Option<bool> {
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let wanted = argument.as_os_str().as_bytes();
    Some(command_line.split(|byte| *byte == 0).any(|part| part == wanted))
}
