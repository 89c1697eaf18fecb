//! Pages of a long trail: each record once, along the index (issue 3).

use std::collections::BTreeMap;
use std::time::Duration;

use ai_cache::domain::action::Action;
use ai_cache::domain::audit_row::AuditRow;
use ai_cache::domain::clock::{Clock, SystemClock};
use ai_cache::domain::ids::TenantId;
use ai_cache::embedded::SUPERUSER;
use ai_cache::store::audit_rows::{Order, Stretch, TrailFilter, find_window_end, list};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::support::services::{connect, postgres};
use crate::support::{Client, TestApp, TestDb, wait_until};

use super::trail::{AUDIT, read, time};

/// Adds `count` records at a time, of the four retention classes in turn.
pub async fn add_rows(db: &TestDb, tenant: TenantId, at: DateTime<Utc>, count: i64) {
    add_such_rows((db, tenant), at, count, ("(ARRAY[1, 3, 7, 10])[1 + n % 4]", "'fill'")).await;
}

/// Adds rows with an expression over n for the retention class and the action.
async fn add_such_rows(
    (db, tenant): (&TestDb, TenantId),
    at: DateTime<Utc>,
    count: i64,
    (class, action): (&str, &str),
) {
    let millis = at.timestamp_millis();
    let add = format!(
        "INSERT INTO ai_cache_audit_logs
             (retention_class, tenant_id, id, occurred_at, request_id, actor_kind, action, outcome,
              status, item_count, duration_us, cost_picousd, ledger_id, row_hash, row_mac,
              mac_key_id)
         SELECT {class}, '{tenant}',
                (lpad(to_hex({millis}::bigint), 12, '0') || '7' || substr(md5(random()::text), 1, 3)
                 || '8' || substr(md5(random()::text), 1, 15))::uuid,
                '{}', gen_random_uuid(), 'service', {action}, 'done', 0, 1, 0, 0, gen_random_uuid(),
                '\\x00', '\\x00', 'k1'
         FROM generate_series(1, {count}) AS n",
        time(at)
    );
    let added = db.superuser().await.execute(&add, &[]).await.unwrap();
    assert_eq!(i64::try_from(added).unwrap(), count);
}

/// The ids of a tenant's records, newest first.
pub async fn stored(db: &TestDb, tenant: TenantId) -> Vec<Uuid> {
    let query = "SELECT id::text FROM ai_cache_audit_logs WHERE tenant_id::text = $1
                 ORDER BY ai_cache_audit_logs.id DESC";
    let rows = db.superuser().await.query(query, &[&tenant.to_string()]).await.unwrap();
    rows.iter().map(|row| row.get::<_, &str>(0).parse().unwrap()).collect()
}

/// A page and where the next begins.
async fn page(caller: &Client, parameters: &str) -> (Vec<Uuid>, Option<String>) {
    let reply = caller.get(&format!("{AUDIT}?{parameters}")).await.expect(200);
    let rows: Vec<AuditRow> = serde_json::from_value(reply.body["records"].clone()).unwrap();
    let next = reply.body["nextCursor"].as_str().map(str::to_owned);
    (rows.iter().map(|row| row.id.0).collect(), next)
}

/// api.md: keyset pages: what was there at the first page is seen once, newest first, while more is
/// recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_hold_each_record_once_while_records_are_added() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let now = SystemClock.now();
    for days in [0, 1, 40] {
        add_rows(&app.db, tenant.id, now - TimeDelta::days(days), 120).await;
    }
    for limit in [1, 7, 100, 1_000] {
        let parameters = if limit == 1 { "action=token-create&" } else { "" };
        let mut expected = stored(&app.db, tenant.id).await;
        if limit == 1 {
            let rows = read(&tenant.compliance, "action=token-create").await;
            expected = rows.iter().map(|row| row.id.0).collect();
        }
        let (mut seen, mut pages, mut cursor) = (Vec::new(), 0, String::new());
        loop {
            let asked = format!("{parameters}limit={limit}{cursor}");
            let (rows, next) = page(&tenant.compliance, &asked).await;
            tenant.app.ask(&format!("meanwhile {limit} {pages}")).await.expect(200);
            assert!(rows.len() <= limit, "{limit}");
            seen.extend(rows);
            pages += 1;
            match next {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
            assert!(pages <= expected.len(), "{limit}: the pages do not end");
        }
        assert_eq!(seen, expected, "{limit}");
        assert_eq!(pages, expected.len().div_ceil(limit), "{limit}: pages");
    }
    let default = tenant.compliance.get(AUDIT).await.expect(200);
    assert_eq!(default.body["records"].as_array().unwrap().len(), 100);
    assert!(default.body["nextCursor"] != Value::Null);
    app.stop().await;
}

/// Scans of the partitions that hold rows: sequential ones and those of an index.
async fn scans(db: &TestDb) -> (i64, i64) {
    let of_filled =
        "FROM pg_stat_user_tables WHERE relname LIKE 'audit_logs_%' AND n_live_tup > 50";
    (
        db.count(&format!("SELECT coalesce(sum(seq_scan), 0)::bigint {of_filled}")).await,
        db.count(&format!("SELECT coalesce(sum(idx_scan), 0)::bigint {of_filled}")).await,
    )
}

/// Waits until the service has no session any more: a session tells its scans when it ends.
async fn scans_told(db: &TestDb) {
    let sessions = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name = 'ai-cache'";
    wait_until("the scans are told", async || (db.count(sessions).await == 0).then_some(())).await;
}

/// Issue 3: a page costs an index range, however long the trail: no partition is read through.
/// Counted by Postgres itself over the statements that the service really sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_read_no_partition_through() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant("acme").await, app.tenant("other").await);
    let now = SystemClock.now();
    for (tenant, rows) in [(tenant.id, 4_000), (other.id, 2_000)] {
        for days in [0, 35] {
            add_rows(&app.db, tenant, now - TimeDelta::days(days), rows).await;
        }
    }
    // The first process tells its scans before the first page is asked for.
    let db = app.db.clone();
    app.stop().await;
    scans_told(&db).await;
    db.superuser().await.batch_execute("ANALYZE ai_cache_audit_logs").await.unwrap();
    let filled = "SELECT count(*) FROM pg_stat_user_tables
                  WHERE relname LIKE 'audit_logs_%' AND n_live_tup > 50";
    wait_until("the rows are known", async || (db.count(filled).await >= 8).then_some(())).await;
    let (read_through, _) = scans(&db).await;
    let app = TestApp::builder().db(&db).start().await;
    let compliance = tenant.compliance.at(&app.base());
    let mut cursor = None;
    for _ in 0..3 {
        let after = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        (_, cursor) = page(&compliance, &format!("limit=1000{after}")).await;
    }
    let cursor = cursor.unwrap();
    let (from, to) = (time(now - TimeDelta::days(36)), time(now - TimeDelta::days(1)));
    let mut pages = 0;
    for parameters in [
        "limit=100".to_owned(),
        "limit=1000".to_owned(),
        format!("limit=100&cursor={cursor}"),
        format!("limit=100&from={from}&to={to}"),
        format!("limit=100&actor=service&cursor={cursor}"),
        "limit=100&action=fill".to_owned(),
    ] {
        // Often enough that Postgres stops planning each anew.
        for _ in 0..8 {
            let (rows, _) = page(&compliance, &parameters).await;
            assert!(rows.len() >= 100, "{parameters}");
            pages += 1;
        }
    }
    let export = compliance.get(&format!("{AUDIT}/export")).await.expect(200);
    assert!(export.text.lines().count() > 8_000);
    app.stop().await;
    scans_told(&db).await;
    let (sequential, indexed) = scans(&db).await;
    assert!(indexed >= pages * 4, "{indexed}");
    let sequential = sequential - read_through;
    println!("{pages} pages and an export: {sequential} sequential scans, {indexed} of an index");
    assert_eq!(sequential, 0);
}

/// A rare action among many records, 210,000 of them of one retention class: both readers go through
/// it in several windows, and neither loses or repeats a record at a window's end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rare_record_is_found_once_in_a_long_trail() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let now = SystemClock.now();
    for (days, count, action) in [
        (0, 10, "'token-revoke'"),
        (1, 105_000, "'fill'"),
        (2, 5, "'token-revoke'"),
        (40, 105_000, "'fill'"),
        (41, 6, "'token-revoke'"),
    ] {
        let to = (&app.db, tenant.id);
        add_such_rows(to, now - TimeDelta::days(days), count, ("3", action)).await;
    }
    let of_action = "SELECT id::text FROM ai_cache_audit_logs WHERE action = 'token-revoke'
                     ORDER BY ai_cache_audit_logs.id DESC";
    let rows = app.db.superuser().await.query(of_action, &[]).await.unwrap();
    let expected: Vec<Uuid> =
        rows.iter().map(|row| row.get::<_, &str>(0).parse().unwrap()).collect();
    assert_eq!(expected.len(), 21);
    for limit in [1, 5, 1_000] {
        let (mut seen, mut pages, mut continued, mut cursor) = (Vec::new(), 0, 0, String::new());
        loop {
            let asked = format!("action=token-revoke&limit={limit}{cursor}");
            let (rows, next) = page(&tenant.compliance, &asked).await;
            assert!(rows.len() <= limit, "{limit}");
            seen.extend(rows);
            pages += 1;
            let Some(next) = next else { break };
            continued += usize::from(!expected.contains(&next.parse().unwrap()));
            cursor = format!("&cursor={next}");
            assert!(pages <= 2 * expected.len(), "{limit}: the pages do not end");
        }
        println!("{} of 210,000 in {pages} pages of {limit}, {continued} end a window", seen.len());
        assert_eq!(seen, expected, "{limit}");
        assert_eq!(limit <= 5, continued > 0, "{limit}: a page is full at a window's end");
    }
    let export = format!("{AUDIT}/export?action=token-revoke");
    let reply = tenant.compliance.get(&export).await.expect(200);
    let exported = reply.text.lines().map(|line| {
        let row: AuditRow = serde_json::from_str(line).unwrap();
        row.id.0
    });
    let exported: Vec<Uuid> = exported.collect();
    println!("{} exported", exported.len());
    assert!(exported.iter().rev().eq(&expected));
    app.stop().await;
}

/// The search for one action sees each of its records once, in order, either way, however short the
/// windows are. No window holds more rows of a retention class than it may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_of_any_length_cover_the_trail_once() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let now = SystemClock.now();
    let rare = "CASE WHEN n % 13 = 0 THEN 'token-revoke' ELSE 'fill' END";
    let class = "CASE WHEN n % 5 = 0 THEN 10 ELSE 3 END";
    for days in [0, 1, 40] {
        add_such_rows((&app.db, tenant.id), now - TimeDelta::days(days), 60, (class, rare)).await;
    }
    let store = app.rooms().store();
    let mut trail =
        store.within(Duration::from_mins(1)).snapshot("read a trail", tenant.id).await.unwrap();
    let from = Some(now - TimeDelta::days(1));
    let (mut windows, mut found) = (0, 0);
    for (order, from) in [
        (Order::NewestFirst, None),
        (Order::NewestFirst, from),
        (Order::OldestFirst, None),
        (Order::OldestFirst, from),
    ] {
        let whole = Stretch { order, behind: None, until: None };
        let action = Some(Action::TokenRevoke);
        let filter = TrailFilter { from, action, ..TrailFilter::default() };
        let any = TrailFilter { from, ..TrailFilter::default() };
        let expected = trail.read(async |tx| list(tx, &filter, whole, 1_000).await).await.unwrap();
        assert_eq!(expected.len(), if from.is_some() { 8 } else { 12 });
        for scan in [1, 2, 7, 48, 49, 1_000] {
            let (mut seen, mut rest) = (Vec::new(), whole);
            loop {
                let end = trail.read(async |tx| find_window_end(tx, &filter, rest, scan).await);
                let end = end.await.unwrap();
                let window = Stretch { until: end, ..rest };
                let mut rows = BTreeMap::<i16, u32>::new();
                let all = trail.read(async |tx| list(tx, &any, window, 1_000).await);
                for row in all.await.unwrap() {
                    *rows.entry(row.retention_class).or_default() += 1;
                }
                assert!(rows.values().all(|count| *count <= scan), "{scan}: {rows:?}");
                let some = trail.read(async |tx| list(tx, &filter, window, 1_000).await);
                seen.extend(some.await.unwrap());
                windows += 1;
                let Some(end) = end else { break };
                assert!(rows.values().any(|count| *count == scan), "{scan}: {rows:?}");
                rest = Stretch { behind: Some(end), ..rest };
            }
            assert_eq!(seen, expected, "{order:?} {scan}");
            found += seen.len();
        }
    }
    trail.end().await.unwrap();
    println!("{windows} windows, {found} records found");
    app.stop().await;
}

/// ERRORS.md: while Postgres is away the trail cannot be read, and the refusal is recorded all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_the_trail_is_a_503() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    tenant.compliance.get(AUDIT).await.expect(200);
    let admin = connect(&postgres().await.url(SUPERUSER, "postgres")).await;
    let name = app.db.name();
    let cut = format!(
        "ALTER DATABASE {name} ALLOW_CONNECTIONS false;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    );
    admin.batch_execute(&cut).await.unwrap();
    let export = format!("{AUDIT}/export");
    let mut refused = Vec::new();
    for path in [AUDIT, &export] {
        let reply = tenant.compliance.get(path).await.expect(503);
        assert_eq!(reply.problem(), "storage-unavailable");
        refused.push(reply.header("x-audit-id").unwrap().to_owned());
    }
    admin.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await.unwrap();
    let recorded = format!(
        "SELECT count(*) FROM ai_cache_audit_logs
         WHERE outcome = 'error' AND status = 503 AND id::text IN ('{}')",
        refused.join("', '")
    );
    wait_until("the refusals are recorded", async || {
        (app.db.count(&recorded).await == 2).then_some(())
    })
    .await;
    app.stop().await;
}
