//! `ai-cache migrate` (issue 2, 2; api.md "Settings"): brings a database to this release's schema as
//! its owner, makes the service's role, and lets many do so at once.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is the test's failure")]

use ai_cache::store::migrate::newest_version;
use serde_json::{Value, json};

use crate::support::app::MASTER_KEYS;
use crate::support::{TestDb, wait_until};

use super::program::{Done, Program};

/// The number of files in `migrations/`.
const FILES: i64 = 17;

/// The tables that the public contract names (W1).
const NAMES: &str =
    "SELECT count(*) FROM information_schema.tables WHERE table_name LIKE 'ai_cache_%'";

fn json_of(done: &Done) -> Value {
    assert_eq!((done.code, &*done.err), (Some(0), ""), "{done:?}");
    serde_json::from_str(&done.out).unwrap()
}

/// A database URL for a role that is not there yet, with this password.
async fn service_url(db: &TestDb, role: &str, password: &str) -> String {
    let url = db.url(role).await;
    url.replace(&format!("{role}@"), &format!("{role}:{password}@"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_database_gets_the_schema_once_and_the_role_that_serves() {
    let db = TestDb::empty().await;
    let role = format!("service_of_{}", db.name());
    // A quote, a percent sign and a dollar sign in it.
    let service = service_url(&db, &role, "it%27s%25%24x").await;
    let owner = db.owner_url().await;
    let program = Program::new();
    let migrate = [("AI_CACHE_ADMIN_DATABASE_URL", &*owner), ("DATABASE_URL", &*service)];

    let first = json_of(&program.run(&["migrate", "--json"], &migrate).await);
    assert_eq!(first, json!({ "applied": FILES, "version": newest_version() }));
    let second = json_of(&program.run(&["migrate", "--json"], &migrate).await);
    assert_eq!(second, json!({ "applied": 0, "version": newest_version() }));
    let text = program.run(&["migrate"], &migrate).await;
    let line = format!("the schema is at version {} (0 applied now)\n", newest_version());
    assert_eq!((text.code, text.out), (Some(0), line));
    assert_eq!(db.count(NAMES).await, 7);

    let attributes = "rolcanlogin AND NOT rolinherit AND NOT rolsuper AND NOT rolbypassrls \
                      AND NOT rolcreatedb AND NOT rolcreaterole AND rolpassword IS NOT NULL";
    let as_wanted =
        format!("SELECT count(*) FROM pg_authid WHERE rolname = '{role}' AND {attributes}");
    assert_eq!(db.count(&as_wanted).await, 1);

    let variables = [("DATABASE_URL", &*service), ("AI_CACHE_MASTER_KEYS", MASTER_KEYS)];
    let serving = program.serve(&variables).await;
    serving.client().get("/health/ready").await.expect(200);
    let listed = json_of(&program.run(&["tenant", "list", "--json"], &variables).await);
    assert_eq!(listed[0]["slug"], "installation", "{listed}");
    assert_eq!(serving.stop().await, Some(0));
}

/// Issue 2, 2: replicas that start together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_processes_at_once_apply_each_migration_once() {
    let db = TestDb::empty().await;
    let (owner, service) = (db.owner_url().await, db.app_url().await);
    let program = Program::new();
    let variables = [("AI_CACHE_ADMIN_DATABASE_URL", &*owner), ("DATABASE_URL", &*service)];
    let migrate = || program.run(&["migrate", "--json"], &variables);

    let (one, two, three, four, five) =
        tokio::join!(migrate(), migrate(), migrate(), migrate(), migrate());

    let reports = [one, two, three, four, five].map(|done| json_of(&done));
    let applied: i64 = reports.iter().map(|report| report["applied"].as_i64().unwrap()).sum();
    let history = db.count("SELECT count(*) FROM refinery_schema_history").await;
    assert_eq!((applied, history), (FILES, FILES), "{reports:?}");
    assert_eq!(db.count("SELECT count(*) FROM tenants").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_on_a_database_without_the_schema_says_what_to_run() {
    let db = TestDb::empty().await;
    let done = Program::new().run_on(&db, &["serve"]).await;
    let needed = newest_version();
    let line = format!(
        "the database schema is at version 0, this release needs {needed}: run ai-cache migrate"
    );
    assert_eq!(done.refused(2), line);
}

/// W17: the previous release still runs on a schema that a newer one brought.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_takes_a_newer_schema_and_refuses_an_older_one() {
    let db = TestDb::new().await;
    let program = Program::new();
    let admin = db.superuser().await;
    let newer = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
                 SELECT max(version) + 1, 'of_a_newer_release', max(applied_on), '0' \
                 FROM refinery_schema_history";
    admin.batch_execute(newer).await.unwrap();
    assert_eq!(program.serve_on(&db).await.stop().await, Some(0));

    let older =
        format!("DELETE FROM refinery_schema_history WHERE version >= {}", newest_version());
    admin.batch_execute(&older).await.unwrap();
    let done = program.run_on(&db, &["serve"]).await;
    assert!(done.refused(2).ends_with("run ai-cache migrate"), "{done:?}");
}

#[tokio::test]
async fn migrate_needs_the_owner_of_a_database_of_ones_own() {
    let variables = [("DATABASE_URL", "postgres://app@127.0.0.1:1/ai")];
    let done = Program::new().run(&["migrate"], &variables).await;
    let line = "AI_CACHE_ADMIN_DATABASE_URL must name the owner of the database";
    assert_eq!(done.refused(2), line);
}

#[tokio::test]
async fn migrate_tells_in_one_line_that_postgres_is_out_of_reach() {
    let port = super::program::free_port();
    let url = format!("postgres://owner:s3cr3tmark@127.0.0.1:{port}/ai");
    let variables = [("AI_CACHE_ADMIN_DATABASE_URL", &*url)];
    let done = Program::new().run(&["migrate"], &variables).await;
    let line = done.refused(3);
    assert!(line.starts_with("Postgres cannot be reached as the owner role: "), "{line}");
    assert!(!line.contains("s3cr3tmark"), "{line}");
}

/// A waiting process must not see a half-made schema: it waits for the lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate_waits_for_one_that_is_at_it() {
    let db = TestDb::empty().await;
    let owner = db.owner_url().await;
    let program = Program::new();
    let variables = [("AI_CACHE_ADMIN_DATABASE_URL", &*owner)];
    let lock = "pg_advisory_lock(hashtext('ai-cache migrate'))";
    let other = db.superuser().await;
    other.batch_execute(&format!("SELECT {lock}")).await.unwrap();

    let let_go = async {
        let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
                       WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database()";
        wait_until("migrate waits for the lock", async || {
            (db.count(waiting).await == 1).then_some(())
        })
        .await;
        assert_eq!(db.count("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await, 0);
        drop(other);
    };
    let (done, ()) = tokio::join!(program.run(&["migrate", "--json"], &variables), let_go);
    assert_eq!(json_of(&done)["applied"], FILES);
}
