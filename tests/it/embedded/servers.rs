//! The parts that the tests of the embedded servers share: options, folders, another process, a
//! client.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is the test's failure")]

use std::fs::{self, DirBuilder};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ai_cache::embedded::{
    Lifetime, Listen, PostgresOptions, PostgresServer, RedisOptions, RedisServer,
};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::support::wait_until;

pub(super) const SEARCH_PATH: &str = "/usr/bin:/usr/local/bin:/opt/homebrew/bin";

/// Set for the process that `OtherProcess` starts: which server, how long it lives, its folder.
const OTHER_PROCESS: &str = "IT_EMBEDDED_OTHER_PROCESS";

/// No test by itself: the body of the process that other tests here start and kill.
#[tokio::test]
async fn another_process_holds_a_server_until_it_is_killed() {
    let Some(order) = std::env::var_os(OTHER_PROCESS) else {
        return;
    };
    let order = order.into_string().unwrap();
    let [server, lifetime, folder] = order.splitn(3, ':').collect::<Vec<_>>().try_into().unwrap();
    let lifetime =
        if lifetime == "independent" { Lifetime::Independent } else { Lifetime::Disposable };
    let folder = Path::new(folder);
    let (mut postgres_options, mut redis_options) = (bound(), bound_redis(Listen::Unix));
    postgres_options.lifetime = lifetime;
    redis_options.lifetime = lifetime;
    if server == "postgres" {
        let held = PostgresServer::start(folder, postgres_options).await.unwrap();
        println!("\nserver={}", held.pid().unwrap());
        std::future::pending::<()>().await;
    } else {
        let held = RedisServer::start(folder, redis_options).await.unwrap();
        println!("\nserver={}", held.pid());
        std::future::pending::<()>().await;
    }
}

/// This binary once more, holding a server.
pub(super) struct OtherProcess {
    child: Child,
    pub(super) server_pid: i32,
}

impl OtherProcess {
    pub(super) fn start(server: &str, lifetime: &str, folder: &Path) -> Self {
        let test = "embedded::servers::another_process_holds_a_server_until_it_is_killed";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(OTHER_PROCESS, format!("{server}:{lifetime}:{}", folder.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let server_pid = lines
            .find_map(|line| line.strip_prefix("server=").and_then(|pid| pid.parse().ok()))
            .unwrap();
        Self { child, server_pid }
    }

    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        // Killed already, unless the test failed before.
        let _ended = self.child.kill().is_err();
    }
}

pub(super) fn bound() -> PostgresOptions {
    let mut options = PostgresOptions::new(SEARCH_PATH);
    options.lifetime = Lifetime::Bound;
    options.shared_buffers_mb = 16;
    options.start_timeout = Duration::from_mins(1);
    options
}

pub(super) fn bound_redis(listen: Listen) -> RedisOptions {
    let mut options = RedisOptions::new(SEARCH_PATH);
    options.lifetime = Lifetime::Bound;
    options.listen = listen;
    options
}

async fn client(postgres: &PostgresServer, user: &str, database: &str) -> ClientAndConnection {
    let config = tokio_postgres::Config::from_str(&postgres.url(user, database)).unwrap();
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    ClientAndConnection { client, connection: Box::pin(async { connection.await.unwrap() }) }
}

struct ClientAndConnection {
    client: tokio_postgres::Client,
    connection: Pin<Box<dyn Future<Output = ()>>>,
}

pub(super) async fn run(
    postgres: &PostgresServer,
    user: &str,
    database: &str,
    statement: &str,
) -> Result<(), tokio_postgres::Error> {
    let ClientAndConnection { client, connection } = client(postgres, user, database).await;
    tokio::select! {
        result = client.batch_execute(statement) => result,
        () = connection => unreachable!("the connection ended before its client"),
    }
}

pub(super) async fn ask(
    postgres: &PostgresServer,
    user: &str,
    database: &str,
    query: &str,
) -> String {
    let ClientAndConnection { client, connection } = client(postgres, user, database).await;
    tokio::select! {
        row = client.query_one(query, &[]) => row.unwrap().get(0),
        () = connection => unreachable!("the connection ended before its client"),
    }
}

pub(super) async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    wait_until(what, || std::future::ready(happened().then_some(()))).await;
}

/// A dead process that nobody collected yet does not count.
pub(super) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    kill(Pid::from_raw(pid), None).is_ok() && !stat.contains(") Z ")
}

/// A folder of this test's own, gone at its end.
pub(super) struct TestFolder {
    pub(super) path: PathBuf,
}

impl TestFolder {
    pub(super) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("ai-cache-it-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(unique);
        DirBuilder::new().mode(0o755).create(&path).unwrap();
        Self { path }
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        // A disposable server has removed it already.
        let _gone = fs::remove_dir_all(&self.path).is_err();
    }
}
