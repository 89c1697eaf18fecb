//! Art. 18: a restricted person's entries are kept, but neither served nor changed, until that is
//! lifted (issue 5).

use serde_json::{Value, json};

use super::requests::{file, wait_for};
use crate::support::{Client, TestApp};

const INVALIDATE: &str = "/api/ai-cache/invalidate";

fn question(subject: &str, mode: &str) -> Value {
    json!({ "query": "what did I ask?", "subjectId": subject, "cache": { "mode": mode } })
}

async fn source(caller: &Client, subject: &str) -> Value {
    caller.query(&question(subject, "default")).await.expect(200).body["cacheSource"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restricted_persons_entries_are_kept_and_not_served_by_any_replica() {
    let app = TestApp::start().await;
    let other = TestApp::builder().db(&app.db).start().await;
    let tenant = app.tenant("acme").await;
    let there = tenant.app.at(&other.base());
    for subject in ["couple-1", "couple-2"] {
        assert_eq!(source(&tenant.app, subject).await, "openai");
        for caller in [&there, &tenant.app] {
            source(caller, subject).await;
            assert_eq!(source(caller, subject).await, "hot");
        }
    }
    let rows = "SELECT count(*) FROM ai_cache_entries WHERE subject_key_id IS NOT NULL";
    let id = file(&tenant.compliance, "restrict", "couple-1").await;
    wait_for(&tenant.compliance, &id, "completed").await;

    let mut refused = 0;
    for caller in [&tenant.app, &there] {
        for mode in ["default", "refresh", "bypass", "only-if-cached"] {
            let reply = caller.query(&question("couple-1", mode)).await.expect(451);
            assert_eq!(reply.problem(), "restricted");
            refused += 1;
        }
        assert_eq!(source(caller, "couple-2").await, "hot");
    }
    let about = json!({ "subjectId": "couple-1" });
    tenant.admin.post(INVALIDATE, &about).await.expect(451);
    let kept = app.db.count(rows).await;
    let told = "SELECT count(*) FROM ai_cache_audit_logs
                WHERE action = 'query' AND outcome = 'restricted' AND subject_key_id IS NOT NULL";
    let recorded = app.db.count(told).await;
    println!("{refused} refused, {recorded} recorded as that; {kept} entries kept");
    assert_eq!((refused, recorded, kept), (8, 8, 2));

    let id = file(&tenant.compliance, "lift-restriction", "couple-1").await;
    wait_for(&tenant.compliance, &id, "completed").await;
    assert_eq!(source(&there, "couple-1").await, "cold", "what was kept is there again");
    assert_eq!(source(&tenant.app, "couple-1").await, "cold");
    other.stop().await;
    app.stop().await;
}

/// A person who was never named can be restricted all the same. Lifting a restriction that does not
/// exist does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_never_named_before_can_be_restricted() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let id = file(&tenant.compliance, "lift-restriction", "couple-1").await;
    wait_for(&tenant.compliance, &id, "completed").await;
    assert_eq!(app.db.count("SELECT count(*) FROM subject_keys").await, 0);
    let id = file(&tenant.compliance, "restrict", "couple-1").await;
    wait_for(&tenant.compliance, &id, "completed").await;
    tenant.app.query(&question("couple-1", "default")).await.expect(451);
    assert_eq!(app.upstream.calls(), 0);
    app.stop().await;
}
