//! The disk fails, or the service dies, at each step of the spool: what was acknowledged is there
//! exactly once (issue 3). The program runs with a library before it that makes the fault.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is the test's failure")]
#![expect(clippy::print_stdout, reason = "a promise about counts prints them")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::support::app::MASTER_KEYS;
use crate::support::pg_proxy::PgProxy;
use crate::support::{Client, TestDb, rounds, wait_until};

use super::program::{Program, Serving};

const CALLS: [&str; 5] = ["write", "fdatasync", "fsync", "rename", "unlink"];

/// Questions of each outage. Postgres goes away twice.
const QUESTIONS: usize = 4;

/// The place of a fault.
#[derive(Debug, Clone, Copy)]
struct Fault {
    call: &'static str,
    at: usize,
    how: &'static str,
}

/// From then on, always.
const EVER: &str = "ever";

/// A fault that is never made.
const NONE: Fault = Fault { call: "none", at: 0, how: "eio" };

/// The parts that all tries share.
struct Bench {
    db: TestDb,
    proxy: PgProxy,
    token: String,
    library: PathBuf,
}

/// The results of one try.
#[derive(Default)]
struct Seen {
    /// The audit ids of replies with data.
    ids: Vec<String>,
    refused: usize,
    /// The calls of the spool in order, and the fault among them.
    calls: Vec<String>,
    died: bool,
}

impl Bench {
    async fn new() -> Self {
        let (db, program) = (TestDb::new().await, Program::new());
        program.json_on(&db, &["tenant", "create", "acme", "--name", "Acme", "--json"]).await;
        let make = ["token", "create", "--tenant", "acme", "--role", "app", "--json"];
        let token: Value = program.json_on(&db, &make).await;
        let token = token["token"].as_str().unwrap().to_owned();
        let proxy = PgProxy::start(&db.app_url().await).await;
        let library = crate::support::folders::scratch("faults").join("faults.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/cli/disk_faults.c");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source);
        assert!(compile.status().await.unwrap().success());
        Self { db, proxy, token, library }
    }

    /// Starts the service with a fault. Returns `None` if it ended at once.
    async fn start(&self, program: &Program, fault: Fault) -> Option<Serving> {
        let (at, library) = (fault.at.to_string(), self.library.to_str().unwrap());
        let (folder, log) = (spool(program), program.path("calls.log"));
        let faults = [
            ("LD_PRELOAD", library),
            ("FAULT_DIR", folder.to_str().unwrap()),
            ("FAULT_LOG", log.to_str().unwrap()),
            ("FAULT_CALL", fault.call),
            ("FAULT_AT", at.as_str()),
            ("FAULT_HOW", fault.how),
        ];
        program.try_serve(&[&self.variables()[..], &faults[..]].concat()).await
    }

    fn variables(&self) -> [(&str, &str); 4] {
        [
            ("DATABASE_URL", self.proxy.url()),
            ("AI_CACHE_MASTER_KEYS", MASTER_KEYS),
            ("AI_CACHE_UPSTREAM", "demo"),
            ("AI_CACHE_UPSTREAM_DEMO_DELAY_MS", "0"),
        ]
    }

    /// Runs the service with a fault, through two outages, then without one; everything acknowledged
    /// must be there once.
    async fn run(&self, fault: Fault) -> Seen {
        let (program, mut seen) = (Program::new(), Seen::default());
        match self.start(&program, fault).await {
            Some(serving) => {
                let spool = spool(&program);
                let used = self.use_up(serving, &spool, fault, &mut seen);
                let used = tokio::time::timeout(Duration::from_mins(1), used).await;
                assert!(used.is_ok(), "no end of {fault:?}");
            }
            None => seen.died = true,
        }
        self.settle(&program, fault, &mut seen).await;
        seen
    }

    /// Leaves a spool behind, adopts it with a fault, then without one; everything acknowledged must
    /// be there once.
    async fn adopt(&self, fault: Fault) -> Seen {
        let (program, mut seen) = (Program::new(), Seen::default());
        let serving = self.start(&program, NONE).await.unwrap();
        let caller = serving.client().with_token(&self.token);
        seen.ask(&caller, |spooled| !spooled).await.unwrap();
        self.proxy.take_down();
        for _ in 0..QUESTIONS {
            seen.ask(&caller, |spooled| spooled).await.unwrap();
        }
        serving.kill().await;
        assert_eq!(segments(&spool(&program)), 1);
        self.proxy.bring_up();
        fs::remove_file(program.path("calls.log")).unwrap();
        match self.start(&program, fault).await {
            Some(serving) => {
                let folder = spool(&program);
                let used = self.use_once(serving, &folder, &mut seen);
                let used = tokio::time::timeout(Duration::from_mins(1), used).await;
                assert!(used.is_ok(), "no end of {fault:?}");
            }
            None => seen.died = true,
        }
        self.settle(&program, fault, &mut seen).await;
        seen
    }

    /// Asks once and stops the service, as long as it lives.
    async fn use_once(&self, mut serving: Serving, folder: &Path, seen: &mut Seen) {
        let caller = serving.client().with_token(&self.token);
        seen.died = seen.ask(&caller, |spooled| !spooled).await.is_none();
        serving.wait_unless_ended("the spool is drained", || segments(folder) == 0).await;
        let code = serving.stop().await;
        seen.died = seen.died || code.is_none();
        assert!(seen.died || code == Some(0), "ended with {code:?}");
    }

    /// Runs the service without a fault until everything acknowledged is there, once.
    async fn settle(&self, program: &Program, fault: Fault, seen: &mut Seen) {
        self.proxy.bring_up();
        seen.calls = calls(program);
        let serving = program.serve(&self.variables()).await;
        wait_until("what was left is adopted", || async {
            (self.records(&seen.ids).await.0 >= seen.ids.len() && segments(&spool(program)) == 0)
                .then_some(())
        })
        .await;
        let count = seen.ids.len();
        assert_eq!(self.records(&seen.ids).await, (count, count), "{fault:?}");
        assert_eq!(serving.stop().await, Some(0));
        let left = fs::read_dir(spool(program)).unwrap().count();
        assert_eq!(left, 0, "{fault:?} leaves nothing");
    }

    /// Asks through two outages, as long as the service lives, and stops it.
    async fn use_up(&self, mut serving: Serving, folder: &Path, fault: Fault, seen: &mut Seen) {
        let stays = fault.how == EVER;
        let caller = serving.client().with_token(&self.token);
        for _ in 0..2 {
            seen.died = seen.died || seen.ask(&caller, |spooled| !spooled).await.is_none();
            self.proxy.take_down();
            for _ in 0..QUESTIONS {
                seen.died = seen.died || seen.ask(&caller, |spooled| spooled).await.is_none();
            }
            self.proxy.bring_up();
            serving
                .wait_unless_ended("the spool is drained", || stays || segments(folder) == 0)
                .await;
        }
        seen.died = seen.died || seen.ask(&caller, |spooled| !spooled).await.is_none();
        let code = serving.stop().await;
        seen.died = seen.died || code.is_none();
        assert!(seen.died || code == Some(0), "ended with {code:?}");
    }

    /// Counts the records under these ids, and the different ids among them.
    async fn records(&self, ids: &[String]) -> (usize, usize) {
        let query = "SELECT count(*), count(DISTINCT id) FROM ai_cache_audit_logs
                     WHERE id::text = ANY ($1)";
        let row = self.db.superuser().await.query_one(query, &[&ids]).await.unwrap();
        let number = |at: usize| usize::try_from(row.get::<_, i64>(at)).unwrap();
        (number(0), number(1))
    }
}

impl Seen {
    /// Asks until there is data whose record is where it is wanted. Returns `None` if the service
    /// died.
    async fn ask(&mut self, caller: &Client, wanted: impl Fn(bool) -> bool) -> Option<()> {
        loop {
            let reply = caller.try_ask("the question").await?;
            if reply.status != 200 {
                assert_eq!(reply.expect(503).problem(), "audit-unavailable");
                self.refused += 1;
                continue;
            }
            self.ids.push(reply.header("x-audit-id").unwrap().to_owned());
            if wanted(reply.header("x-audit-durability").is_some()) {
                return Some(());
            }
        }
    }

    fn count(&self, call: &str) -> usize {
        self.calls.iter().filter(|seen| *seen == call).count()
    }
}

/// Returns the folder of the service's spool, as the kernel names it.
fn spool(program: &Program) -> PathBuf {
    fs::canonicalize(program.path(".")).unwrap().join("data/spool")
}

/// The calls of the spool in order, and the fault among them.
fn calls(program: &Program) -> Vec<String> {
    let calls = fs::read_to_string(program.path("calls.log")).unwrap_or_default();
    calls.lines().map(str::to_owned).collect()
}

/// Counts the segments.
fn segments(spool: &Path) -> usize {
    let files = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
    let inside = files(spool.to_owned()).flat_map(|entry| files(entry.path()));
    inside.filter(|file| file.path().extension().is_some_and(|kind| kind == "spool")).count()
}

/// Every step that a run without faults took, failing once and dying once.
fn every_fault(seen: &Seen) -> Vec<Fault> {
    assert!(!seen.died && seen.refused == 0);
    let steps = |call| (1..=seen.count(call)).map(move |at| (call, at));
    let calls = CALLS.into_iter().flat_map(steps);
    let both = |(call, at)| ["eio", "kill"].map(|how| Fault { call, at, how });
    calls.flat_map(both).collect()
}

/// Some of each kind, while it runs rather than at its start.
fn some_faults() -> Vec<Fault> {
    let fault = |(call, at, how)| Fault { call, at, how };
    let chosen = [
        ("write", 2, "eio"),
        ("write", 4, "kill"),
        ("fdatasync", 3, "eio"),
        ("fdatasync", 2, "kill"),
        ("fsync", 4, "eio"),
        ("unlink", 2, "eio"),
        ("unlink", 2, "kill"),
        ("unlink", 2, EVER),
        ("rename", 1, "eio"),
    ];
    chosen.map(fault).to_vec()
}

/// Issue 3: EIO and SIGKILL at each write, sync, rename and removal of the spool.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_the_disk_lose_and_double_no_acknowledged_record() {
    let bench = Bench::new().await;
    let full = rounds(0, 1) == 1;
    let faults = if full { every_fault(&bench.run(NONE).await) } else { some_faults() };
    let mut sum = Sum::default();
    for fault in &faults {
        sum.add(*fault, &bench.run(*fault).await);
    }
    sum.tell(&bench.db, faults.len()).await;
    // The moment decides how often the spool is emptied, so the last faults may not come up.
    assert!(if full { sum.made * 10 >= faults.len() * 9 } else { sum.made == faults.len() });
}

/// The same faults while the spool of a dead process is adopted, from the first step of the start
/// on.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_the_disk_at_an_adoption_lose_and_double_no_acknowledged_record() {
    let bench = Bench::new().await;
    let full = rounds(0, 1) == 1;
    let mut faults = every_fault(&bench.adopt(NONE).await);
    if !full {
        faults = faults.into_iter().step_by(4).collect();
    }
    let mut sum = Sum::default();
    for fault in &faults {
        sum.add(*fault, &bench.adopt(*fault).await);
    }
    sum.tell(&bench.db, faults.len()).await;
    assert!(sum.made * 10 >= faults.len() * 9);
}

/// The results of all tries.
#[derive(Default)]
struct Sum {
    made: usize,
    replies: usize,
    refused: usize,
    died: usize,
}

impl Sum {
    fn add(&mut self, fault: Fault, seen: &Seen) {
        let hit = usize::from(seen.count("fault") > 0);
        println!(
            "{fault:?}: made {hit}, {} replies with data, each recorded once; {} refused, died {}",
            seen.ids.len(),
            seen.refused,
            seen.died
        );
        self.made += hit;
        self.replies += seen.ids.len();
        self.refused += seen.refused;
        self.died += usize::from(seen.died);
    }

    async fn tell(&self, db: &TestDb, faults: usize) {
        let twice = "SELECT count(*) - count(DISTINCT (writer_id, writer_seq))
                     FROM ai_cache_audit_logs WHERE writer_id IS NOT NULL";
        assert_eq!(db.count(twice).await, 0, "no record is there twice");
        let Self { made, replies, refused, died } = self;
        println!(
            "{made} of {faults} faults made, {died} ended the service; {replies} replies with data, \
             {replies} records of theirs; {refused} refused"
        );
    }
}

/// A disk that refuses every write leaves no trace of the tries: neither files nor open ones.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tries_that_a_disk_refuses_leave_no_files() {
    let (bench, program) = (Bench::new().await, Program::new());
    let fault = Fault { call: "write", at: 2, how: EVER };
    let serving = bench.start(&program, fault).await.unwrap();
    let caller = serving.client().with_token(&bench.token);
    caller.ask("the question").await.expect(200);
    bench.proxy.take_down();
    assert_eq!(caller.ask("the question").await.expect(503).problem(), "audit-unavailable");
    let tries = || calls(&program).iter().filter(|call| *call == "write").count();
    wait_until("it was tried often", || std::future::ready((tries() > 8).then_some(()))).await;
    let left = segments(&spool(&program));
    println!("{} tries, {left} files", tries());
    // One may be under way.
    assert!(left <= 1);
    bench.proxy.bring_up();
    wait_until("data flows again", || async {
        (caller.ask("the question").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(serving.stop().await, Some(0));
}
