//! Work that is given up and services that are stopped, in the middle of something.

use std::time::Duration;

use ai_cache::app::AppSettings;
use ai_cache::domain::caller::Role;
use ai_cache::store::StoreSettings;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::api::raw::request;
use crate::support::{TestApp, TestDb, wait_until};

/// Connections that are in a transaction, at work or not, but for the one that counts.
const STUCK: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()";

async fn aborted(db: &TestDb) -> i64 {
    db.count("SELECT count(*) FROM ai_cache_audit_logs WHERE outcome = 'aborted'").await
}

/// Work that the database is too slow for is given up: no connection stays in a transaction, no
/// change is made behind the reply, and each has its record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_given_up_leaves_no_open_transaction_and_changes_nothing() {
    let hurried = |settings: &mut AppSettings| {
        settings.store = StoreSettings { pool_size: 2, limit: Duration::from_millis(300) };
    };
    let app = TestApp::builder().settings(hurried).start().await;
    let tenant = app.tenant("acme").await;
    let caller = app.client.with_token(&app.token(tenant.id, &[Role::App]).await);
    let entry = caller.ask("a question").await.expect(200).body["entryId"].clone();
    let tokens = tenant.admin.get("/api/ai-cache/tokens").await.expect(200);
    let token = tokens.body["tokens"][0]["id"].as_str().unwrap();
    let revoke = format!("/api/ai-cache/tokens/{token}");
    let remove = format!("/api/ai-cache/entries/{}", entry.as_str().unwrap());
    let mut blocker = app.db.superuser().await;
    let lock = blocker.transaction().await.unwrap();
    lock.execute("SELECT FROM invalidation_state FOR UPDATE", &[]).await.unwrap();
    for round in 0..3 {
        tenant.admin.send("DELETE", &revoke).await.expect(503);
        tenant.admin.send("DELETE", &remove).await.expect(503);
        let unstored = caller.ask(&format!("new question {round}")).await.expect(200);
        assert_eq!(unstored.header("cache-status"), Some("ai-cache; fwd=miss"));
    }
    lock.rollback().await.unwrap();
    wait_until("nobody waits and no transaction is left open", || async {
        (app.db.count(STUCK).await == 0).then_some(())
    })
    .await;
    let kept = caller.ask("a question").await.expect(200);
    assert_eq!((&kept.body["cached"], &kept.body["entryId"]), (&json!(true), &entry));
    assert_eq!(app.db.count("SELECT count(*) FROM ai_cache_entries").await, 1);
    let records =
        "SELECT count(*) FROM ai_cache_audit_logs WHERE status = 503 AND outcome = 'error'";
    let changes = "SELECT count(*) FROM ai_cache_audit_logs
                   WHERE action IN ('token-revoke', 'entry-delete') AND outcome = 'done'";
    let (records, changes) = (app.db.count(records).await, app.db.count(changes).await);
    println!("6 changes given up, {records} records of it, {changes} made");
    assert_eq!((records, changes), (6, 0));
    tenant.admin.send("DELETE", &revoke).await.expect(204);
    tenant.admin.send("DELETE", &remove).await.expect(204);
    app.stop().await;
}

/// A stop that does not wait for a request any longer still waits for its record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_cut_off_by_the_stop_is_recorded() {
    let soon = |settings: &mut AppSettings| settings.grace = Duration::from_secs(1);
    let app = TestApp::builder().settings(soon).start().await;
    let tenant = app.tenant("acme").await;
    let token = app.token(tenant.id, &[Role::App]).await;
    app.client.with_token(&token).ask("a question").await.expect(200);
    let auth = format!("Authorization: Bearer {token}");
    let headers = [auth.as_str(), "Content-Type: application/json", "Content-Length: 100"];
    let head = request("POST /api/ai-cache/query", &headers, b"{\"query\":");
    let address = app.base().strip_prefix("http://").unwrap().to_owned();
    let mut callers = Vec::new();
    for _ in 0..3 {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        socket.write_all(&head).await.unwrap();
        callers.push(socket);
    }
    // They are being served once a later request was.
    tenant.app.ask("another question").await.expect(200);
    let db = app.db.clone();
    app.stop().await;
    println!("{} cut off, {} records of it", callers.len(), aborted(&db).await);
    assert_eq!(aborted(&db).await, 3);
}
