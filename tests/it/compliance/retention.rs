//! The retention purge (W12; issue 5, "retention"): what is past its time goes, held things stay, the
//! trail stays provable, and what looks like a mistake waits for a person.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ai_cache::audit::verify::FindingKind;
use ai_cache::audit::{CheckpointFile, make_partitions};
use ai_cache::compliance::{Purge, PurgeState, WaitReason};
use ai_cache::domain::clock::Clock as _;
use chrono::{DateTime, Months, NaiveDate, TimeDelta, Utc};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::resilience::hurt::Hurt;
use crate::support::app::Tenant;
use crate::support::{Client, TestApp, TestClock, TestDb, rounds};

use super::proof::{builder, checkpoint_file, sealed, verify};

const PURGE: &str = "/api/ai-cache/admin/purge";

/// A tenant whose data are kept for so many days; 0: as the installation says.
async fn keeping(app: &TestApp, slug: &str, days: u32) -> Tenant {
    let tenant = app.tenant(slug).await;
    let (path, body) =
        (format!("/api/ai-cache/admin/tenants/{slug}"), json!({ "retentionDays": days }));
    app.operator().await.send_json("PATCH", &path, &body).await.expect(200);
    tenant
}

async fn purge(operator: &Client, body: Value) -> Value {
    operator.post(PURGE, &body).await.expect(200).body
}

/// The partitions that a class has, by name, and from when on each is due.
async fn partitions(hurt: &Hurt, class: u32) -> Vec<(String, DateTime<Utc>)> {
    let query = "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relname LIKE $1";
    let like = format!("audit\\_logs\\_y{class}\\_2%");
    let rows = hurt.superuser().await.query(query, &[&like]).await.unwrap();
    let due = |name: &str| {
        let month = name.rsplit_once(&format!("_y{class}_")).unwrap().1.replace('_', "-");
        let month = NaiveDate::parse_from_str(&format!("{month}-01"), "%Y-%m-%d").unwrap();
        let due = month + Months::new(1 + 12 * class);
        due.and_hms_opt(0, 0, 0).unwrap().and_utc()
    };
    rows.iter().map(|row| row.get::<_, String>(0)).map(|name| (name.clone(), due(&name))).collect()
}

async fn due(hurt: &Hurt, now: DateTime<Utc>) -> BTreeSet<String> {
    let mut due = BTreeSet::new();
    for class in [1, 3, 7, 10] {
        let parts = partitions(hurt, class).await.into_iter();
        due.extend(parts.filter(|(_, at)| *at <= now).map(|(name, _)| name));
    }
    due
}

fn named(report: &Value, fate: &str) -> BTreeSet<String> {
    let parts = report["partitions"].as_array().unwrap().iter();
    let parts = parts.filter(|part| part["fate"] == fate);
    parts.map(|part| part["name"].as_str().unwrap().to_owned()).collect()
}

fn counts(report: &Value) -> Vec<u64> {
    ["entries", "metrics", "exports", "requests", "subjects", "records"]
        .map(|name| report[name].as_u64().unwrap())
        .to_vec()
}

/// After a purge of so many partitions the trail has no finding; one dropped by hand is one.
async fn stays_provable((app, hurt): (&TestApp, &Hurt), file: &Path, dropped: usize) -> String {
    let told = "SELECT count(*) FROM ai_cache_audit_logs WHERE action = 'audit-purge'";
    assert_eq!(hurt.count(told).await, i64::try_from(dropped).unwrap());
    sealed(hurt).await;
    let checkpoint = CheckpointFile::new(file.to_owned());
    let found = verify(app.rooms(), Some(&checkpoint)).await;
    let whole = format!("{} rows, {} findings", found.rows, found.found());
    assert_eq!(found.findings, []);

    let by_hand = partitions(hurt, 3).await.into_iter().map(|(name, _)| name).min().unwrap();
    hurt.superuser().await.batch_execute(&format!("DROP TABLE {by_hand}")).await.unwrap();
    let found = verify(app.rooms(), Some(&checkpoint)).await;
    let unjustified =
        found.findings.iter().filter(|found| found.kind == FindingKind::PurgeUnjustified);
    let places: Vec<&str> = unjustified.map(|found| found.place.as_str()).collect();
    assert_eq!(places, [by_hand.as_str()]);
    format!("{whole}; {by_hand} dropped by hand: PURGE_UNJUSTIFIED of {places:?}")
}

/// Three classes of records, a tenant that is held, 470 days: exactly what is due goes, and the trail is
/// whole; a partition dropped by hand is told of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_what_is_due_goes_and_the_trail_stays_provable() {
    let (hurt, clock) = (Hurt::in_memory().await, Arc::new(TestClock::default()));
    let file = checkpoint_file();
    let app = builder(&hurt, &file).clock(Arc::clone(&clock) as _).start().await;
    let operator = app.operator().await;
    let one = keeping(&app, "one", 365).await;
    let three = keeping(&app, "three", 3 * 365).await;
    let seven = keeping(&app, "seven", 0).await;
    for tenant in [&one, &three, &seven] {
        for number in 0..5 {
            tenant.app.ask(&format!("question {number}")).await.expect(200);
        }
    }
    // So that it is the purge, not the eviction, that removes entries.
    let db = hurt.superuser().await;
    let long = "UPDATE ai_cache_entries SET expires_at = created_at + interval '20 years'";
    db.batch_execute(long).await.unwrap();
    // Two months on: a tenant that is held writes into a month of its own.
    sealed(&hurt).await;
    clock.advance(TimeDelta::days(62));
    make_partitions(app.rooms().store(), clock.now()).await.unwrap();
    let held = keeping(&app, "held", 365).await;
    held.app.ask("a question").await.expect(200);
    one.app.ask("a later question").await.expect(200);
    let hold = json!({ "reason": "an inquiry" });
    held.compliance.send_json("PUT", "/api/ai-cache/gdpr/legal-holds", &hold).await.expect(200);
    let held_part = clock.now().format("audit_logs_y1_%Y_%m").to_string();
    sealed(&hurt).await;

    db.batch_execute(long).await.unwrap();
    clock.advance(TimeDelta::days(408));
    make_partitions(app.rooms().store(), clock.now()).await.unwrap();
    let now = clock.now();
    let all_due = due(&hurt, now).await;
    let rows = "SELECT count(*) FROM ai_cache_audit_logs WHERE retention_class = 1";
    let before =
        (hurt.count(rows).await, hurt.count("SELECT count(*) FROM ai_cache_entries").await);

    let dry = purge(&operator, json!({ "dryRun": true })).await;
    let waits = purge(&operator, json!({})).await;
    assert_eq!((&dry["state"], &waits["state"]), (&json!("dry-run"), &json!("waiting")));
    assert_eq!(waits["reason"], "clocks-differ");
    assert_eq!(counts(&dry), counts(&waits));
    assert_eq!(due(&hurt, now).await, all_due, "nothing is gone");
    let after = (hurt.count(rows).await, hurt.count("SELECT count(*) FROM ai_cache_entries").await);
    assert_eq!(after, before);

    let done = purge(&operator, json!({ "confirm": true })).await;
    assert_eq!((&done["state"], counts(&done)), (&json!("done"), counts(&dry)));
    let kept = BTreeSet::from([held_part.clone()]);
    assert!(all_due.contains(&held_part) && all_due.len() > 1);
    assert_eq!(named(&done, "held"), kept);
    assert_eq!(named(&done, "dropped"), &all_due - &kept);
    assert_eq!(due(&hurt, now).await, kept, "no more and no less is gone");
    let left = "SELECT string_agg(slug || ' ' || n, ', ' ORDER BY slug) FROM
        (SELECT slug, count(*) AS n FROM ai_cache_entries JOIN tenants USING (tenant_id) GROUP BY 1) e";
    let left: String = db.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, "held 1, seven 5, three 5");
    let tenant =
        &done["tenants"].as_array().unwrap().iter().find(|t| t["tenant"] == "held").unwrap();
    assert_eq!((&tenant["held"], &tenant["kept"]), (&json!(true), &json!(1)));

    let proof = stays_provable((&app, &hurt), &file, named(&done, "dropped").len()).await;
    println!("verified after the purge: {proof}");
    drop(db);
    app.stop().await;
    hurt.stop().await;
}

/// Makes so many entries of those that meet a condition eight years old.
async fn age(db: &TestDb, condition: &str, most: i64) {
    let age = format!(
        "UPDATE ai_cache_entries SET created_at = now() - interval '8 years',
             expires_at = now() + interval '1 year',
             entry_id = (left(first_uuidv7_of(now() - interval '8 years')::text, 24)
                         || right(entry_id::text, 12))::uuid
         WHERE cache_key IN (SELECT cache_key FROM ai_cache_entries
                             WHERE {condition} ORDER BY created_at LIMIT {most})"
    );
    db.superuser().await.batch_execute(&age).await.unwrap();
}

async fn ask_of(tenant: &Tenant, person: &str) {
    let body = json!({ "query": "which flowers?", "subjectId": person });
    tenant.app.query(&body).await.expect(200);
}

/// More than a fifth of the entries: the daily run waits, once a day; less: it goes. Persons who are held
/// keep theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_would_remove_more_than_a_fifth_waits_for_a_person() {
    let app = TestApp::start().await;
    let (tenant, operator) = (app.tenant("acme").await, app.operator().await);
    for number in 0..18 {
        tenant.app.ask(&format!("question {number}")).await.expect(200);
    }
    ask_of(&tenant, "couple-1").await;
    ask_of(&tenant, "couple-2").await;
    let hold = json!({ "subjectId": "couple-1", "reason": "a lawsuit" });
    tenant.compliance.send_json("PUT", "/api/ai-cache/gdpr/legal-holds", &hold).await.expect(200);
    age(&app.db, "subject_key_id IS NOT NULL", 2).await;
    age(&app.db, "subject_key_id IS NULL", 4).await;
    let entries = "SELECT count(*) FROM ai_cache_entries";

    let waiting = app.rooms().compliance.purge_when_due().await.unwrap().unwrap();
    assert_eq!(waiting.state, PurgeState::Waiting);
    assert_eq!(waiting.reason, Some(WaitReason::ManyEntries));
    assert_eq!((waiting.amounts.entries, app.db.count(entries).await), (5, 20));
    assert_eq!(app.rooms().compliance.purge_when_due().await.unwrap(), None, "once a day");
    assert_eq!(purge(&operator, json!({})).await["reason"], "many-entries");

    let done = purge(&operator, json!({ "confirm": true })).await;
    println!("20 entries, 6 too old, 1 of them held: {} gone", done["entries"]);
    assert_eq!((counts(&done)[0], app.db.count(entries).await), (5, 15));
    assert_eq!(done["tenants"][0]["kept"], 1);

    age(&app.db, "subject_key_id IS NULL AND created_at > now() - interval '1 day'", 3).await;
    let done = purge(&operator, json!({})).await;
    assert_eq!((&done["state"], counts(&done)[0]), (&json!("done"), 3), "3 of 15 are a fifth");
    let told = "SELECT sum(item_count)::bigint FROM ai_cache_audit_logs
                WHERE action = 'purge' AND actor_kind = 'service' AND outcome = 'done'";
    assert_eq!(app.db.count(told).await, 8);
    operator.post(PURGE, &json!({ "dryRun": true, "confirm": true })).await.expect(422);
    app.stop().await;
}

/// Entries that the purge removed are served from memory no more, on no replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_purge_removed_is_served_by_no_tier() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    tenant.app.ask("a question").await.expect(200);
    let polite = tenant.app.with_header("cache-control", "only-if-cached");
    assert_eq!(polite.ask("a question").await.expect(200).body["cacheSource"], "hot");
    // Its key and row stay what they are; only its age is another.
    let old = "UPDATE ai_cache_entries SET entry_id = first_uuidv7_of(now() - interval '8 years')";
    app.db.superuser().await.batch_execute(old).await.unwrap();
    let record = app.rooms().calls.command_line_record();
    let done = app.rooms().compliance.purge(Purge::Confirmed, record).await.unwrap();
    assert_eq!(done.amounts.entries, 1);
    crate::support::wait_until("it is served no more", || async {
        (polite.ask("a question").await.status == 504).then_some(())
    })
    .await;
    app.stop().await;
}

/// Metrics, packages, closed requests and names in them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_packages_requests_and_names_go_when_their_time_is_over() {
    let app = TestApp::start().await;
    let (tenant, held) = (app.tenant("acme").await, app.tenant("held").await);
    let hold = json!({ "reason": "an inquiry" });
    held.compliance.send_json("PUT", "/api/ai-cache/gdpr/legal-holds", &hold).await.expect(200);
    let request = |name: &str, state: &str, updated: &str, completed: &str, expires: &str| {
        format!(
            "INSERT INTO ai_cache_gdpr_requests (tenant_id, request_id, type, state, subject_sealed,
                 subject_blind, details_sealed, received_at, due_at, completed_at, created_at,
                 updated_at, expires_at)
             SELECT t, '00000000-0000-7000-8000-0000000000{name}', 'export', '{state}', 'x',
                 sha256('x'), 'x', now(), now(), {completed}, now(), {updated}, {expires}
             FROM unnest(ARRAY['{}', '{}']::uuid[]) t;",
            tenant.id.0, held.id.0
        )
    };
    let (old, recent) = ("now() - interval '8 years'", "now() - interval '91 days'");
    let rows = [
        request("01", "rejected", old, "NULL", "NULL"),
        request("02", "awaiting_approval", old, "NULL", "NULL"),
        request("03", "completed", recent, recent, recent),
        request("04", "completed", "now()", "now()", "now() + interval '1 day'"),
        request("05", "cancelled", recent, "NULL", "NULL"),
        request("06", "failed", recent, "NULL", "NULL"),
    ]
    .concat();
    let more = "INSERT INTO gdpr_export_parts (tenant_id, request_id, part, sealed)
                    SELECT tenant_id, request_id, 1, 'x' FROM ai_cache_gdpr_requests
                    WHERE state = 'completed';
                INSERT INTO ai_cache_performance_metrics
                    SELECT tenant_id, at, gen_random_uuid(), 'chat', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ''
                    FROM (SELECT DISTINCT tenant_id FROM ai_cache_gdpr_requests) r,
                         (VALUES (now()), (now() - interval '8 years')) m (at)";
    let db = app.db.superuser().await;
    db.batch_execute(&rows).await.unwrap();
    db.batch_execute(more).await.unwrap();

    let dry = purge(&app.operator().await, json!({ "dryRun": true })).await;
    let done = purge(&app.operator().await, json!({})).await;
    println!("entries, metrics, exports, requests, subjects, records: {:?}", counts(&done));
    // The name of the one that is too old goes, too, before it goes itself.
    assert_eq!(counts(&done), [0, 1, 1, 1, 3, 0]);
    assert_eq!(counts(&dry), counts(&done));
    let left = format!(
        "SELECT concat_ws(' ',
             (SELECT string_agg(right(request_id::text, 2), ',' ORDER BY request_id)
              FROM ai_cache_gdpr_requests WHERE tenant_id = t.id),
             (SELECT string_agg(right(request_id::text, 2), ',' ORDER BY request_id)
              FROM gdpr_export_parts WHERE tenant_id = t.id),
             (SELECT count(*) FROM ai_cache_gdpr_requests
              WHERE tenant_id = t.id AND subject_sealed IS NULL),
             (SELECT count(*) FROM ai_cache_performance_metrics WHERE tenant_id = t.id))
         FROM unnest(ARRAY['{}', '{}']::uuid[]) WITH ORDINALITY t (id, n) ORDER BY n",
        tenant.id.0, held.id.0
    );
    let left: Vec<String> =
        db.query(&left, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(left, ["02,03,04,05,06 04 2 1", "01,02,03,04,05,06 03,04 0 2"]);
    app.stop().await;
}

/// A tenant's records are stamped with its class from the change on, by a process started later too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_stamped_with_their_tenants_class_from_then_on() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant("acme").await, app.tenant("other").await);
    tenant.app.ask("a question").await.expect(200);
    let classes = |tenant: &Tenant| {
        let query = format!(
            "SELECT string_agg(retention_class || ':' || n, ' ' ORDER BY retention_class)
             FROM (SELECT retention_class, count(*) AS n FROM ai_cache_audit_logs
                   WHERE tenant_id = '{}' AND action = 'query' GROUP BY 1) c",
            tenant.id.0
        );
        let db = app.db.clone();
        async move {
            let row = db.superuser().await.query_one(&query, &[]).await.unwrap();
            row.get::<_, Option<String>>(0).unwrap_or_default()
        }
    };
    assert_eq!(classes(&tenant).await, "7:1");
    let (path, operator) = ("/api/ai-cache/admin/tenants/acme", app.operator().await);
    for (days, expected) in [(365, "1:1 7:1"), (366, "1:1 3:1 7:1"), (3_000, "1:1 3:1 7:1 10:1")] {
        operator.send_json("PATCH", path, &json!({ "retentionDays": days })).await.expect(200);
        tenant.app.ask("a question").await.expect(200);
        assert_eq!(classes(&tenant).await, expected, "{days} days");
    }
    operator.send_json("PATCH", path, &json!({ "retentionDays": 1 })).await.expect(200);
    let second = TestApp::builder().db(&app.db).start().await;
    tenant.app.at(&second.base()).ask("a question").await.expect(200);
    other.app.at(&second.base()).ask("a question").await.expect(200);
    assert_eq!((classes(&tenant).await, classes(&other).await).0, "1:2 3:1 7:1 10:1");
    assert_eq!(classes(&other).await, "7:1");
    second.stop().await;
    app.stop().await;
}

/// Lets callers ask all the time until `work` is done. Returns how long replies took, in order, and
/// how many were refused or had their record in the spool, because Postgres did not take it in
/// time.
async fn asking<T>(tenant: &Tenant, work: impl Future<Output = T>) -> (T, Vec<Duration>, usize) {
    const CALLERS: usize = 4;
    let stopped = AtomicBool::new(false);
    let caller = || async {
        let mut seen = Vec::new();
        while !stopped.load(Ordering::SeqCst) {
            let begun = Instant::now();
            let reply = tenant.app.ask("a question").await;
            let spooled = reply.header("x-audit-durability") == Some("spool");
            seen.push((begun.elapsed(), spooled || reply.status == 503));
        }
        seen
    };
    let work = async {
        let done = work.await;
        stopped.store(true, Ordering::SeqCst);
        done
    };
    let (done, seen) = tokio::join!(work, join_all((0..CALLERS).map(|_| caller())));
    let seen: Vec<(Duration, bool)> = seen.into_iter().flatten().collect();
    let held_up = seen.iter().filter(|(_, held_up)| *held_up).count();
    let mut took: Vec<Duration> = seen.into_iter().map(|(took, _)| took).collect();
    took.sort_unstable();
    (done, took, held_up)
}

fn p99(took: &[Duration]) -> Duration {
    took[took.len() * 99 / 100]
}

/// A partition that somebody reads: records are written on, and it is dropped when the reader is done.
/// The machine's own speed is measured first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drop_never_blocks_records_however_long_somebody_reads() {
    let hurt = Hurt::in_memory().await;
    let url = hurt.url();
    let app = TestApp::builder().settings(|settings| settings.database_url = url).start().await;
    let tenant = app.tenant("acme").await;
    tenant.app.ask("a question").await.expect(200);
    let (db, reader) = (hurt.superuser().await, hurt.superuser().await);
    // The partition has the class of the records that are written meanwhile.
    let part = "SELECT ensure_audit_partitions('2001-01-01', 1);
                DROP TABLE audit_logs_y1_2001_01, audit_logs_y3_2001_01, audit_logs_y10_2001_01";
    db.batch_execute(part).await.unwrap();
    let (_, calm, _) = asking(&tenant, db.batch_execute("SELECT pg_sleep(3)")).await;

    let read = "BEGIN; SELECT count(*) FROM ai_cache_audit_logs";
    reader.batch_execute(read).await.unwrap();
    let seconds = rounds(5, 60);
    let end = format!("SELECT pg_sleep({seconds}); COMMIT");
    let record = app.rooms().calls.command_line_record();
    let purging = app.rooms().compliance.purge(Purge::Confirmed, record);
    let work = async { tokio::join!(purging, reader.batch_execute(&end)).0.unwrap() };
    let (report, took, held_up) = Box::pin(asking(&tenant, work)).await;
    let (before, during) = (p99(&calm), p99(&took));
    println!(
        "a reader of {seconds} s: {} replies meanwhile, p99 {during:?} ({before:?} before), slowest {:?}, {held_up} × 503 or spooled",
        took.len(),
        took.last().unwrap()
    );
    let fates: Vec<&str> = report.partitions.iter().map(|part| part.fate.name()).collect();
    assert_eq!(fates, ["dropped"]);
    // A reply may wait for the lock of a try or two, which are given up after 200 ms each.
    assert!(took.len() > 50 && during < before * 2 + Duration::from_millis(400));
    assert_eq!(held_up, 0);
    drop((db, reader));
    app.stop().await;
    hurt.stop().await;
}

/// One clock ahead of the other, or both behind where the last run began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumped_makes_the_daily_run_wait() {
    let clock = Arc::new(TestClock::default());
    let db = TestDb::new().await;
    let app = TestApp::builder().db(&db).clock(Arc::clone(&clock) as _).start().await;
    let first = app.rooms().compliance.purge_when_due().await.unwrap().unwrap();
    assert_eq!((first.state, first.reason), (PurgeState::Done, None));
    clock.advance(TimeDelta::hours(26));
    let waits = app.rooms().compliance.purge_when_due().await.unwrap().unwrap();
    assert_eq!(waits.reason, Some(WaitReason::ClocksDiffer));
    app.stop().await;
    // The service's clock as Postgres', and both three days behind where the last run began.
    let app = TestApp::builder().db(&db).start().await;
    let ahead =
        "UPDATE purge_runs SET begun_at = begun_at + interval '3 days' WHERE state = 'done'";
    db.superuser().await.batch_execute(ahead).await.unwrap();
    let record = app.rooms().calls.command_line_record();
    let back = app.rooms().compliance.purge(Purge::Guarded, record).await.unwrap();
    assert_eq!(back.reason, Some(WaitReason::ClockJumped));
    app.stop().await;
}
