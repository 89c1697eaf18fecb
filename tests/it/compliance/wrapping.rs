//! Persons' keys are wrapped under a key of their own, which is rotated while the service runs and
//! then destroyed: earlier backups open nothing of any person's (issue 5 point 8; G2).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ai_cache::compliance::RotateError;
use ai_cache::crypto::KeyProvider;
use ai_cache::domain::action::Action;
use ai_cache::domain::ids::{SubjectKeyId, TenantId};
use ai_cache::domain::query::SubjectId;
use ai_cache::embedded::SUPERUSER;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::requests::{REQUESTS, file, wait_for};
use super::restores::{ask_all, erase, restored, served};
use crate::cli::program::{Done, Program};
use crate::support::app::MASTER_KEYS;
use crate::support::folders::scratch;
use crate::support::services::pg_dump;
use crate::support::{TestApp, TestDb};

const ROTATE: [&str; 4] = ["keys", "rotate", "--wrapping", "--json"];

/// A fresh key file in a folder of its own.
fn key_file() -> PathBuf {
    let path = scratch("keys").join("master.key");
    KeyProvider::from_file_or_new(&path).unwrap();
    path
}

/// The names in a key file, in their order.
fn names(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect()
}

async fn rotate(program: &Program, db: &TestDb, keys: &Path) -> Done {
    let (url, keys) = (db.app_url().await, keys.to_str().unwrap());
    program.run(&ROTATE, &[("DATABASE_URL", &url), ("AI_CACHE_MASTER_KEY_FILE", keys)]).await
}

fn report(done: &Done) -> Value {
    assert_eq!(done.code, Some(0), "{done:?}");
    serde_json::from_str(&done.out).unwrap()
}

/// Names so many persons, who get keys.
async fn name_persons(
    app: &TestApp,
    tenant: TenantId,
    from: usize,
    to: usize,
) -> Vec<SubjectKeyId> {
    let (keyring, calls) = (app.rooms().keyring(), &app.rooms().calls);
    let keys = keyring.tenant_keys(tenant).await.unwrap();
    let request = calls.command_line_record().request;
    let mut ids = Vec::new();
    for number in from..to {
        let subject = SubjectId::parse(&format!("person-{number}")).unwrap();
        ids.push(keyring.subject_key(&keys, &subject, request).await.unwrap().id);
    }
    ids
}

/// Counts these keys that open, as Postgres has them.
async fn opened(app: &TestApp, tenant: TenantId, ids: &[SubjectKeyId]) -> usize {
    app.rooms().keyring().list_subject_keys(tenant, ids).await.unwrap().len()
}

async fn under(db: &TestDb, name: &str) -> i64 {
    let count = format!(
        "SELECT count(*) FROM subject_keys WHERE state = 'active' AND master_key_id = '{name}'"
    );
    db.count(&count).await
}

const ALL: [&str; 4] = ["couple-1", "couple-2", "couple-3", "couple-4"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_before_a_rotation_opens_nothing_of_any_persons() {
    let keys = key_file();
    assert_eq!(names(&keys), ["k1", "wrap-1"]);
    let app = TestApp::builder().key_file(&keys).start().await;
    let tenant = app.tenant("acme").await;
    ask_all(&tenant.app, &ALL).await;
    tenant.app.ask("of nobody").await.expect(200);
    assert_eq!(under(&app.db, "wrap-1").await, 4);
    let tenants = "SELECT count(*) FROM tenant_keys WHERE master_key_id <> 'k1'";
    assert_eq!(app.db.count(tenants).await, 0);
    let superuser = app.db.url(SUPERUSER).await;
    let before = pg_dump(&superuser, &["--inserts"]);
    let id = file(&tenant.compliance, "erase", "couple-1").await;
    wait_for(&tenant.compliance, &id, "completed").await;
    let path = format!("{REQUESTS}/{id}/certificate");
    let certificate = tenant.compliance.get(&path).await.expect(200).body;
    assert_eq!(certificate["certificate"]["wrappingKeyId"], "wrap-1");

    let done = report(&rotate(&Program::new(), &app.db, &keys).await);
    println!("{done}");
    let wanted = json!({ "wrappingKeyId": "wrap-2", "resumed": false, "rewrapped": 3,
                         "unopened": 0, "destroyed": ["wrap-1"], "toRemove": [] });
    assert_eq!(done, wanted);
    assert_eq!(names(&keys), ["k1", "wrap-2"]);
    assert_eq!(fs::metadata(&keys).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(keys.parent().unwrap()).unwrap().count(), 1, "nothing beside it");
    let told = format!(
        "SELECT sum(item_count)::bigint FROM ai_cache_audit_logs WHERE action = '{}'",
        Action::SubjectKeyRewrap.name()
    );
    assert_eq!(app.db.count(&told).await, 3);
    assert_eq!(served(&tenant.app, &ALL).await, 15);
    ask_all(&tenant.app, &["couple-5"]).await;
    assert_eq!(under(&app.db, "wrap-2").await, 4, "the service follows");
    let after = pg_dump(&superuser, &["--inserts"]);
    app.stop().await;

    let mut counts = Vec::new();
    for dump in [before, after] {
        let db = restored(&dump).await;
        let app = TestApp::builder().key_file(&keys).db(&db).start().await;
        app.client.get("/health/ready").await.expect(200);
        let caller = tenant.app.at(&app.base());
        let nobodys = json!({ "query": "of nobody", "cache": { "mode": "only-if-cached" } });
        caller.query(&nobodys).await.expect(200);
        counts.push((served(&caller, &ALL[..1]).await, served(&caller, &ALL[1..]).await));
        app.stop().await;
    }
    println!(
        "served of the erased and the others, ledger ignored: {counts:?} of backups before and after"
    );
    assert_eq!(counts, [(0, 0), (0, 15)]);
}

const PERSONS: usize = 500;

/// SIGKILL after longer and longer, until one comes to its end; after each every key opens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_is_killed_anywhere_is_brought_to_its_end() {
    let keys = key_file();
    let app = TestApp::builder().key_file(&keys).start().await;
    let tenant = app.tenant("acme").await.id;
    let ids = name_persons(&app, tenant, 0, PERSONS).await;
    let program = Program::new();
    let mut stages = Vec::new();
    for attempt in 1_u32.. {
        let patience = Duration::from_millis(40) * attempt;
        let done = tokio::time::timeout(patience, rotate(&program, &app.db, &keys)).await;
        let stage = format!(
            "{} {}/{}",
            names(&keys).join("+"),
            under(&app.db, "wrap-1").await,
            under(&app.db, "wrap-2").await
        );
        stages.push(stage);
        assert_eq!(opened(&app, tenant, &ids).await, PERSONS);
        KeyProvider::from_file(&keys).unwrap();
        if let Ok(done) = &done {
            report(done);
        }
        // It may be killed after its last step: the next call would begin another.
        if names(&keys) == ["k1", "wrap-2"] {
            break;
        }
    }
    stages.dedup();
    println!("{stages:?}");
    assert!(stages.len() > 1, "it was killed before its end");
    assert_eq!(names(&keys), ["k1", "wrap-2"]);
    assert_eq!((under(&app.db, "wrap-1").await, under(&app.db, "wrap-2").await), (0, 500));
    app.stop().await;
}

/// Each step fails once; the next call goes on from there, and nothing is made twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_fails_at_any_step_is_brought_to_its_end() {
    let keys = key_file();
    let app = TestApp::builder().key_file(&keys).start().await;
    let tenant = app.tenant("acme").await.id;
    let ids = name_persons(&app, tenant, 0, PERSONS).await;
    let owner = app.db.superuser().await;
    let rotation = || {
        let (calls, compliance) = (&app.rooms().calls, &app.rooms().compliance);
        compliance.rotate_wrapping_key(calls.command_line_record())
    };
    let fails = "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'no'; END $$;";
    owner.batch_execute(fails).await.unwrap();
    let mut left = Vec::new();
    for (event, table) in [("INSERT", "retired_wrapping_keys"), ("UPDATE", "subject_keys")] {
        let trigger = format!(
            "CREATE TRIGGER fails BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION fails()"
        );
        owner.batch_execute(&trigger).await.unwrap();
        rotation().await.unwrap_err();
        owner.batch_execute(&format!("DROP TRIGGER fails ON {table}")).await.unwrap();
        left.push(under(&app.db, "wrap-1").await);
        assert_eq!(names(&keys), ["k1", "wrap-2", "wrap-1"]);
        assert_eq!(opened(&app, tenant, &ids).await, PERSONS);
    }
    // The second batch and those after it.
    let later = format!(
        "CREATE TRIGGER fails BEFORE UPDATE ON subject_keys FOR EACH ROW
         WHEN (OLD.subject_key_id = '{}') EXECUTE FUNCTION fails()",
        ids[300]
    );
    owner.batch_execute(&later).await.unwrap();
    rotation().await.unwrap_err();
    owner.batch_execute("DROP TRIGGER fails ON subject_keys").await.unwrap();
    left.push(under(&app.db, "wrap-1").await);
    assert_eq!(opened(&app, tenant, &ids).await, PERSONS);
    // Everything is wrapped anew, but the file cannot be replaced.
    let beside = PathBuf::from(format!("{}.new", keys.display()));
    fs::create_dir_all(beside.join("in-the-way")).unwrap();
    assert!(matches!(rotation().await, Err(RotateError::Keys(_))));
    fs::remove_dir_all(&beside).unwrap();
    left.push(under(&app.db, "wrap-1").await);
    assert_eq!(names(&keys), ["k1", "wrap-2", "wrap-1"]);

    let done = rotation().await.unwrap();
    println!("left under the old key after each failure: {left:?}; then {done:?}");
    assert_eq!(left, [500, 500, 300, 0]);
    assert!(done.resumed && done.rewrapped == 0);
    assert_eq!(
        (names(&keys), done.destroyed),
        (vec!["k1".into(), "wrap-2".into()], vec!["wrap-1".into()])
    );
    assert_eq!(opened(&app, tenant, &ids).await, PERSONS);
    assert_eq!(rotation().await.unwrap().wrapping_key_id, "wrap-3", "the next one is another");
    app.stop().await;
}

/// Two services name persons all the while; none of their keys is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn persons_named_while_the_key_is_rotated_keep_their_keys() {
    let keys = key_file();
    let app = TestApp::builder().key_file(&keys).start().await;
    let other = TestApp::builder().key_file(&keys).db(&app.db).start().await;
    let tenant = app.tenant("acme").await.id;
    let ended = AtomicBool::new(false);
    let naming = async |app: &TestApp, first: usize| {
        let mut ids = Vec::new();
        for number in first.. {
            if ended.load(Ordering::SeqCst) {
                break;
            }
            ids.extend(name_persons(app, tenant, number, number + 1).await);
        }
        ids
    };
    let rotating = async {
        let program = Program::new();
        for _ in 0..3 {
            report(&rotate(&program, &app.db, &keys).await);
        }
        ended.store(true, Ordering::SeqCst);
    };
    let named = join_all(
        [(&app, 0), (&other, 1_000_000), (&app, 2_000_000), (&other, 3_000_000)]
            .map(|(app, first)| naming(app, first)),
    );
    let ((), named) = tokio::join!(rotating, named);
    let ids: Vec<SubjectKeyId> = named.concat();
    let fresh = TestApp::builder().key_file(&keys).db(&app.db).start().await;
    let there = opened(&fresh, tenant, &ids).await;
    println!("{} persons named during three rotations, {there} of their keys open", ids.len());
    assert!(ids.len() > 100);
    assert_eq!(there, ids.len());
    assert_eq!(names(&keys), ["k1", "wrap-4"]);
    assert_eq!(under(&app.db, "wrap-4").await, i64::try_from(ids.len()).unwrap());
    for app in [app, other, fresh] {
        app.stop().await;
    }
}

/// An insert that began before the retirement and ends after it is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stores_a_key_as_it_is_retired_is_waited_for_and_nobody_after_may() {
    let keys = key_file();
    let app = TestApp::builder().key_file(&keys).start().await;
    let tenant = app.tenant("acme").await.id;
    let [id] = name_persons(&app, tenant, 0, 1).await[..] else { panic!() };
    let mut owner = app.db.superuser().await;
    let late = owner.transaction().await.unwrap();
    let copy = format!(
        "INSERT INTO subject_keys (tenant_id, subject_key_id, blind_id, wrapped, master_key_id, created_at)
         SELECT tenant_id, gen_random_uuid(), sha256(blind_id), wrapped, 'wrap-1', created_at
         FROM subject_keys WHERE subject_key_id = '{id}'"
    );
    late.batch_execute(&copy).await.unwrap();
    let (calls, compliance) = (&app.rooms().calls, &app.rooms().compliance);
    let rotation = compliance.rotate_wrapping_key(calls.command_line_record());
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let ends = async {
        crate::support::wait_until("the rotation waits", || async {
            (app.db.count(waits).await == 1).then_some(())
        })
        .await;
        late.commit().await.unwrap();
    };
    let (rotated, ()) = tokio::join!(rotation, ends);
    let rotated = rotated.unwrap();
    println!("{rotated:?}");
    // The copy was wrapped for another person, so it does not open; the old key stays for its sake.
    assert_eq!((rotated.rewrapped, rotated.unopened, rotated.destroyed.len()), (1, 1, 0));
    assert_eq!(names(&keys), ["k1", "wrap-2", "wrap-1"]);
    let refused = app.db.superuser().await.batch_execute(&copy).await.unwrap_err();
    assert_eq!(
        refused.as_db_error().unwrap().constraint(),
        Some("subject_keys_wrapping_key_not_retired")
    );
    app.stop().await;
}

/// An installation of before has no wrapping key; one whose keys come from the environment changes
/// them there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_before_and_of_the_environment_are_rotated_too() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    ask_all(&tenant.app, &ALL).await;
    assert_eq!(under(&app.db, "k1").await, 4);
    let program = Program::new();
    let url = app.db.app_url().await;
    let run = |keys: String| {
        let (program, url) = (&program, &url);
        async move {
            program.run(&ROTATE, &[("DATABASE_URL", url), ("AI_CACHE_MASTER_KEYS", &keys)]).await
        }
    };
    let refused = run(MASTER_KEYS.to_owned()).await;
    assert!(refused.refused(1).starts_with("first put a new key wrap-1:"), "{refused:?}");
    let wrapping = |name: &str, text: &str| {
        use base64::Engine as _;
        format!("{name}:{}", base64::engine::general_purpose::STANDARD.encode(text.repeat(32)))
    };
    let (first, second) = (wrapping("wrap-1", "a"), wrapping("wrap-2", "b"));
    let done = report(&run(format!("{MASTER_KEYS},{first}")).await);
    assert_eq!((&done["rewrapped"], &done["toRemove"]), (&json!(4), &json!([])));
    let done = report(&run(format!("{second},{MASTER_KEYS},{first}")).await);
    assert_eq!((&done["rewrapped"], &done["toRemove"]), (&json!(4), &json!(["wrap-1"])));
    assert_eq!(under(&app.db, "wrap-2").await, 4);
    let back = run(format!("{first},{second},{MASTER_KEYS}")).await;
    assert!(back.refused(1).contains("was rotated out before"), "{back:?}");
    app.stop().await;

    // The provider reads a file of before.
    let keys = scratch("keys").join("master.key");
    fs::write(&keys, format!("{MASTER_KEYS}\n")).unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
    let app = TestApp::builder().key_file(&keys).start().await;
    let tenant = app.tenant("acme").await;
    ask_all(&tenant.app, &ALL).await;
    erase(&tenant, &ALL[..1]).await;
    let done = report(&rotate(&program, &app.db, &keys).await);
    assert_eq!((&done["rewrapped"], &done["destroyed"]), (&json!(3), &json!([])));
    assert_eq!(names(&keys), ["k1", "wrap-1"]);
    ask_all(&tenant.app, &["couple-9"]).await;
    assert_eq!((under(&app.db, "k1").await, under(&app.db, "wrap-1").await), (0, 4));
    app.stop().await;
}
