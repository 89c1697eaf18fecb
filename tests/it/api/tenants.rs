//! `/api/ai-cache/admin/tenants`: an operator's work, which a tenant's trail shows (api.md).

use serde_json::json;

use crate::support::TestApp;

const TENANTS: &str = "/api/ai-cache/admin/tenants";

/// api.md "Operators": a tenant is made, used through its tokens, closed and opened again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_is_made_closed_and_opened_again() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    let asking = json!({ "slug": "acme", "name": "Acme \u{1f490} Weddings" });
    let made = operator.post(TENANTS, &asking).await.expect(201);
    assert_eq!(made.header("location"), Some("/api/ai-cache/admin/tenants/acme"));
    assert_eq!((&made.body["slug"], &made.body["active"]), (&json!("acme"), &json!(true)));
    assert_eq!(made.body["name"], "Acme \u{1f490} Weddings");
    assert_eq!(operator.post(TENANTS, &asking).await.expect(409).problem(), "conflict");
    let listed = operator.get(TENANTS).await.expect(200);
    let slugs: Vec<&str> = listed.body["tenants"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["slug"].as_str())
        .collect();
    assert_eq!(slugs, ["acme", "installation"]);

    let tokens = format!("{TENANTS}/acme/tokens");
    let admin = operator.post(&tokens, &json!({ "roles": ["admin"] })).await.expect(201);
    let admin = app.client.with_token(admin.body["token"].as_str().unwrap());
    let user = admin.post("/api/ai-cache/tokens", &json!({ "roles": ["app"] })).await.expect(201);
    let user = app.client.with_token(user.body["token"].as_str().unwrap());
    user.ask("a question").await.expect(200);

    let path = format!("{TENANTS}/acme");
    let closed = operator.send_json("PATCH", &path, &json!({ "active": false })).await.expect(200);
    assert_eq!(closed.body["active"], false);
    user.ask("a question").await.expect(401);
    admin.get("/api/ai-cache/tokens").await.expect(401);
    operator.send_json("PATCH", &path, &json!({ "active": true })).await.expect(200);
    assert_eq!(user.ask("a question").await.expect(200).body["cached"], true);
    app.stop().await;
}

/// api.md "Authentication": an operator makes a tenant's admin and compliance tokens only, and that
/// tenant's trail shows them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_grants_admin_and_compliance_in_the_tenants_own_trail() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let operator = app.operator().await;
    let tokens = format!("{TENANTS}/acme/tokens");
    let trail = format!(
        "SELECT count(*) FROM ai_cache_audit_logs WHERE tenant_id = '{}'
         AND actor_roles = 'operator' AND outcome = 'done'",
        tenant.id
    );
    for roles in [json!(["app"]), json!(["operator"]), json!(["admin", "app"])] {
        let reply = operator.post(&tokens, &json!({ "roles": roles })).await.expect(403);
        assert_eq!(reply.problem(), "forbidden", "{roles}");
    }
    assert_eq!(app.db.count(&trail).await, 0);
    let made =
        operator.post(&tokens, &json!({ "roles": ["admin", "compliance"] })).await.expect(201);
    assert_eq!(app.db.count(&trail).await, 1);
    let id = made.body["id"].as_str().unwrap();
    assert!(operator.get(&tokens).await.expect(200).text.contains(id));
    let path = format!("{tokens}/{id}");
    assert_eq!(made.header("location"), Some(path.as_str()));
    operator.send("DELETE", &path).await.expect(204);
    assert_eq!(app.db.count(&trail).await, 2);
    app.client
        .with_token(made.body["token"].as_str().unwrap())
        .get("/api/ai-cache/tokens")
        .await
        .expect(401);
    app.stop().await;
}

/// W10: an operator never gets at what a tenant stored, and a tenant's roles at no tenant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_no_entries_and_tenants_see_no_tenants() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let operator = app.operator().await;
    operator.ask("a question").await.expect(403);
    for path in ["entries", "statistics", "tokens"] {
        operator.get(&format!("/api/ai-cache/{path}")).await.expect(403);
    }
    for caller in [&tenant.app, &tenant.admin, &tenant.compliance] {
        caller.get(TENANTS).await.expect(403);
        caller.get(&format!("{TENANTS}/acme/tokens")).await.expect(403);
    }
    app.stop().await;
}

/// Issue 2 "Bad input", for tenants.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_is_asked_for_wrongly_is_not_made() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    for (body, pointer) in [
        (json!({}), "/slug"),
        (json!({ "slug": "acme" }), "/name"),
        (json!({ "slug": "", "name": "x" }), "/slug"),
        (json!({ "slug": "Acme", "name": "x" }), "/slug"),
        (json!({ "slug": "-acme", "name": "x" }), "/slug"),
        (json!({ "slug": "a/b", "name": "x" }), "/slug"),
        (json!({ "slug": "a".repeat(64), "name": "x" }), "/slug"),
        (json!({ "slug": 1, "name": "x" }), "/slug"),
        (json!({ "slug": "acme", "name": "" }), "/name"),
        (json!({ "slug": "acme", "name": "x".repeat(201) }), "/name"),
        (json!({ "slug": "acme", "name": "x", "active": true }), "/active"),
        (json!({ "slug": "acme", "name": "x", "maxEntries": -1 }), "/maxEntries"),
    ] {
        let reply = operator.post(TENANTS, &body).await.expect(422);
        assert!(reply.pointers().contains(&pointer), "{body}: {}", reply.text);
    }
    assert_eq!(
        operator.get(TENANTS).await.expect(200).body["tenants"].as_array().unwrap().len(),
        1
    );
    let asking = json!({ "slug": "a".repeat(63), "name": "x\u{0}y" });
    let reply = operator.post(TENANTS, &asking).await;
    assert_eq!((reply.status, reply.pointers()), (422, vec!["/name"]), "{}", reply.text);
    for (body, pointer) in [
        (json!({}), ""),
        (json!({ "active": 1 }), "/active"),
        (json!({ "requestsPerMinute": 1.5 }), "/requestsPerMinute"),
        (json!({ "maxEntries": "many" }), "/maxEntries"),
        (json!({ "name": "x" }), "/name"),
    ] {
        let path = format!("{TENANTS}/installation");
        let reply = operator.send_json("PATCH", &path, &body).await.expect(422);
        assert!(reply.pointers().contains(&pointer), "{body}: {}", reply.text);
    }
    app.stop().await;
}

/// A tenant that does not exist is a 404, whatever is asked of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_is_not_there_is_a_404() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    for slug in ["nobody", "NOBODY", "%00", "a%2fb"] {
        let path = format!("{TENANTS}/{slug}");
        operator.send_json("PATCH", &path, &json!({ "active": false })).await.expect(404);
        operator.get(&format!("{path}/tokens")).await.expect(404);
        let asking = json!({ "roles": ["admin"] });
        operator.post(&format!("{path}/tokens"), &asking).await.expect(404);
        operator.send("DELETE", &format!("{path}/tokens/{id}")).await.expect(404);
    }
    let path = format!("{TENANTS}/installation/tokens");
    operator.send("DELETE", &format!("{path}/{id}")).await.expect(404);
    operator.send("DELETE", &format!("{path}/x")).await.expect(404);
    app.stop().await;
}

/// Nobody could undo it: every operator's token is the installation's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_installations_own_tenant_cannot_be_switched_off() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    let path = "/api/ai-cache/admin/tenants/installation";
    let refused = operator.send_json("PATCH", path, &json!({ "active": false })).await.expect(409);
    assert_eq!(refused.problem(), "conflict");
    operator.send_json("PATCH", path, &json!({ "active": true })).await.expect(200);
    app.stop().await;
}

/// The record of a change says how many settings it gave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_of_a_change_counts_its_settings() {
    let app = TestApp::start().await;
    let operator = app.operator().await;
    let tenant = app.tenant("acme").await;
    let bodies = [
        json!({ "active": true }),
        json!({ "active": true, "requestsPerMinute": 0 }),
        json!({ "active": true, "requestsPerMinute": 5, "maxEntries": 7 }),
    ];
    for body in bodies {
        let path = format!("{TENANTS}/acme");
        operator.send_json("PATCH", &path, &body).await.expect(200);
    }
    let counts = format!(
        "SELECT item_count FROM ai_cache_audit_logs
         WHERE action = 'tenant-update' AND tenant_id = '{}' ORDER BY id",
        tenant.id
    );
    let rows = app.db.superuser().await.query(&counts, &[]).await.unwrap();
    let counts: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    println!("settings given: {counts:?}");
    assert_eq!(counts, [1, 2, 3]);
    app.stop().await;
}
