//! Downloads of packages: each recorded at both ends, none after its time, none of another tenant,
//! and nothing that is damaged given out as whole (G3).

use std::sync::Arc;

use ai_cache::domain::caller::Role;
use ai_cache::domain::token::BearerToken;
use chrono::TimeDelta;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Reply, TestApp, TestClock, TestDb, wait_until};

use super::exports::{Package, REQUESTS, ask_for_noise, completed, download, file, in_small_parts};

const RANDOM: &str = "01890000-0000-7000-8000-000000000000";

/// Outcome and count of every end record, oldest first.
async fn ends(db: &TestDb) -> Vec<(String, i64)> {
    let query = "SELECT outcome, item_count FROM ai_cache_audit_logs
                 WHERE action = 'gdpr-download-end' ORDER BY id";
    let rows = db.superuser().await.query(query, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// A problem without what is each reply's own.
fn words(reply: &Reply) -> Value {
    let mut body = reply.body.clone();
    body["instance"] = Value::Null;
    body["requestId"] = Value::Null;
    body
}

/// Packages that a purge removes.
async fn purged(app: &TestApp) -> u64 {
    let confirmed = json!({ "confirm": true });
    let report = app.operator().await.post("/api/ai-cache/admin/purge", &confirmed).await;
    report.expect(200).body["exports"].as_u64().unwrap()
}

/// Issue 5: downloads until it expires, each in the trail; then 410, also once it is removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_is_downloaded_until_it_expires_and_each_download_is_recorded() {
    let clock = Arc::<TestClock>::default();
    let app = TestApp::builder().clock(clock.clone()).start().await;
    let acme = app.tenant("acme").await;
    acme.app.query(&json!({ "query": "mine", "subjectId": "anna" })).await.expect(200);
    let id = file(&acme.compliance, "anna").await;
    let shown = completed(&acme.compliance, &id).await;
    assert!(shown["expiresAt"].is_string());
    let token = app.token(acme.id, &[Role::Compliance]).await;
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let downloaded = download(&app, &token, &id).await;
        assert_eq!((downloaded.status, downloaded.cut), (200, false));
        let header = |name: &str| downloaded.headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "application/zip");
        assert_eq!(header("cache-control"), "no-store");
        let name = format!("attachment; filename=\"export-{id}.zip\"");
        assert_eq!(header("content-disposition"), name);
        let begun = format!(
            "SELECT count(*) FROM ai_cache_audit_logs WHERE id = '{}' AND outcome = 'done'
             AND action = 'gdpr-download' AND object_id = '{id}' AND subject_key_id IS NOT NULL",
            header("x-audit-id")
        );
        assert_eq!(app.db.count(&begun).await, 1, "recorded before the first byte");
        assert_eq!(Package::read(&downloaded.bytes).manifest["counts"]["entries"], 1);
        sizes.push(("done".to_owned(), i64::try_from(downloaded.bytes.len()).unwrap()));
    }
    println!("downloads in the trail: {:?}", ends(&app.db).await);
    assert_eq!(ends(&app.db).await, sizes);
    let path = format!("{REQUESTS}/{id}/export");
    assert_eq!(purged(&app).await, 0, "its time is not over");
    clock.advance(TimeDelta::days(7) - TimeDelta::minutes(1));
    assert_eq!(download(&app, &token, &id).await.status, 200);
    clock.advance(TimeDelta::minutes(2));
    let gone = acme.compliance.get(&path).await.expect(410);
    assert_eq!(gone.problem(), "gone");
    assert_eq!(purged(&app).await, 1);
    assert_eq!(app.db.count("SELECT count(*) FROM gdpr_export_parts").await, 0);
    let recorded = "SELECT count(*) FROM ai_cache_audit_logs WHERE action = 'purge'
                    AND outcome = 'done' AND item_count = 1 AND status = 0
                      AND tenant_id IN (SELECT tenant_id FROM ai_cache_gdpr_requests)";
    assert_eq!(app.db.count(recorded).await, 1);
    acme.compliance.get(&path).await.expect(410);
    assert_eq!(purged(&app).await, 0);
    app.stop().await;
}

/// There is nothing to download of another tenant's, of another kind, before the end, and of a
/// person who was erased.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_tenant_of_a_completed_export_gets_it_and_only_while_the_person_is_kept() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    acme.app.query(&json!({ "query": "mine", "subjectId": "anna" })).await.expect(200);
    let id = file(&acme.compliance, "anna").await;
    completed(&acme.compliance, &id).await;
    let path = |id: &str| format!("{REQUESTS}/{id}/export");
    let foreign = other.compliance.get(&path(&id)).await.expect(404);
    let random = other.compliance.get(&path(RANDOM)).await.expect(404);
    assert_eq!(words(&foreign), words(&random));
    let body = json!({ "type": "restrict", "subjectId": "bert", "reason": "contested" });
    let filed = acme.compliance.post(REQUESTS, &body).await.expect(202);
    let kind = acme.compliance.get(&path(filed.body["id"].as_str().unwrap())).await.expect(404);
    assert_eq!(words(&kind), words(&random));
    let sql = app.db.superuser().await;
    sql.batch_execute("UPDATE tenants SET gdpr_approval = true").await.unwrap();
    let waits = file(&acme.compliance, "anna").await;
    let refused = acme.compliance.get(&path(&waits)).await.expect(409);
    assert_eq!(refused.problem(), "conflict");
    let token = app.token(acme.id, &[Role::Compliance]).await;
    assert_eq!(download(&app, &token, &id).await.status, 200);
    // The rows are as an erasure leaves them that has overlooked the parts.
    sql.batch_execute(
        "UPDATE subject_keys SET state = 'destroyed', blind_id = NULL, wrapped = NULL,
                                 destroyed_at = now()
         WHERE subject_key_id IN (SELECT subject_key_id FROM gdpr_export_parts)",
    )
    .await
    .unwrap();
    acme.compliance.get(&path(&id)).await.expect(410);
    let refused = "SELECT count(*) FROM ai_cache_audit_logs WHERE action = 'gdpr-download'
                   AND outcome <> 'done'";
    assert_eq!(app.db.count(refused).await, 5, "each try is in the trail");
    app.stop().await;
}

/// The damages that somebody with the database can do to a package of at least three parts.
const DAMAGES: [(&str, &str); 8] = [
    (
        "a bit",
        "UPDATE gdpr_export_parts SET sealed = set_bit(sealed, 4000, 1 - get_bit(sealed, 4000))
               WHERE request_id = '{}' AND part = 1",
    ),
    (
        "a byte less",
        "UPDATE gdpr_export_parts SET sealed = substring(sealed FROM 1 FOR length(sealed) - 1)
                     WHERE request_id = '{}' AND part = 1",
    ),
    (
        "two swapped",
        "UPDATE gdpr_export_parts p SET sealed = o.sealed FROM gdpr_export_parts o
                     WHERE p.request_id = '{}' AND o.request_id = p.request_id AND p.part < 2
                       AND o.part = 1 - p.part",
    ),
    ("the first removed", "DELETE FROM gdpr_export_parts WHERE request_id = '{}' AND part = 0"),
    ("one removed", "DELETE FROM gdpr_export_parts WHERE request_id = '{}' AND part = 1"),
    (
        "one removed, the rest moved up",
        "DELETE FROM gdpr_export_parts WHERE request_id = '{}' AND part = 1;
      UPDATE gdpr_export_parts SET part = 1 WHERE request_id = '{}' AND part = 2;
      UPDATE gdpr_export_parts SET part = 2 WHERE request_id = '{}' AND part = 3",
    ),
    (
        "the last removed",
        "DELETE FROM gdpr_export_parts WHERE request_id = '{}' AND part = (
                          SELECT max(part) FROM gdpr_export_parts WHERE request_id = '{}')",
    ),
    (
        "one of another package",
        "UPDATE gdpr_export_parts p SET sealed = o.sealed FROM gdpr_export_parts o
                                WHERE p.request_id = '{}' AND o.request_id <> p.request_id
                                  AND o.part = 1 AND p.part = 1",
    ),
];

/// A package that was cut, mixed or shortened is not given out as whole: the stream breaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_package_breaks_the_download() {
    let app = in_small_parts().start().await;
    let acme = app.tenant("acme").await;
    ask_for_noise(&app, &acme, 6, 15_000).await;
    let id = file(&acme.compliance, "anna").await;
    completed(&acme.compliance, &id).await;
    completed(&acme.compliance, &file(&acme.compliance, "anna").await).await;
    let token = app.token(acme.id, &[Role::Compliance]).await;
    let whole = download(&app, &token, &id).await;
    assert_eq!((whole.status, whole.cut), (200, false));
    let sql = app.db.superuser().await;
    sql.batch_execute("CREATE TABLE kept AS SELECT * FROM gdpr_export_parts").await.unwrap();
    let mut broken = 0;
    for (what, damage) in DAMAGES {
        sql.batch_execute(&damage.replace("{}", &id)).await.unwrap();
        let damaged = download(&app, &token, &id).await;
        assert!(damaged.cut, "{what}: {} of {}", damaged.bytes.len(), whole.bytes.len());
        assert!(damaged.bytes.len() < whole.bytes.len(), "{what}");
        assert!(whole.bytes.starts_with(&damaged.bytes), "{what}");
        broken += 1;
        let restore = "DELETE FROM gdpr_export_parts;
                       INSERT INTO gdpr_export_parts SELECT * FROM kept";
        sql.batch_execute(restore).await.unwrap();
    }
    let ended = wait_until("every end is recorded", async || {
        let ended = ends(&app.db).await;
        (ended.len() == broken + 1).then_some(ended)
    });
    let failed = ended.await.into_iter().filter(|(outcome, _)| outcome == "error").count();
    println!("{broken} damages, {failed} downloads broken off");
    assert_eq!(failed, DAMAGES.len());
    assert_eq!(download(&app, &token, &id).await.bytes, whole.bytes, "restored, it is whole");
    app.stop().await;
}

/// The end of a body in chunks (RFC 9112 §7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Begins a download over a socket that holds little back, and reads its first bytes.
async fn begin(app: &TestApp, token: &str, id: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let address = app.base().strip_prefix("http://").unwrap().parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let head = format!(
        "GET {REQUESTS}/{id}/export HTTP/1.1\r\nHost: ai-cache\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 1_024];
    stream.read_exact(&mut first).await.unwrap();
    assert!(first.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&first));
    stream
}

/// A download that the client gives up is recorded as aborted; one whose token is revoked ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_is_cut_short_when_its_token_is_revoked_and_recorded_when_given_up() {
    let app = in_small_parts().start().await;
    let acme = app.tenant("acme").await;
    // More than the two ends of a connection hold back, so that the service is not done early.
    ask_for_noise(&app, &acme, 16, 50_000).await;
    let id = file(&acme.compliance, "anna").await;
    completed(&acme.compliance, &id).await;
    let token = app.token(acme.id, &[Role::Compliance]).await;
    let whole = download(&app, &token, &id).await;
    assert_eq!((whole.status, whole.cut), (200, false));
    let size = i64::try_from(whole.bytes.len()).unwrap();

    drop(begin(&app, &token, &id).await);
    let end = async |count: usize| {
        wait_until("its end is recorded", async || ends(&app.db).await.get(count).cloned()).await
    };
    let (outcome, given) = end(1).await;
    println!("given up: {outcome} after {given} of {size} bytes");
    assert_eq!(outcome, "aborted");
    assert!(given < size);

    let mut begun = begin(&app, &token, &id).await;
    let revoked = BearerToken::parse(&token).unwrap().id;
    let path = format!("/api/ai-cache/tokens/{revoked}");
    acme.admin.send("DELETE", &path).await.expect(204);
    let mut rest = Vec::new();
    let ended = begun.read_to_end(&mut rest).await;
    let (outcome, given) = end(2).await;
    println!("revoked: {outcome} after {given} of {size} bytes");
    assert!(ended.is_err() || !rest.ends_with(LAST_CHUNK), "the client can tell");
    assert_eq!(outcome, "denied");
    assert!(given < size);
    app.stop().await;
}
