//! Art. 17: an erased person's entries are gone from every replica, Redis and Postgres, nothing brings
//! them back, and the certificate tells the truth (issue 5; G2).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ai_cache::domain::certificate::SignedCertificate;
use ai_cache::domain::clock::{Clock, SystemClock};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::requests::{REQUESTS, file, wait_for};
use crate::resilience::cut_off::PACE;
use crate::resilience::redis::{count_values, own_redis, wait_for_keys};
use crate::support::pg_proxy::PgProxy;
use crate::support::redis_servers::RedisProcess;
use crate::support::{Client, Tenant, TestApp, TestClock, TestDb, rounds, wait_until};

pub const ERASED: &str = "quokkaquartz-couple-1";
const OTHER: &str = "quokkaquartz-couple-2";
const CALLERS: usize = 16;

pub fn question(number: usize, subject: &str, mode: &str) -> Value {
    let query = format!("question {number}");
    json!({ "query": query, "subjectId": subject, "cache": { "mode": mode } })
}

/// Three replicas with one Redis, and a tenant.
async fn replicas(redis_url: &str) -> (Vec<TestApp>, Tenant) {
    let db = TestDb::new().await;
    let mut apps = Vec::new();
    for _ in 0..3 {
        apps.push(TestApp::builder().db(&db).redis_url(redis_url).start().await);
    }
    let tenant = apps[0].tenant("acme").await;
    (apps, tenant)
}

async fn ask_all(caller: &Client, subject: &str, count: usize) {
    for number in 0..count {
        let reply = caller.query_quickly(&question(number, subject, "default")).await;
        assert_eq!(reply.status, 200);
    }
}

async fn rows_of(db: &TestDb, key: &str) -> i64 {
    db.count(&format!("SELECT count(*) FROM ai_cache_entries WHERE subject_key_id = '{key}'")).await
}

pub async fn certificate(caller: &Client, id: &str) -> SignedCertificate {
    let reply = caller.get(&format!("{REQUESTS}/{id}/certificate")).await.expect(200);
    serde_json::from_str(&reply.text).unwrap()
}

/// Returns whether an answer came from an entry made before then. The entry's id tells its time.
fn is_of_before(reply: &Value, then: DateTime<Utc>) -> bool {
    let made = reply["entryId"].as_str().and_then(|id| Uuid::parse_str(id).ok());
    let made = made.and_then(|id| id.get_timestamp()).map(|made| made.to_unix());
    let hit = reply["cached"] == true;
    hit && made.is_some_and(|(seconds, _)| seconds < then.timestamp().unsigned_abs())
}

/// Reads and fills the person's questions until it is over; how many replies there were.
async fn use_on(caller: Client, first: usize, count: usize, over: Arc<AtomicBool>) -> usize {
    let mut replies = 0;
    while !over.load(Ordering::SeqCst) {
        let mode = if replies % 5 == 0 { "refresh" } else { "default" };
        let asked = question((first + replies) % count, ERASED, mode);
        let reply = caller.query_quickly(&asked).await;
        assert!(matches!(reply.status, 200 | 409), "{}", reply.text);
        replies += 1;
    }
    replies
}

/// While the person's questions are read and filled on three replicas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_person_is_gone_from_everywhere_under_load() {
    let (entries, reads) = (rounds(60, 5_000), rounds(600, 100_000));
    let redis = own_redis().await;
    let (apps, tenant) = replicas(&redis.url()).await;
    let callers: Vec<Client> = apps.iter().map(|app| tenant.app.at(&app.base())).collect();
    ask_all(&tenant.app, ERASED, entries).await;
    ask_all(&tenant.app, OTHER, 20).await;
    wait_for_keys(&redis, entries + 20).await;
    for caller in &callers[1..] {
        ask_all(caller, ERASED, entries).await;
    }
    let db = &apps[0].db;
    let keys =
        "SELECT subject_key_id::text FROM ai_cache_entries GROUP BY 1 ORDER BY count(*) DESC";
    let keys = db.superuser().await.query(keys, &[]).await.unwrap();
    let (erased, other): (String, String) = (keys[0].get(0), keys[1].get(0));

    let over = Arc::new(AtomicBool::new(false));
    let load =
        join_all((0..CALLERS).map(|number| {
            use_on(callers[number % 3].clone(), number * 7, entries, Arc::clone(&over))
        }));
    let erase = async {
        let id = file(&tenant.compliance, "erase", ERASED).await;
        wait_for(&tenant.compliance, &id, "completed").await;
        over.store(true, Ordering::SeqCst);
        id
    };
    let (used, id) = tokio::join!(load, erase);

    let signed = certificate(&tenant.compliance, &id).await;
    let destroyed = signed.certificate.key_destroyed_at.unwrap();
    let old = AtomicUsize::new(0);
    let read = |reader: usize| {
        let (caller, old) = (&callers[reader % 3], &old);
        async move {
            for number in 0..reads / CALLERS {
                let asked = question((reader + number) % entries, ERASED, "only-if-cached");
                let reply = caller.query_quickly(&asked).await;
                assert!(matches!(reply.status, 200 | 504), "{}", reply.text);
                let before = is_of_before(&reply.body, destroyed);
                old.fetch_add(usize::from(before), Ordering::SeqCst);
            }
        }
    };
    join_all((0..CALLERS).map(read)).await;
    let (old, used) = (old.into_inner(), used.iter().sum::<usize>());
    let (left, kept) = (rows_of(db, &erased).await, rows_of(db, &other).await);
    println!(
        "{entries} entries erased under {used} reads and fills: {old} old hits in {reads} reads, \
         {left} rows left, {kept} of another person kept, certificate {:?}",
        signed.certificate.removed,
    );
    assert_eq!((old, left, kept), (0, 0, 20));
    let removed = signed.certificate.removed;
    assert_eq!((removed.memory_replicas, removed.export_packages), (3, 0));
    assert!(removed.postgres_entries >= entries as u64 / 2, "{removed:?}");
    for app in apps {
        app.stop().await;
    }
}

/// Without load every tier is counted exactly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_counts_what_was_removed() {
    let redis = own_redis().await;
    let (apps, tenant) = replicas(&redis.url()).await;
    ask_all(&tenant.app, ERASED, 30).await;
    ask_all(&tenant.app, OTHER, 20).await;
    wait_for_keys(&redis, 50).await;
    let db = &apps[0].db;
    let key = "SELECT subject_key_id::text FROM ai_cache_entries GROUP BY 1 HAVING count(*) = 30";
    let key: String = db.superuser().await.query_one(key, &[]).await.unwrap().get(0);
    // The rows are as a dump made before has them.
    let dump = "CREATE TABLE dumped AS SELECT * FROM ai_cache_entries";
    db.superuser().await.batch_execute(dump).await.unwrap();

    let id = file(&tenant.compliance, "erase", ERASED).await;
    let shown = wait_for(&tenant.compliance, &id, "completed").await;

    let signed = certificate(&tenant.compliance, &id).await;
    let said = &signed.certificate;
    let removed = said.removed;
    let (rows, values) = (rows_of(db, &key).await, count_values(&redis).await);
    println!(
        "{removed:?}; {rows} rows and {values} values in Redis are left, 20 of another person"
    );
    assert_eq!(
        (removed.postgres_entries, removed.redis_names, removed.memory_replicas),
        (30, 30, 3)
    );
    assert_eq!((rows, values), (0, 20));
    assert_eq!(said.subject_key_id.unwrap().to_string(), key);
    assert_eq!((said.exceptions.len(), said.request_id.to_string()), (0, id.clone()));
    let history = shown["history"].as_array().unwrap();
    let ids: Vec<String> = said.audit_ids.iter().map(ToString::to_string).collect();
    for event in history.iter().filter(|event| event["event"] != "complete") {
        assert!(ids.contains(&event["auditId"].as_str().unwrap().to_owned()), "{event}");
    }
    let destroyed = format!(
        "SELECT count(*) FROM subject_keys WHERE subject_key_id = '{key}' AND wrapped IS NULL
         AND blind_id IS NULL AND state = 'destroyed'"
    );
    assert_eq!(db.count(&destroyed).await, 1);

    // The rows of a dump are put back: nothing of them is found, nor counted, nor opens.
    let columns = "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
                   WHERE attrelid = 'ai_cache_entries'::regclass AND attnum > 0
                     AND NOT attisdropped AND attgenerated = ''";
    let columns: String = db.superuser().await.query_one(columns, &[]).await.unwrap().get(0);
    let back = format!(
        "INSERT INTO ai_cache_entries ({columns}) SELECT {columns} FROM dumped
         ON CONFLICT DO NOTHING"
    );
    db.superuser().await.batch_execute(&back).await.unwrap();
    let (mut opened, entries) = (0, "/api/ai-cache/entries?limit=200");
    for number in 0..30 {
        let reply = tenant.app.query(&question(number, ERASED, "only-if-cached")).await;
        opened += usize::from(reply.status == 200);
    }
    let listed = tenant.admin.get(entries).await.expect(200).body;
    let private = listed["entries"].as_array().unwrap().len();
    println!("put back from a dump: {opened} of 30 opened, {private} listed");
    assert_eq!((opened, private), (0, 20));
    for app in apps {
        app.stop().await;
    }
}

/// A fill that was begun before and ended after: 409, and no row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_that_an_erasure_overtook_is_not_stored() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    tenant.app.query(&question(0, ERASED, "default")).await.expect(200);
    app.upstream.hold();
    let asking = (1..=10).map(|number| {
        let caller = tenant.app.clone();
        async move { caller.query(&question(number, ERASED, "default")).await }
    });
    let erase = async {
        app.upstream.wait_for_calls(11).await;
        let id = file(&tenant.compliance, "erase", ERASED).await;
        wait_for(&tenant.compliance, &id, "completed").await;
        app.upstream.release();
        id
    };
    let (replies, id) = tokio::join!(join_all(asking), erase);
    let refused = replies.iter().filter(|reply| reply.status == 409).count();
    let rows = app.db.count("SELECT count(*) FROM ai_cache_entries").await;
    println!("10 fills begun before and ended after: {refused} refused, {rows} rows");
    assert_eq!((refused, rows), (10, 0));
    assert_eq!(certificate(&tenant.compliance, &id).await.certificate.removed.postgres_entries, 1);
    // The same person asks again and gets a new key, and nothing of before.
    let again = tenant.app.query(&question(0, ERASED, "default")).await.expect(200);
    assert_eq!(again.body["cached"], false);
    app.stop().await;
}

/// Nothing was ever held: that is certified too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_erasure_of_a_person_never_named_is_certified() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant("acme").await, app.tenant("other").await);
    other.app.query(&question(0, ERASED, "default")).await.expect(200);
    let id = file(&tenant.compliance, "erase", ERASED).await;
    wait_for(&tenant.compliance, &id, "completed").await;
    let said = certificate(&tenant.compliance, &id).await.certificate;
    assert_eq!((said.subject_key_id, said.key_destroyed_at), (None, None));
    assert_eq!(app.db.count("SELECT count(*) FROM ai_cache_entries").await, 1, "another tenant's");
    let path = format!("{REQUESTS}/{id}/certificate");
    other.compliance.get(&path).await.expect(404);
    let id = file(&tenant.compliance, "restrict", ERASED).await;
    tenant.compliance.get(&format!("{REQUESTS}/{id}/certificate")).await.expect(404);
    app.stop().await;
}

/// Never completed before Redis has confirmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_waits_for_redis() {
    let redis = RedisProcess::start(&[]).await;
    let clock = Arc::new(TestClock::default());
    let app = TestApp::builder().redis_url(&redis.url()).clock(clock.clone()).start().await;
    let tenant = app.tenant("acme").await;
    ask_all(&tenant.app, ERASED, 5).await;
    redis.signal(Signal::SIGSTOP);
    let id = file(&tenant.compliance, "erase", ERASED).await;
    let step = format!(
        "SELECT count(*) FROM ai_cache_gdpr_requests
         WHERE request_id = '{id}' AND state = 'executing' AND step = 'destroyed'
           AND restarts_at IS NOT NULL AND attempts = 0"
    );
    wait_until("the erasure waits", || async { (app.db.count(&step).await == 1).then_some(()) })
        .await;
    assert_eq!(app.db.count("SELECT count(*) FROM ai_cache_entries").await, 0);
    assert_eq!(app.db.count("SELECT count(*) FROM gdpr_certificates").await, 0);
    // It goes on waiting for as long as that lasts, and its history does not grow by it.
    for _ in 0..2 {
        clock.advance(TimeDelta::seconds(3));
        let now = clock.now().to_rfc3339();
        let again =
            format!("SELECT count(*) FROM ai_cache_gdpr_requests WHERE restarts_at > '{now}'");
        wait_until("it was tried again", || async {
            (app.db.count(&again).await == 1).then_some(())
        })
        .await;
    }
    redis.signal(Signal::SIGCONT);
    clock.advance(TimeDelta::seconds(3));
    wait_for(&tenant.compliance, &id, "completed").await;
    let removed = certificate(&tenant.compliance, &id).await.certificate.removed;
    assert_eq!((removed.postgres_entries, removed.redis_names), (5, 5));
    let begun = "SELECT count(*) FROM gdpr_events WHERE event = 'begin'";
    assert_eq!(app.db.count(begun).await, 1);
    app.stop().await;
}

/// A legal hold keeps what is held: named in the certificate, and served to nobody. When it ends, what
/// it kept is erased and certified.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_legal_hold_beats_an_erasure() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    ask_all(&tenant.app, ERASED, 3).await;
    let hold = "0192f5a0-0000-7000-8000-000000000001".to_owned();
    let set = format!(
        "INSERT INTO legal_holds (tenant_id, hold_id, subject_blind, from_at, reason_sealed, set_at)
         SELECT tenant_id, '{hold}', blind_id, now(), '', now() FROM subject_keys"
    );
    app.db.superuser().await.batch_execute(&set).await.unwrap();
    let id = file(&tenant.compliance, "erase", ERASED).await;
    wait_for(&tenant.compliance, &id, "partially_completed").await;
    let said = certificate(&tenant.compliance, &id).await.certificate;
    let exceptions: Vec<String> = said.exceptions.iter().map(ToString::to_string).collect();
    assert_eq!((exceptions, said.key_destroyed_at), (vec![hold], None));
    assert_eq!(app.db.count("SELECT count(*) FROM ai_cache_entries").await, 3);
    tenant.app.query(&question(0, ERASED, "default")).await.expect(451);

    app.db
        .superuser()
        .await
        .batch_execute("UPDATE legal_holds SET lifted_at = now()")
        .await
        .unwrap();
    wait_for(&tenant.compliance, &id, "completed").await;
    let said = certificate(&tenant.compliance, &id).await.certificate;
    assert_eq!((said.removed.postgres_entries, said.exceptions.len()), (3, 0));
    assert!(said.key_destroyed_at.is_some());
    let count = ["ai_cache_entries", "gdpr_certificates"];
    let count = count.map(|table| format!("SELECT count(*) FROM {table}"));
    assert_eq!([app.db.count(&count[0]).await, app.db.count(&count[1]).await], [0, 2]);
    app.stop().await;
}

/// The texts that a package tells of a person go with the person, also where nothing was held and
/// the package is sealed under the tenant's key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_packages_of_an_erased_person_are_gone() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    tenant.app.query(&question(0, ERASED, "default")).await.expect(200);
    for subject in [ERASED, OTHER] {
        let export = file(&tenant.compliance, "export", subject).await;
        wait_for(&tenant.compliance, &export, "completed").await;
        let path = format!("{REQUESTS}/{export}/export");
        let erase = file(&tenant.compliance, "erase", subject).await;
        wait_for(&tenant.compliance, &erase, "completed").await;
        let removed = certificate(&tenant.compliance, &erase).await.certificate.removed;
        assert_eq!(removed.export_packages, 1, "{subject}");
        tenant.compliance.get(&path).await.expect(410);
    }
    assert_eq!(app.db.count("SELECT count(*) FROM gdpr_export_parts").await, 0);
    app.stop().await;
}

/// A hold that was set by a replica whose clock is ahead, or while an erasure waited for its turn, is in
/// force for whoever sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_is_in_force_as_soon_as_it_is_seen() {
    let (app, clock) = (TestApp::start().await, Arc::new(TestClock::default()));
    clock.advance(TimeDelta::minutes(2));
    let ahead = TestApp::builder().db(&app.db).clock(clock).start().await;
    let tenant = app.tenant("acme").await;
    ask_all(&tenant.app, ERASED, 1).await;
    let hold = json!({ "subjectId": ERASED, "reason": "an inquiry" });
    let holds = "/api/ai-cache/gdpr/legal-holds";
    let compliance = tenant.compliance.at(&ahead.base());
    compliance.send_json("PUT", holds, &hold).await.expect(200);
    ahead.stop().await;
    let id = file(&tenant.compliance, "erase", ERASED).await;
    wait_for(&tenant.compliance, &id, "partially_completed").await;
    assert_eq!(certificate(&tenant.compliance, &id).await.certificate.exceptions.len(), 1);
    assert_eq!(app.db.count("SELECT count(*) FROM ai_cache_entries").await, 1);
    app.stop().await;
}

/// A replica that is cut off while somebody is erased: no certificate before its lease has ended, and
/// nothing erased from it later than 2 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_cut_off_holds_the_certificate_up() {
    let db = TestDb::new().await;
    let proxy = PgProxy::start(&db.app_url().await).await;
    let url = proxy.url().to_owned();
    let lone = TestApp::builder().db(&db).settings(|settings| settings.database_url = url);
    let lone = lone.start().await;
    let other = TestApp::builder().db(&db).start().await;
    let tenant = other.tenant("acme").await;
    let there = tenant.app.at(&lone.base());
    ask_all(&there, ERASED, 1).await;

    let over = AtomicBool::new(false);
    let read = async {
        let (mut hits, mut pace) = (Vec::new(), tokio::time::interval(PACE));
        while !over.load(Ordering::SeqCst) {
            let sent = Instant::now();
            let reply = there.query_quickly(&question(0, ERASED, "only-if-cached")).await;
            hits.extend((reply.status == 200).then_some(sent));
            pace.tick().await;
        }
        hits
    };
    let erase = async {
        proxy.take_down();
        let (cut, at) = (Instant::now(), SystemClock.now());
        let id = file(&tenant.compliance, "erase", ERASED).await;
        wait_for(&tenant.compliance, &id, "completed").await;
        over.store(true, Ordering::SeqCst);
        (cut, at, certificate(&tenant.compliance, &id).await.certificate)
    };
    let (hits, (cut, at, said)) = tokio::join!(read, erase);
    let late = hits.iter().filter(|sent| **sent > cut + Duration::from_secs(2)).count();
    let waited = said.issued_at - at;
    println!(
        "certified {waited} after the cut, by {} replica; {} hits since, {late} later than 2 s",
        said.removed.memory_replicas,
        hits.iter().filter(|sent| **sent > cut).count()
    );
    // Its lease was renewed half a second before the cut, at most.
    assert!(waited >= TimeDelta::milliseconds(2_500), "{waited}");
    assert_eq!((late, said.removed.memory_replicas), (0, 1));
    proxy.bring_up();
    lone.stop().await;
    other.stop().await;
}
