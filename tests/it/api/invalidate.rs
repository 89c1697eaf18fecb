//! `POST /api/ai-cache/invalidate` (api.md "Filling, reading, listing entries").

use std::sync::Arc;
use std::time::Duration;

use ai_cache::domain::caller::Role;
use ai_cache::store::StoreSettings;
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::{Client, TestApp, TestClock};

async fn invalidate(caller: &Client, body: &Value) -> u64 {
    let reply = caller.post("/api/ai-cache/invalidate", body).await.expect(200);
    assert_eq!(reply.body["success"], true);
    reply.body["invalidatedCount"].as_u64().unwrap()
}

/// api.md: everything of the tenant, counted; only unexpired entries of the old generation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_of_a_tenant_is_gone_at_once_and_counted() {
    let clock = Arc::new(TestClock::default());
    let app = TestApp::builder().clock(Arc::clone(&clock) as _).start().await;
    let tenant = app.tenant("acme").await;
    let short = json!({ "query": "short", "cache": { "ttlSeconds": 10 } });
    tenant.app.query(&short).await.expect(200);
    clock.advance(TimeDelta::seconds(11));
    for question in ["one", "two", "three"] {
        let asking = json!({ "query": question, "subjectId": question });
        tenant.app.query(&asking).await.expect(200);
    }
    let all = json!({ "invalidateAll": true });
    assert_eq!(
        invalidate(&tenant.admin, &json!({ "invalidateAll": true, "dryRun": true })).await,
        3
    );
    assert_eq!(invalidate(&tenant.admin, &all).await, 3);
    assert_eq!(invalidate(&tenant.admin, &all).await, 0);
    let list = tenant.admin.get("/api/ai-cache/entries").await.expect(200);
    assert_eq!(list.body["entries"], json!([]));
    for question in ["one", "two", "three"] {
        let asking = json!({ "query": question, "subjectId": question });
        let polite = tenant.app.with_header("cache-control", "only-if-cached");
        assert_eq!(polite.query(&asking).await.expect(504).problem(), "not-cached");
        assert_eq!(tenant.app.query(&asking).await.expect(200).body["cached"], false);
        assert_eq!(tenant.app.query(&asking).await.expect(200).body["cached"], true);
    }
    assert_eq!(invalidate(&tenant.admin, &all).await, 3);
    app.stop().await;
}

/// api.md: one entry; the others stay. `dryRun` only counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_entry_is_removed_by_its_id_and_a_dry_run_removes_nothing() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let one = tenant.app.ask("one").await.expect(200);
    tenant.app.ask("two").await.expect(200);
    let id = &one.body["entryId"];
    let dry = json!({ "entryId": id, "dryRun": true });
    assert_eq!(invalidate(&tenant.admin, &dry).await, 1);
    assert_eq!(tenant.app.ask("one").await.expect(200).body["cached"], true);
    let real = json!({ "entryId": id, "dryRun": false });
    assert_eq!(invalidate(&tenant.admin, &real).await, 1);
    assert_eq!(invalidate(&tenant.admin, &real).await, 0);
    assert_eq!(invalidate(&tenant.admin, &dry).await, 0);
    assert_eq!(tenant.app.ask("two").await.expect(200).body["cached"], true);
    assert_eq!(tenant.app.ask("one").await.expect(200).body["cached"], false);
    app.stop().await;
}

/// Issue 2 "Bad input": exactly one selector, of the right type, and what comes later is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_say_what_to_remove_removes_nothing() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let stored = tenant.app.ask("a question").await.expect(200);
    let id = &stored.body["entryId"];
    let bad = [
        (json!({}), ""),
        (json!({ "dryRun": true }), ""),
        (json!({ "invalidateAll": true, "entryId": id }), ""),
        (json!({ "invalidateAll": null, "entryId": null }), ""),
        (json!({ "invalidateAll": false }), "/invalidateAll"),
        (json!({ "invalidateAll": "true" }), "/invalidateAll"),
        (json!({ "invalidateAll": 1 }), "/invalidateAll"),
        (json!({ "entryId": "x" }), "/entryId"),
        (json!({ "entryId": 1 }), "/entryId"),
        (json!({ "entryId": [id] }), "/entryId"),
        (json!({ "invalidateAll": true, "dryRun": "yes" }), "/dryRun"),
        (json!({ "invalidateAll": true, "dryrun": true }), "/dryrun"),
        (json!({ "invalidateAll": true, "tag": "nyc" }), ""),
        (json!({ "operation": "chat", "location": "Boston" }), ""),
        (json!({ "vendorType": "dj", "subjectId": "couple-4711", "dryRun": true }), ""),
        (json!({ "operation": "nonsense" }), "/operation"),
        (json!({ "operation": 1 }), "/operation"),
        (json!({ "tag": "" }), "/tag"),
        (json!({ "tag": "x".repeat(65) }), "/tag"),
        (json!({ "location": "" }), "/location"),
        (json!({ "location": "x".repeat(257) }), "/location"),
        (json!({ "location": ["Boston"] }), "/location"),
        (json!({ "vendorType": " " }), "/vendorType"),
        (json!({ "vendorType": "x".repeat(65) }), "/vendorType"),
        (json!({ "subjectId": " " }), "/subjectId"),
        (json!({ "subjectId": 4711 }), "/subjectId"),
        (json!({ "namespace": "n" }), "/namespace"),
    ];
    for (body, pointer) in bad {
        let reply = tenant.admin.post("/api/ai-cache/invalidate", &body).await;
        assert_eq!((reply.status, reply.pointers()), (422, vec![pointer]), "{body}");
    }
    assert_eq!(tenant.app.ask("a question").await.expect(200).body["cached"], true);
    app.stop().await;
}

/// architecture.md §5: an answer that was on its way is handed out but not kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_under_way_is_not_stored_after_an_invalidation() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    app.upstream.hold();
    let (reply, ()) = tokio::join!(tenant.app.ask("a question"), async {
        app.upstream.wait_for_calls(1).await;
        assert_eq!(invalidate(&tenant.admin, &json!({ "invalidateAll": true })).await, 0);
        app.upstream.release();
    });
    let reply = reply.expect(200);
    assert_eq!(reply.header("cache-status"), Some("ai-cache; fwd=miss"));
    assert_eq!(reply.body["entryId"], Value::Null);
    assert_eq!(tenant.app.ask("a question").await.expect(200).body["cached"], false);
    assert_eq!(tenant.app.ask("a question").await.expect(200).body["cached"], true);
    app.stop().await;
}

/// Issue 2 item 7: the trail tells of the change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_says_who_removed_how_many() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    tenant.app.ask("one").await.expect(200);
    tenant.app.ask("two").await.expect(200);
    invalidate(&tenant.admin, &json!({ "invalidateAll": true })).await;
    let change = "SELECT count(*) FROM ai_cache_audit_logs WHERE action = 'invalidate'
         AND outcome = 'done' AND item_count = 2 AND actor_roles = 'admin'";
    assert_eq!(app.db.count(change).await, 1);
    app.stop().await;
}

/// architecture.md §5: whoever still holds an entry whose row was replaced meanwhile serves it no
/// more once it was invalidated, though there is no row to remove.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_whose_row_was_replaced_can_still_be_invalidated() {
    let writes = TestApp::start().await;
    let holds = TestApp::builder().db(&writes.db).start().await;
    let tenant = writes.tenant("acme").await;
    let reader = holds.client.with_token(&writes.token(tenant.id, &[Role::App]).await);
    let admin = holds.client.with_token(&writes.token(tenant.id, &[Role::Admin]).await);

    let old = tenant.app.ask("a question").await.expect(200);
    reader.ask("a question").await.expect(200);
    let anew = json!({ "query": "a question", "cache": { "mode": "refresh" } });
    let new = tenant.app.query(&anew).await.expect(200);
    let held = reader.ask("a question").await.expect(200);
    assert_eq!(held.body["entryId"], old.body["entryId"], "memory holds what was replaced");

    let gone = json!({ "entryId": old.body["entryId"] });
    assert_eq!(invalidate(&admin, &gone).await, 0);
    let after = reader.ask("a question").await.expect(200);
    assert_eq!(after.body["entryId"], new.body["entryId"]);
    assert_eq!((&after.body["cached"], &after.body["cacheSource"]), (&json!(true), &json!("cold")));
    holds.stop().await;
    writes.stop().await;
}

/// Changes of one tenant that meet at its row take their locks in one order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalidations_and_revocations_at_once_do_not_deadlock() {
    // Sixty wait for one another's locks: a busy machine takes its time, a deadlock ends one at once.
    let patient = StoreSettings { pool_size: 16, limit: Duration::from_secs(20) };
    let app = TestApp::builder().settings(|settings| settings.store = patient).start().await;
    let tenant = app.tenant("acme").await;
    let operator = app.operator().await;
    let mut tokens = Vec::new();
    for _ in 0..20 {
        let made = tenant.admin.post("/api/ai-cache/tokens", &json!({ "roles": ["app"] })).await;
        tokens.push(made.expect(201).body["id"].as_str().unwrap().to_owned());
    }
    let all = json!({ "invalidateAll": true });
    let path = "/api/ai-cache/admin/tenants/acme";
    let rounds = tokens.iter().map(|token| {
        let (tenant, operator, all) = (&tenant, &operator, &all);
        async move {
            let revoke = format!("/api/ai-cache/tokens/{token}");
            let keep = json!({ "active": true });
            let (invalidated, revoked, renamed) = tokio::join!(
                tenant.admin.post("/api/ai-cache/invalidate", all),
                tenant.admin.send("DELETE", &revoke),
                operator.send_json("PATCH", path, &keep)
            );
            [invalidated.status, revoked.status, renamed.status]
        }
    });
    let statuses = futures_util::future::join_all(rounds).await;
    let failed = statuses.iter().flatten().filter(|status| **status >= 400).count();
    println!("{} changes at once, {failed} failed", statuses.len() * 3);
    assert_eq!(failed, 0);
    app.stop().await;
}
