//! A restored backup brings back whom it knew, and nobody is served from it until the erasure ledger
//! was applied (issue 5 points 3 and 8; G2).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ai_cache::app::AppSettings;
use ai_cache::compliance::{Applied, MissingSink, RestoreError, Revived};
use ai_cache::embedded::SUPERUSER;
use chrono::TimeDelta;
use serde_json::{Value, json};

use super::ledgers::copy;
use super::proof::{builder as on_its_own, checkpoint_file};
use super::requests::{REQUESTS, file, wait_for};
use crate::cli::program::Program;
use crate::resilience::hurt::Hurt;
use crate::support::app::MASTER_KEYS;
use crate::support::folders::scratch;
use crate::support::services::{connect, pg_dump};
use crate::support::{Builder, Client, Tenant, TestApp, TestClock, TestDb, wait_until};

/// Questions of each person.
const QUESTIONS: usize = 5;

/// Makes the path of an erasure ledger's file, in a folder of its own.
pub(super) fn ledger_file() -> PathBuf {
    scratch("erasures").join("erasures.ndjson")
}

pub(super) fn with(path: &Path) -> impl FnOnce(&mut AppSettings) {
    let path = path.to_owned();
    move |settings| {
        settings.erasure_ledger = Some(path);
    }
}

fn builder(db: &TestDb, ledger: &Path) -> Builder {
    TestApp::builder().db(db).settings(with(ledger))
}

fn question(subject: &str, number: usize, mode: &str) -> Value {
    json!({ "query": format!("question {number}?"), "subjectId": subject,
            "cache": { "mode": mode } })
}

pub(super) async fn ask_all(caller: &Client, subjects: &[&str]) {
    for subject in subjects {
        for number in 0..QUESTIONS {
            caller.query(&question(subject, number, "default")).await.expect(200);
        }
    }
}

/// Counts these persons' answers that are served from the cache.
pub(super) async fn served(caller: &Client, subjects: &[&str]) -> usize {
    let mut served = 0;
    for subject in subjects {
        for number in 0..QUESTIONS {
            let reply = caller.query(&question(subject, number, "only-if-cached")).await;
            served += usize::from(reply.status == 200);
        }
    }
    served
}

pub(super) async fn erase(tenant: &Tenant, subjects: &[&str]) {
    for subject in subjects {
        let id = file(&tenant.compliance, "erase", subject).await;
        wait_for(&tenant.compliance, &id, "completed").await;
    }
}

/// Restores a dump of statements where the superuser is connected to.
pub(super) async fn restore(dump: &[u8], superuser: &str) {
    let dump = std::str::from_utf8(dump).unwrap();
    let owner = connect(superuser).await;
    owner.batch_execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await.unwrap();
    let statements: Vec<&str> = dump.lines().filter(|line| !line.starts_with('\\')).collect();
    let statements = statements.join("\n").replace("CREATE SCHEMA public;", "");
    connect(superuser).await.batch_execute(&statements).await.unwrap();
}

/// Restores a dump into another database of the run's server.
pub(super) async fn restored(dump: &[u8]) -> TestDb {
    let db = TestDb::empty().await;
    restore(dump, &db.url(SUPERUSER).await).await;
    db
}

pub(super) async fn ready(app: &TestApp) {
    wait_until("it is ready", || async {
        (app.client.get("/health/ready").await.status == 200).then_some(())
    })
    .await;
}

async fn not_ready(app: &TestApp) {
    let reply = app.client.get("/health/ready").await.expect(503);
    assert_eq!(reply.body["erasures"], "down");
    let reply = app.client.get("/health/cache").await.expect(200);
    assert_eq!(
        (&reply.body["erasures"], &reply.body["status"]),
        (&json!("down"), &json!("degraded"))
    );
}

async fn apply(app: &TestApp, missing: MissingSink) -> Result<Applied, RestoreError> {
    let rooms = app.rooms();
    rooms.compliance.apply_erasure_ledger(missing, rooms.calls.command_line_record()).await
}

const ERASED: [&str; 2] = ["couple-1", "couple-2"];
const OTHERS: [&str; 2] = ["couple-3", "couple-4"];

/// A database in which four persons have entries, its dump, and then two of them erased.
async fn erased_after_a_dump(ledger: &Path) -> (TestDb, Tenant, Vec<u8>) {
    let app = TestApp::builder().settings(with(ledger)).start().await;
    let tenant = app.tenant("acme").await;
    ask_all(&tenant.app, &ERASED).await;
    ask_all(&tenant.app, &OTHERS).await;
    let db = app.db.clone();
    let dump = pg_dump(&db.url(SUPERUSER).await, &["--inserts"]);
    erase(&tenant, &ERASED).await;
    assert_eq!(std::fs::read_to_string(ledger).unwrap().lines().count(), ERASED.len());
    app.client.get("/health/ready").await.expect(200);
    app.stop().await;
    (db, tenant, dump)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_is_not_ready_until_the_erasure_ledger_was_applied() {
    let ledger = ledger_file();
    let (_db, tenant, dump) = erased_after_a_dump(&ledger).await;
    let db = restored(&dump).await;
    let app = builder(&db, &ledger).start().await;
    not_ready(&app).await;
    assert_eq!(app.rooms().compliance.revived(), Some(Revived::Pending(2)));
    let asked = tenant.app.at(&app.base()).query(&question(ERASED[0], 0, "default")).await;
    assert_eq!((asked.status, asked.problem()), (503, "erasures-pending"));
    let active = "SELECT count(*) FROM subject_keys WHERE state = 'active'";
    assert_eq!(db.count(active).await, 4, "the backup has everybody");

    let done = apply(&app, MissingSink::Refused).await.unwrap();
    assert_eq!(done, Applied { lines: 2, applied: 2, already: 0, unreadable: 0, noted: true });
    ready(&app).await;
    let caller = tenant.app.at(&app.base());
    let (gone, there) = (served(&caller, &ERASED).await, served(&caller, &OTHERS).await);
    let left = db.count("SELECT count(*) FROM ai_cache_entries").await;
    let told = "SELECT count(*) FROM ai_cache_audit_logs WHERE action = 'ledger-apply'
                AND subject_key_id IS NOT NULL AND object_id IS NOT NULL AND item_count = 5";
    let told = db.count(told).await;
    println!(
        "restored: {gone} answers of the erased served, {there} of the others; {left} entries left, {told} records"
    );
    assert_eq!((gone, there, left, told), (0, 10, 10, 2));
    assert_eq!(db.count(active).await, 2);

    let again = apply(&app, MissingSink::Refused).await.unwrap();
    assert_eq!((again.applied, again.already), (0, 2));
    app.stop().await;
}

/// The real program, before any service was started on the restored database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_applies_the_ledger_and_says_what_it_did() {
    let ledger = ledger_file();
    let (_db, tenant, dump) = erased_after_a_dump(&ledger).await;
    let db = restored(&dump).await;
    let (program, url) = (Program::new(), db.app_url().await);
    let path = ledger.to_str().unwrap().to_owned();
    let variables = |path| {
        [
            ("DATABASE_URL", &*url),
            ("AI_CACHE_MASTER_KEYS", MASTER_KEYS),
            ("AI_CACHE_ERASURE_LEDGER_FILE", path),
        ]
    };
    let command = ["restore", "apply-ledger", "--json"];
    let elsewhere = format!("{path}.gone");
    let done = program.run(&command, &variables(&elsewhere)).await;
    assert!(done.refused(1).starts_with("there is no erasure ledger"), "{done:?}");
    let mut texts = Vec::new();
    for wanted in [(2, 0), (0, 2)] {
        let done = program.run(&command, &variables(&path)).await;
        assert_eq!(done.code, Some(0), "{done:?}");
        let report: Value = serde_json::from_str(&done.out).unwrap();
        assert_eq!((&report["applied"], &report["already"]), (&json!(wanted.0), &json!(wanted.1)));
        texts.push(done.out);
    }
    println!("{}", texts.concat());
    let app = builder(&db, &ledger).start().await;
    app.client.get("/health/ready").await.expect(200);
    let caller = tenant.app.at(&app.base());
    assert_eq!((served(&caller, &ERASED).await, served(&caller, &OTHERS).await), (0, 10));
    app.stop().await;
    let accepted = [&command[..], &["--accept-missing-sink"]].concat();
    let done = program.run(&accepted, &variables(&elsewhere)).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let lines = std::fs::read_to_string(&elsewhere).unwrap().lines().count();
    assert_eq!(lines, 2, "a ledger that is begun again knows what the database knows");
}

/// Another server shows that the database was restored, whatever the file says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_data_folder_needs_its_ledger_though_the_audit_ledger_is_accepted() {
    let mut hurt = Hurt::in_memory().await;
    let (file, ledger) = (checkpoint_file(), ledger_file());
    let start = |hurt: &Hurt| on_its_own(hurt, &file).settings(with(&ledger)).start();
    let app = start(&hurt).await;
    let tenant = app.tenant("acme").await;
    ask_all(&tenant.app, &ERASED).await;
    ask_all(&tenant.app, &OTHERS).await;
    app.stop().await;
    hurt.halt().await;
    let backup = scratch("copy");
    copy(hurt.folder(), &backup.join("whole"));
    hurt.bring_back().await;
    let app = start(&hurt).await;
    let moved = Tenant { compliance: tenant.compliance.at(&app.base()), ..tenant };
    erase(&moved, &ERASED).await;
    super::proof::sealed(&hurt).await;
    app.stop().await;
    hurt.halt().await;
    std::fs::remove_dir_all(hurt.folder()).unwrap();
    copy(&backup.join("whole"), hurt.folder());
    hurt.bring_back().await;

    let app = start(&hurt).await;
    not_ready(&app).await;
    let rooms = app.rooms();
    rooms.compliance.accept_ledger(rooms.calls.command_line_record()).await.unwrap();
    wait_until("the audit ledger is accepted", || async {
        let body = app.client.get("/health/ready").await.body;
        (body["audit"] == "up").then_some(())
    })
    .await;
    not_ready(&app).await;
    let done = apply(&app, MissingSink::Refused).await.unwrap();
    ready(&app).await;
    let caller = moved.app.at(&app.base());
    let counts = (served(&caller, &ERASED).await, served(&caller, &OTHERS).await);
    println!("cold copy: {done:?}, then {counts:?} answers served of the erased and the others");
    assert_eq!((done.applied, counts), (2, (0, 10)));
    app.stop().await;
    // Nothing is left to be applied at the next start.
    let app = start(&hurt).await;
    app.client.get("/health/ready").await.expect(200);
    app.stop().await;
    hurt.stop().await;
}

/// A dump of before the ledger was first used, on another server, with and without its file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_another_server_an_operator_must_bring_the_ledger_or_do_without() {
    let new = Hurt::in_memory().await;
    let first = TestApp::start().await;
    let tenant = first.tenant("acme").await;
    ask_all(&tenant.app, &OTHERS).await;
    let dump = pg_dump(&first.db.url(SUPERUSER).await, &["--inserts"]);
    first.stop().await;
    restore(&dump, &new.superuser_url()).await;
    let (ledger, url) = (ledger_file(), new.url());
    let start = |ledger: &Path| {
        let url = url.clone();
        TestApp::builder().settings(with(ledger)).settings(|set| set.database_url = url).start()
    };
    let app = start(&ledger).await;
    let rooms = app.rooms();
    rooms.compliance.accept_ledger(rooms.calls.command_line_record()).await.unwrap();
    assert_eq!(rooms.compliance.revived(), Some(Revived::Missing));
    assert!(!ledger.exists(), "an empty file would pass for the one that is missing");
    assert!(matches!(apply(&app, MissingSink::Refused).await, Err(RestoreError::Missing)));
    not_ready(&app).await;
    app.stop().await;

    let app = start(&ledger).await;
    not_ready(&app).await;
    let done = apply(&app, MissingSink::Accepted).await.unwrap();
    assert!(done.noted && ledger.exists());
    ready(&app).await;
    app.stop().await;
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_waits_for_the_ledger_and_a_lost_file_is_not_ready() {
    let ledger = ledger_file();
    let app = TestApp::builder().settings(with(&ledger)).start().await;
    let tenant = app.tenant("acme").await;
    ask_all(&tenant.app, &["couple-1", "couple-2"]).await;
    erase(&tenant, &["couple-1"]).await;
    let away = ledger.with_extension("away");
    std::fs::rename(&ledger, &away).unwrap();
    let id = file(&tenant.compliance, "erase", "couple-2").await;
    let waits = "SELECT count(*) FROM ai_cache_gdpr_requests WHERE restarts_at IS NOT NULL
                 AND state = 'executing' AND step IS NULL AND attempts = 0";
    wait_until("the erasure waits", || async { (app.db.count(waits).await == 1).then_some(()) })
        .await;
    let active = "SELECT count(*) FROM subject_keys WHERE state = 'active'";
    assert_eq!(app.db.count(active).await, 1, "it is not done before it is known outside");
    let db = app.db.clone();
    app.stop().await;

    let app = builder(&db, &ledger).start().await;
    not_ready(&app).await;
    assert_eq!(app.rooms().compliance.revived(), Some(Revived::Missing));
    assert!(!ledger.exists());
    std::fs::rename(&away, &ledger).unwrap();
    ready(&app).await;
    wait_for(&tenant.compliance.at(&app.base()), &id, "completed").await;
    let lines = std::fs::read_to_string(&ledger).unwrap().lines().count();
    println!("{lines} lines; {} active keys", db.count(active).await);
    assert_eq!((lines, db.count(active).await), (2, 0));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_or_torn_line_destroys_nothing_and_is_told() {
    let ledger = ledger_file();
    let (live, tenant, dump) = erased_after_a_dump(&ledger).await;
    let query = "SELECT subject_key_id::text FROM subject_keys WHERE state = 'active' LIMIT 1";
    let other: String = live.superuser().await.query_one(query, &[]).await.unwrap().get(0);
    let text = std::fs::read_to_string(&ledger).unwrap();
    let mut line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    line["subjectKeyId"] = json!(other);
    let moved = line.to_string();
    line["keyId"] = json!("k9");
    let forged = format!("{text}{moved}\n{line}\nnonsense\n{}", &text[..70]);
    std::fs::write(&ledger, forged).unwrap();

    let db = restored(&dump).await;
    let app = builder(&db, &ledger).start().await;
    not_ready(&app).await;
    let done = apply(&app, MissingSink::Refused).await.unwrap();
    println!("forged: {done:?}");
    assert_eq!(done, Applied { lines: 2, applied: 2, already: 0, unreadable: 4, noted: false });
    let accepted = apply(&app, MissingSink::Accepted).await.unwrap();
    assert!(accepted.noted && accepted.applied == 0);
    ready(&app).await;
    let caller = tenant.app.at(&app.base());
    assert_eq!((served(&caller, &ERASED).await, served(&caller, &OTHERS).await), (0, 10));
    // The line that is appended after the torn line is whole.
    let moved = Tenant { compliance: tenant.compliance.at(&app.base()), ..tenant };
    erase(&moved, &["couple-3"]).await;
    let again = apply(&app, MissingSink::Refused).await.unwrap();
    assert_eq!((again.lines, again.already, again.unreadable), (3, 3, 4));
    app.stop().await;
}

/// A line, then a failure, then a legal hold: the person is kept, and the file says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_is_taken_back_when_a_hold_came_between() {
    let (ledger, clock) = (ledger_file(), Arc::new(TestClock::default()));
    let app = TestApp::builder()
        .settings(with(&ledger))
        .clock(Arc::<TestClock>::clone(&clock))
        .start()
        .await;
    let tenant = app.tenant("acme").await;
    ask_all(&tenant.app, &["couple-1"]).await;
    let owner = app.db.superuser().await;
    let fails = "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'no'; END $$;
                 CREATE TRIGGER fails BEFORE INSERT ON invalidations
                 FOR EACH ROW WHEN (NEW.kind = 'subject') EXECUTE FUNCTION fails();";
    owner.batch_execute(fails).await.unwrap();
    let id = file(&tenant.compliance, "erase", "couple-1").await;
    let failed = "SELECT count(*) FROM ai_cache_gdpr_requests WHERE attempts = 1";
    wait_until("it has failed", || async { (app.db.count(failed).await == 1).then_some(()) }).await;
    assert_eq!(std::fs::read_to_string(&ledger).unwrap().lines().count(), 1);
    // It is about to be tried again, which keeps nobody waiting.
    app.rooms().compliance.look_at_erasures().await.unwrap();
    assert_eq!(app.rooms().compliance.revived(), None);
    let hold = format!(
        "DROP TRIGGER fails ON invalidations;
         INSERT INTO legal_holds (tenant_id, hold_id, from_at, reason_sealed, set_at)
         VALUES ('{}', gen_random_uuid(), '2000-01-01', '', now())",
        tenant.id
    );
    owner.batch_execute(&hold).await.unwrap();
    clock.advance(TimeDelta::minutes(1));
    wait_for(&tenant.compliance, &id, "partially_completed").await;
    ready(&app).await;
    let done = apply(&app, MissingSink::Refused).await.unwrap();
    println!("taken back: {done:?}");
    assert_eq!((done.lines, done.applied, done.already), (2, 0, 0));
    let active = "SELECT count(*) FROM subject_keys WHERE state = 'active'";
    assert_eq!(app.db.count(active).await, 1);
    tenant.compliance.get(&format!("{REQUESTS}/{id}")).await.expect(200);
    app.stop().await;
}

/// The setting may come after the first erasures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_set_later_holds_what_was_erased_before() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    ask_all(&tenant.app, &["couple-1"]).await;
    erase(&tenant, &["couple-1"]).await;
    let db = app.db.clone();
    app.stop().await;
    let ledger = ledger_file();
    let app = builder(&db, &ledger).start().await;
    app.client.get("/health/ready").await.expect(200);
    assert_eq!(std::fs::read_to_string(&ledger).unwrap().lines().count(), 1);
    app.stop().await;
    // Taken away again: that must be said.
    let app = TestApp::builder().db(&db).start().await;
    not_ready(&app).await;
    assert!(apply(&app, MissingSink::Accepted).await.unwrap().noted);
    ready(&app).await;
    app.stop().await;
}
