//! `/api/ai-cache/tokens`: an admin's own tenant's tokens, under the granting rules (api.md).

use std::sync::Arc;

use ai_cache::domain::caller::Role;
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::{TestApp, TestClock};

const TOKENS: &str = "/api/ai-cache/tokens";

/// api.md "Authentication": made, used, listed without its secret, revoked, refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_shown_once_works_and_stops_working_when_it_is_revoked() {
    let app = TestApp::builder().full_hash_cost().start().await;
    let tenant = app.tenant("acme").await;
    let made = tenant.admin.post(TOKENS, &json!({ "roles": ["app"] })).await.expect(201);
    let (id, text) = (made.body["id"].as_str().unwrap(), made.body["token"].as_str().unwrap());
    assert_eq!(made.body["roles"], json!(["app"]));
    assert_eq!(made.body["expiresAt"], Value::Null);
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let location = format!("{TOKENS}/{id}");
    assert_eq!(made.header("location"), Some(location.as_str()));
    let caller = app.client.with_token(text);
    caller.ask("a question").await.expect(200);
    caller.get(TOKENS).await.expect(403);

    let listed = tenant.admin.get(TOKENS).await.expect(200);
    let tokens = listed.body["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 4);
    let row = tokens.iter().find(|token| token["id"] == id).unwrap();
    assert_eq!((&row["roles"], &row["revokedAt"]), (&json!(["app"]), &Value::Null));
    assert!(!listed.text.contains(text) && !listed.text.contains("argon2"), "{}", listed.text);

    for _ in 0..2 {
        tenant.admin.send("DELETE", &location).await.expect(204);
        caller.ask("a question").await.expect(401);
    }
    let listed = tenant.admin.get(TOKENS).await.expect(200);
    let tokens = listed.body["tokens"].as_array().unwrap();
    let row = tokens.iter().find(|token| token["id"] == id).unwrap();
    assert!(row["revokedAt"].is_string(), "{row}");
    app.stop().await;
}

/// api.md "Authentication": a token that expires stops working then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_stops_working_when_it_expires() {
    let clock = Arc::new(TestClock::default());
    let app = TestApp::builder().full_hash_cost().clock(Arc::clone(&clock) as _).start().await;
    let tenant = app.tenant("acme").await;
    let asking = json!({ "roles": ["app"], "expiresInSeconds": 30 });
    let made = tenant.admin.post(TOKENS, &asking).await.expect(201);
    assert!(made.body["expiresAt"].is_string());
    let caller = app.client.with_token(made.body["token"].as_str().unwrap());
    caller.ask("a question").await.expect(200);
    clock.advance(TimeDelta::seconds(31));
    caller.ask("a question").await.expect(401);
    app.stop().await;
}

/// api.md "Authentication": `admin` grants `app` and `admin` only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_grants_app_and_admin_only() {
    let app = TestApp::builder().full_hash_cost().start().await;
    let tenant = app.tenant("acme").await;
    for roles in [json!(["app"]), json!(["admin"]), json!(["app", "admin", "app"])] {
        tenant.admin.post(TOKENS, &json!({ "roles": roles })).await.expect(201);
    }
    for roles in [json!(["compliance"]), json!(["operator"]), json!(["app", "compliance"])] {
        let reply = tenant.admin.post(TOKENS, &json!({ "roles": roles })).await.expect(403);
        assert_eq!(reply.problem(), "forbidden");
    }
    let held = app.db.count("SELECT count(*) FROM api_tokens WHERE 'operator' = ANY (roles)").await;
    assert_eq!(held, 0);
    app.stop().await;
}

/// Issue 2 "Bad input", for tokens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_asked_for_wrongly_is_not_made() {
    let app = TestApp::builder().full_hash_cost().start().await;
    let tenant = app.tenant("acme").await;
    for (body, pointer) in [
        (json!({}), "/roles"),
        (json!({ "roles": [] }), "/roles"),
        (json!({ "roles": "app" }), "/roles"),
        (json!({ "roles": ["root"] }), "/roles"),
        (json!({ "roles": ["App"] }), "/roles"),
        (json!({ "roles": [1] }), "/roles/0"),
        (json!({ "roles": ["app"], "expiresInSeconds": 0 }), "/expiresInSeconds"),
        (json!({ "roles": ["app"], "expiresInSeconds": -1 }), "/expiresInSeconds"),
        (json!({ "roles": ["app"], "expiresInSeconds": 315_360_001 }), "/expiresInSeconds"),
        (json!({ "roles": ["app"], "expiresInSeconds": u64::MAX }), "/expiresInSeconds"),
        (json!({ "roles": ["app"], "expiresAt": "2030-01-01" }), "/expiresAt"),
        (json!({ "roles": ["app"], "tenant": "globex" }), "/tenant"),
    ] {
        let reply = tenant.admin.post(TOKENS, &body).await.expect(422);
        assert!(reply.pointers().contains(&pointer), "{body}: {}", reply.text);
    }
    let made = app
        .db
        .count(
            "SELECT count(*) FROM ai_cache_audit_logs
        WHERE action = 'token-create' AND outcome = 'done' AND actor_kind = 'token'",
        )
        .await;
    assert_eq!(made, 0);
    app.stop().await;
}

/// W10: another tenant's token is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_token_cannot_be_seen_or_revoked() {
    let app = TestApp::builder().full_hash_cost().start().await;
    let (one, other) = (app.tenant("acme").await, app.tenant("globex").await);
    let made = one.admin.post(TOKENS, &json!({ "roles": ["app"] })).await.expect(201);
    let id = made.body["id"].as_str().unwrap();
    let listed = other.admin.get(TOKENS).await.expect(200);
    assert!(!listed.text.contains(id), "{}", listed.text);
    other.admin.send("DELETE", &format!("{TOKENS}/{id}")).await.expect(404);
    app.client.with_token(made.body["token"].as_str().unwrap()).ask("q").await.expect(200);
    app.stop().await;
}

/// architecture.md §5: who asks after the revocation was answered does not get in by joining the
/// verification of somebody who asked before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verification_under_way_does_not_outlive_its_tokens_revocation() {
    let app = TestApp::builder().full_hash_cost().start().await;
    let tenant = app.tenant("acme").await;
    tenant.admin.get(TOKENS).await.expect(200);
    let made = tenant.admin.post(TOKENS, &json!({ "roles": ["app"] })).await.expect(201);
    let location = format!("{TOKENS}/{}", made.body["id"].as_str().unwrap());
    let caller = app.client.with_token(made.body["token"].as_str().unwrap());
    // Hashing takes its turns: those of the others come before the caller's.
    let others = (0..8).map(|_| app.token(tenant.id, &[Role::App]));
    let others = futures_util::future::join_all(others).await;
    let others: Vec<_> = others.iter().map(|token| app.client.with_token(token)).collect();
    let others = futures_util::future::join_all(others.iter().map(|other| other.ask("one")));
    let late = async {
        tenant.admin.get(TOKENS).await.expect(200);
        tenant.admin.send("DELETE", &location).await.expect(204);
        caller.ask("three").await
    };
    let (others, _early, late) = tokio::join!(others, caller.ask("two"), late);
    assert!(others.iter().all(|reply| reply.status == 200));
    assert_eq!(late.status, 401);
    caller.ask("four").await.expect(401);
    app.stop().await;
}
