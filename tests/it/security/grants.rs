//! api.md "Authentication": who may grant what to whom, and where it is written.

use ai_cache::domain::caller::Role;
use serde_json::{Value, json};

use crate::support::{Client, TestApp};

const OWN: &str = "/api/ai-cache/tokens";
const ACME: &str = "/api/ai-cache/admin/tenants/acme/tokens";

async fn ask_for(caller: &Client, path: &str, roles: &[&str]) -> u16 {
    caller.post(path, &json!({ "roles": roles })).await.status
}

/// Tokens of a tenant.
async fn tokens(app: &TestApp, tenant: &impl std::fmt::Display) -> i64 {
    let query = format!("SELECT count(*) FROM api_tokens WHERE tenant_id = '{tenant}'");
    app.db.count(&query).await
}

/// Made tokens in a tenant's trail, by whom.
async fn trail(app: &TestApp, tenant: &impl std::fmt::Display, roles: &str) -> i64 {
    let query = format!(
        "SELECT count(*) FROM ai_cache_audit_logs a
         JOIN api_tokens t ON t.token_id = a.object_id AND t.tenant_id = a.tenant_id
         WHERE a.tenant_id = '{tenant}' AND a.action = 'token-create' AND a.outcome = 'done'
           AND a.actor_roles = '{roles}' AND t.created_by = a.actor_token_id"
    );
    app.db.count(&query).await
}

/// Each role and each mixture: admins grant app and admin, operators admin and compliance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_are_granted_only_as_far_as_the_rules_say() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let operator = app.operator().await;
    let before = tokens(&app, &tenant.id).await;
    let cases: [(&Client, &str, &[&str], u16); 14] = [
        (&tenant.admin, OWN, &["app"], 201),
        (&tenant.admin, OWN, &["admin"], 201),
        (&tenant.admin, OWN, &["app", "admin"], 201),
        (&tenant.admin, OWN, &["compliance"], 403),
        (&tenant.admin, OWN, &["operator"], 403),
        (&tenant.admin, OWN, &["app", "compliance"], 403),
        (&tenant.admin, OWN, &["app", "admin", "operator"], 403),
        (&operator, ACME, &["admin"], 201),
        (&operator, ACME, &["compliance"], 201),
        (&operator, ACME, &["admin", "compliance"], 201),
        (&operator, ACME, &["app"], 403),
        (&operator, ACME, &["operator"], 403),
        (&operator, ACME, &["admin", "app"], 403),
        (&operator, ACME, &["compliance", "operator"], 403),
    ];
    let mut made = 0;
    for (caller, path, roles, status) in cases {
        assert_eq!(ask_for(caller, path, roles).await, status, "{path} {roles:?}");
        made += i64::from(status == 201);
    }
    let (by_admin, by_operator) =
        (trail(&app, &tenant.id, "admin").await, trail(&app, &tenant.id, "operator").await);
    println!("{made} made; in the trail {by_admin} by its admin, {by_operator} by the operator");
    assert_eq!((made, by_admin, by_operator), (6, 3, 3), "the tenant's own trail shows them");
    assert_eq!(tokens(&app, &tenant.id).await, before + made);
    app.stop().await;
}

/// A made token can do what it was made for and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_made_token_has_the_roles_it_was_made_with() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let made = tenant.admin.post(OWN, &json!({ "roles": ["app"] })).await.expect(201);
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let caller = app.client.with_token(made.body["token"].as_str().unwrap());
    caller.ask("a question").await.expect(200);
    caller.get(OWN).await.expect(403);
    assert_eq!(ask_for(&caller, OWN, &["app"]).await, 403);
    let listed = tenant.admin.get(OWN).await.expect(200);
    assert!(!listed.text.contains("aic_") && !listed.text.contains("argon2"));
    app.stop().await;
}

/// The rights of a token in one role do not widen its rights in another: with admin and operator it
/// makes no app token in a foreign tenant and no compliance token in its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_roles_do_not_add_up_to_more_rights_in_another_tenant() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let both = app.token(other.id, &[Role::Admin, Role::Operator]).await;
    let both = app.client.with_token(&both);
    let before = tokens(&app, &acme.id).await;
    for roles in [&["app"][..], &["app", "admin"], &["operator"]] {
        assert_eq!(ask_for(&both, ACME, roles).await, 403, "{roles:?} in a foreign tenant");
    }
    assert_eq!(tokens(&app, &acme.id).await, before);
    for roles in [&["compliance"][..], &["operator"], &["app", "compliance"]] {
        assert_eq!(ask_for(&both, OWN, roles).await, 403, "{roles:?} in its own tenant");
    }
    assert_eq!(ask_for(&both, OWN, &["app"]).await, 201);
    assert_eq!(ask_for(&both, ACME, &["admin"]).await, 201);
    assert_eq!(trail(&app, &acme.id, "admin+operator").await, 1);
    let theirs = acme.admin.get(OWN).await.expect(200);
    assert_eq!(theirs.body["tokens"].as_array().unwrap().len(), 4);
    app.stop().await;
}

/// Roles that there are none of, and none at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_roles_and_none_are_refused_by_field() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    for roles in [json!([]), json!(["root"]), json!(["APP"]), json!("app"), json!([1]), Value::Null]
    {
        let reply = tenant.admin.post(OWN, &json!({ "roles": roles })).await.expect(422);
        let named = reply.pointers();
        assert!(named.iter().all(|pointer| pointer.starts_with("/roles")), "{roles} {named:?}");
        assert!(!named.is_empty(), "{roles}");
    }
    app.stop().await;
}
