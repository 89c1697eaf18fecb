//! The trail as a stream: whole, of any length, checkable line by line, and recorded at both ends.

use std::collections::BTreeSet;

use ai_cache::administration::TenantSlug;
use ai_cache::crypto::{KeyProvider, sha256};
use ai_cache::domain::audit_row::AuditRow;
use ai_cache::domain::caller::Role;
use ai_cache::domain::clock::{Clock, SystemClock};
use ai_cache::domain::ids::TokenId;
use ai_cache::domain::token::BearerToken;
use ai_cache::store::tenants::TenantChange;
use chrono::TimeDelta;
use reqwest::Response;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::app::MASTER_KEYS;
use crate::support::{Tenant, TestApp, TestDb, rounds, wait_until};

use super::trail::{AUDIT, read, time};
use super::trail_pages::{add_rows, stored};

fn lines(text: &str) -> Vec<AuditRow> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Outcome and count of the only end record.
async fn end(db: &TestDb) -> Option<(String, i64)> {
    let query = "SELECT outcome, item_count FROM ai_cache_audit_logs
                 WHERE action = 'audit-export-end'";
    let rows = db.superuser().await.query(query, &[]).await.unwrap();
    assert!(rows.len() <= 1, "an export ends once");
    rows.first().map(|row| (row.get(0), row.get(1)))
}

/// Begins an export and gives its reply, of which nothing but the head is read.
async fn begin(app: &TestApp, token: &str) -> Response {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let asked = http.get(format!("{}{AUDIT}/export", app.base())).bearer_auth(token);
    let reply = asked.send().await.unwrap();
    assert_eq!(reply.status(), 200);
    reply
}

/// Reads on. Returns the rest, and whether the body ends before its end.
async fn read_on(reply: &mut Response) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    loop {
        match reply.chunk().await {
            Ok(Some(chunk)) => bytes.extend(chunk),
            Ok(None) => return (bytes, false),
            Err(_) => return (bytes, true),
        }
    }
}

/// Issue 3: 4,000 records, 20,000 in `make chaos`, and those of the way are streamed, each once, oldest first, while more
/// are made; a record tells of the beginning before the first byte, another of the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_records_are_exported_once_each() {
    let each_day = i64::try_from(rounds(200, 1_000)).unwrap();
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let now = SystemClock.now();
    for days in 0..20 {
        add_rows(&app.db, tenant.id, now - TimeDelta::days(days), each_day).await;
    }
    let before: Vec<Uuid> = stored(&app.db, tenant.id).await.into_iter().rev().collect();
    assert!(before.len() > rounds(4_000, 20_000));
    let asks = async {
        for number in 0..50 {
            tenant.app.ask(&format!("meanwhile {number}")).await.expect(200);
        }
    };
    let path = format!("{AUDIT}/export");
    let (reply, ()) = tokio::join!(tenant.compliance.get(&path), asks);
    let reply = reply.expect(200);
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert!(reply.text.ends_with('\n'));
    let rows = lines(&reply.text);
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id.0).collect();
    assert!(ids.is_sorted(), "oldest first");
    let all: BTreeSet<Uuid> = ids.iter().copied().collect();
    assert_eq!(all.len(), ids.len(), "none twice");
    let missing = before.iter().filter(|id| !all.contains(id)).count();
    println!("{} lines for {} records before, {missing} missing", ids.len(), before.len());
    assert_eq!(missing, 0);
    let own = Uuid::parse_str(reply.header("x-audit-id").unwrap()).unwrap();
    let begun = rows.iter().find(|row| row.id.0 == own).expect("its own beginning is in it");
    assert_eq!((begun.action.as_str(), begun.outcome.as_str()), ("audit-export", "done"));
    assert_eq!((begun.status, begun.count), (200, -1));
    let ended = end(&app.db).await.expect("recorded before the last byte");
    assert_eq!(ended, ("done".to_owned(), i64::try_from(rows.len()).unwrap()));
    let order = "SELECT count(*) FROM ai_cache_audit_logs b JOIN ai_cache_audit_logs e
                     USING (request_id)
                 WHERE b.action = 'audit-export' AND e.action = 'audit-export-end'
                   AND e.occurred_at > b.occurred_at AND e.duration_us > b.duration_us";
    assert_eq!(app.db.count(order).await, 1);
    app.stop().await;
}

/// W10: what the first byte needs is the record of the beginning, durable by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_the_client_gives_up_is_recorded_as_aborted() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    add_rows(&app.db, tenant.id, SystemClock.now() - TimeDelta::hours(1), 40_000).await;
    let token = app.token(tenant.id, &[Role::Compliance]).await;
    let mut reply = begin(&app, &token).await;
    let own = reply.headers()["x-audit-id"].to_str().unwrap().to_owned();
    let begun = format!("SELECT count(*) FROM ai_cache_audit_logs WHERE id = '{own}'");
    assert_eq!(app.db.count(&begun).await, 1);
    assert_eq!(end(&app.db).await, None);
    assert!(!reply.chunk().await.unwrap().unwrap().is_empty());
    drop(reply);
    let (outcome, count) = wait_until("its end is recorded", async || end(&app.db).await).await;
    println!("aborted after {count} of 40,000");
    assert_eq!(outcome, "aborted");
    assert!((1..40_000).contains(&count), "{count}");
    app.stop().await;
}

/// A failure on the way is not the end of the trail: the stream is cut, and the end says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_fails_is_cut_short_and_recorded_as_an_error() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    add_rows(&app.db, tenant.id, SystemClock.now() - TimeDelta::hours(1), 60_000).await;
    let token = app.token(tenant.id, &[Role::Compliance]).await;
    let admin = app.db.superuser().await;
    let mut reply = begin(&app, &token).await;
    let mut bytes = reply.chunk().await.unwrap().unwrap().len();
    let revoke =
        format!("REVOKE SELECT ON ai_cache_audit_logs FROM {}", ai_cache::embedded::APP_ROLE);
    admin.batch_execute(&revoke).await.unwrap();
    let (read, cut) = read_on(&mut reply).await;
    bytes += read.len();
    let (outcome, count) = wait_until("its end is recorded", async || end(&app.db).await).await;
    println!("cut after {bytes} bytes, {count} of 60,000 records");
    assert!(cut, "the client can tell");
    assert_eq!(outcome, "error");
    assert!((1..60_000).contains(&count), "{count}");
    let path = format!("{AUDIT}?limit=1");
    tenant.compliance.get(&path).await.expect(500);
    app.stop().await;
}

/// A withdrawal of the right to read ends an export that is under way. Returns the records that
/// came, and those that were handed over.
async fn cut_by(withdraw: impl AsyncFnOnce(&TestApp, &Tenant, TokenId)) -> (i64, i64) {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    add_rows(&app.db, tenant.id, SystemClock.now() - TimeDelta::hours(1), 60_000).await;
    let token = app.token(tenant.id, &[Role::Compliance]).await;
    let mut reply = begin(&app, &token).await;
    let mut bytes = reply.chunk().await.unwrap().unwrap().to_vec();
    withdraw(&app, &tenant, BearerToken::parse(&token).unwrap().id).await;
    let (read, cut) = read_on(&mut reply).await;
    bytes.extend(read);
    let rows = i64::try_from(bytes.split(|byte| *byte == b'\n').count() - 1).unwrap();
    let (outcome, count) = wait_until("its end is recorded", async || end(&app.db).await).await;
    assert!(cut, "the client can tell");
    assert_eq!(outcome, "denied");
    assert!((1..60_000).contains(&rows), "{rows}");
    assert!((rows..60_000).contains(&count), "{count}");
    app.stop().await;
    (rows, count)
}

/// A token that is revoked gets no further page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_cut_short_when_its_token_is_revoked() {
    let (rows, count) = cut_by(async |_, tenant, token| {
        let path = format!("/api/ai-cache/tokens/{token}");
        tenant.admin.send("DELETE", &path).await.expect(204);
    })
    .await;
    println!("cut after {rows} of 60,000 records, {count} handed over");
}

/// The tokens of a disabled tenant read no further either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_cut_short_when_its_tenant_is_disabled() {
    let (rows, count) = cut_by(async |app, _, _| {
        let (rooms, slug) = (app.rooms(), TenantSlug::parse("acme").unwrap());
        let record = rooms.calls.command_line_record();
        let change = TenantChange { active: Some(false), ..TenantChange::default() };
        rooms.administration.update_tenant(&slug, change, record).await.unwrap();
    })
    .await;
    println!("cut after {rows} of 60,000 records, {count} handed over");
}

/// A replica that may have missed the revocation asks Postgres instead of believing what it heard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_cut_short_by_a_revocation_that_its_replica_could_not_hear_of() {
    let (rows, count) = cut_by(async |app, _, token| {
        let superuser = app.db.superuser().await;
        let deafen = format!(
            "REVOKE ALL ON replicas, invalidations, stream_tail FROM ai_cache_system, {}",
            ai_cache::embedded::APP_ROLE
        );
        superuser.batch_execute(&deafen).await.unwrap();
        wait_until("nothing is proven any more", || async {
            (!app.rooms().coherence().is_proven()).then_some(())
        })
        .await;
        let revoke = format!("UPDATE api_tokens SET revoked_at = now() WHERE token_id = '{token}'");
        assert_eq!(superuser.execute(&revoke, &[]).await.unwrap(), 1);
    })
    .await;
    println!("cut after {rows} of 60,000 records, {count} handed over");
}

/// Issue 3: a line holds every column that a check needs: its hash is recomputed from it alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_is_enough_to_check_its_record() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let mine = json!({ "query": "mine", "subjectId": "couple-4711", "operation": "chat" });
    for _ in 0..2 {
        tenant.app.query(&mine).await.expect(200);
        tenant.app.ask("anybody's").await.expect(200);
    }
    tenant.admin.get("/api/ai-cache/entries").await.expect(200);
    tenant.app.ask("").await.expect(422);
    let reply = tenant.compliance.get(&format!("{AUDIT}/export")).await.expect(200);
    let mac = KeyProvider::from_text(MASTER_KEYS).unwrap().audit_mac_key();
    let mut checked = 0;
    for row in lines(&reply.text) {
        let hash = sha256(&row.record().unwrap().canonical(row.ledger_id, row.place()));
        assert_eq!(
            (row.row_hash.as_slice(), row.row_mac.as_slice()),
            (&hash[..], &mac.mac(&hash)[..])
        );
        assert!(row.tx_id > 0);
        checked += 1;
    }
    println!("{checked} lines hash to their rowHash and rowMac");
    assert!(checked >= 12, "{checked}");
    let first: Value = serde_json::from_str(reply.text.lines().next().unwrap()).unwrap();
    let at = first["occurredAt"].as_str().unwrap();
    assert_eq!((at.len(), &at[26..]), (27, "Z"), "{at}");
    assert!(first["costPicousd"].is_string());
    let mut altered: AuditRow = serde_json::from_value(first).unwrap();
    altered.status += 1;
    let hash = sha256(&altered.record().unwrap().canonical(altered.ledger_id, altered.place()));
    assert_ne!(altered.row_hash, hash);
    app.stop().await;
}

/// api.md: the same filters as the pages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_takes_the_filters_of_the_pages() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let mine = json!({ "query": "mine", "subjectId": "couple-4711" });
    let asked = tenant.app.query(&mine).await.expect(200);
    tenant.app.ask("anybody's").await.expect(200);
    let until = time(SystemClock.now());
    let entry = asked.body["entryId"].as_str().unwrap();
    let request = asked.header("x-request-id").unwrap();
    for filter in [
        "action=query".to_owned(),
        "actor=command-line".to_owned(),
        "subjectId=couple-4711".to_owned(),
        format!("entryId={entry}"),
        format!("requestId={request}"),
        format!("from={until}"),
        format!("action=fill&entryId={entry}"),
    ] {
        let filter = format!("{filter}&to={until}");
        let mut page = read(&tenant.compliance, &filter).await;
        page.reverse();
        let reply = tenant.compliance.get(&format!("{AUDIT}/export?{filter}")).await.expect(200);
        assert_eq!(lines(&reply.text), page, "{filter}");
        assert_eq!(page.is_empty(), filter.contains("from"), "{filter}");
    }
    let ends = "SELECT count(*) FROM ai_cache_audit_logs WHERE action = 'audit-export-end'
                AND outcome = 'done'";
    assert_eq!(app.db.count(ends).await, 7);
    app.stop().await;
}
