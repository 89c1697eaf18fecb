//! The real program in a folder of its own, on a free port, with nothing of the environment but
//! the search path.
//! What was started ends with the test, by its process id.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failure in a test's helper is the test's failure"
)]

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, Uid, User};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::app::MASTER_KEYS;
use crate::support::folders::scratch_on_disk;
use crate::support::{Client, TestDb, wait_until};

/// The longest wait for a command to end or for a service to announce itself.
const PATIENCE: Duration = Duration::from_secs(90);

/// Variables of a child.
pub type Variables<'a> = &'a [(&'a str, &'a str)];

/// The program in its folder.
pub struct Program {
    folder: PathBuf,
    binary: PathBuf,
    user: Option<(u32, u32)>,
}

/// The results of a command.
#[derive(Debug)]
pub struct Done {
    /// Exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// A service in a process of its own.
pub struct Serving {
    child: Child,
    /// Held to the end so that the service may go on printing.
    lines: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
    /// The lines up to the one that says how to ask the service.
    pub announced: Vec<String>,
}

impl Program {
    /// Runs the program as the user who runs the tests.
    pub fn new() -> Self {
        let folder = scratch_on_disk("cli");
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_ai-cache"));
        Self { folder, binary, user: None }
    }

    /// Runs the program as an ordinary user: as nobody when root runs the tests.
    pub fn unprivileged() -> Self {
        let mut program = Self::new();
        if Uid::effective().is_root() {
            let nobody = User::from_name("nobody").unwrap().unwrap();
            let (uid, gid) = (nobody.uid.as_raw(), nobody.gid.as_raw());
            chown(&program.folder, Some(uid), Some(gid)).unwrap();
            // The build's folder may be closed to nobody.
            let near = program.path("ai-cache");
            if fs::hard_link(&program.binary, &near).is_err() {
                fs::copy(&program.binary, &near).unwrap();
            }
            program.binary = near;
            program.user = Some((uid, gid));
        }
        program
    }

    /// Returns a path in its folder, which is where it runs.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file into its folder.
    pub fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        if let Some((uid, gid)) = self.user {
            chown(&path, Some(uid), Some(gid)).unwrap();
        }
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    fn command(&self, arguments: &[&str], variables: Variables<'_>) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("AI_CACHE_DATA_DIR", self.path("data"))
            .env("AI_CACHE_BIND", "127.0.0.1:0")
            .envs(variables.iter().copied())
            .stdin(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, arguments: &[&str], variables: Variables<'_>) -> Done {
        let mut command = self.command(arguments, variables);
        let output = command.kill_on_drop(true).output();
        let output = tokio::time::timeout(PATIENCE, output).await;
        let output = output.unwrap_or_else(|_| panic!("{arguments:?} did not end")).unwrap();
        Done {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command on the test's database.
    pub async fn run_on(&self, db: &TestDb, arguments: &[&str]) -> Done {
        let url = db.app_url().await;
        self.run(arguments, &[("DATABASE_URL", &url), ("AI_CACHE_MASTER_KEYS", MASTER_KEYS)]).await
    }

    /// Runs a command on the test's database, which must print JSON and nothing else.
    pub async fn json_on(&self, db: &TestDb, arguments: &[&str]) -> Value {
        let done = self.run_on(db, arguments).await;
        assert_eq!(done.code, Some(0), "{done:?}");
        serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{done:?}"))
    }

    /// Starts the service on a free port and waits until it says where it listens and, with the
    /// embedded database, how to ask it.
    pub async fn serve(&self, variables: Variables<'_>) -> Serving {
        let serving = self.try_serve(variables).await;
        let log = || fs::read_to_string(self.path("serve.log")).unwrap();
        serving.unwrap_or_else(|| panic!("the service ended: {}", log()))
    }

    /// Starts the service. Returns `None` if it ended before it announced itself.
    pub async fn try_serve(&self, variables: Variables<'_>) -> Option<Serving> {
        let log = self.path("serve.log");
        let mut command = self.command(&["serve"], variables);
        let mut child =
            command.stdout(Stdio::piped()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut serving = Serving { child, lines, log, announced: Vec::new() };
        let own_database = variables.iter().any(|(name, _)| *name == "DATABASE_URL");
        let last = if own_database { "ai-cache serves" } else { "curl" };
        let announced = tokio::time::timeout(PATIENCE, serving.read_until(last)).await;
        let announced = announced.unwrap_or_else(|_| panic!("not in time: {}", serving.log()));
        announced.then_some(serving)
    }

    /// Starts the service on the test's database.
    pub async fn serve_on(&self, db: &TestDb) -> Serving {
        let url = db.app_url().await;
        self.serve(&[("DATABASE_URL", &url), ("AI_CACHE_MASTER_KEYS", MASTER_KEYS)]).await
    }
}

impl Drop for Program {
    /// Ends what a killed service left behind when the test failed, and removes the folder.
    fn drop(&mut self) {
        for pid in processes_in(&self.folder) {
            // It may have ended meanwhile.
            let _gone = kill(pid, Signal::SIGTERM).is_err();
        }
        let _gone = fs::remove_dir_all(&self.folder).is_err();
    }
}

/// Returns the processes that work in a folder, where the system tells.
fn processes_in(folder: &Path) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let here = |entry: &fs::DirEntry| {
        fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
    };
    entries
        .filter(here)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
        .collect()
}

impl Done {
    /// Asserts that it was refused with this exit code and one line on stderr, and returns the
    /// line.
    #[track_caller]
    pub fn refused(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        let complaints: Vec<&str> = self.err.lines().collect();
        assert_eq!(complaints.len(), 1, "{self:?}");
        complaints[0].strip_prefix("ai-cache: ").unwrap()
    }
}

impl Serving {
    /// Reads until a line begins like this. Returns false if the output ends before.
    async fn read_until(&mut self, beginning: &str) -> bool {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            self.announced.push(line);
            if self.announced.last().unwrap().starts_with(beginning) {
                return true;
            }
        }
        false
    }

    /// Returns its log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Returns the URL at which it listens.
    pub fn base(&self) -> String {
        let first = self.announced.first().unwrap();
        let base = first.strip_prefix("ai-cache serves ").unwrap();
        base.split(' ').next().unwrap().to_owned()
    }

    /// A caller without a token.
    pub fn client(&self) -> Client {
        Client::new(&self.base())
    }

    /// The line that shows how to ask it.
    pub fn curl(&self) -> &str {
        self.announced.last().unwrap()
    }

    /// The token of that line.
    pub fn token(&self) -> &str {
        let (_, rest) = self.curl().split_once("Bearer ").unwrap();
        rest.split('\'').next().unwrap()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.child.id() {
            kill(Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
        }
    }

    /// Waits until this holds or the service is gone.
    pub async fn wait_unless_ended(&mut self, what: &str, holds: impl Fn() -> bool) {
        wait_until(what, || {
            let ended = self.child.try_wait().unwrap().is_some();
            std::future::ready((ended || holds()).then_some(()))
        })
        .await;
    }

    /// SIGTERM; gives the exit code.
    pub async fn stop(mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.unwrap().unwrap().code()
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().await.unwrap();
    }
}

impl Drop for Serving {
    /// Stops a service that a failed test left, so that it stops its servers.
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        if let Some(id) = self.child.id() {
            // It ends within its own grace. The runtime may have collected it meanwhile.
            let _collected = waitpid(Pid::from_raw(i32::try_from(id).unwrap()), None).is_err();
        }
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
