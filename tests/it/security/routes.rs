//! Every route of the API document is tried by those who may not (G5).

use std::collections::BTreeSet;

use ai_cache::domain::caller::Role;
use ai_cache::http::route::AUTHENTICATED;
use serde_json::{Value, json};

use crate::support::client::DOCUMENT;
use crate::support::{Client, TestApp};

/// The routes that everybody may use, literally.
const OPEN: [&str; 6] = [
    "GET /api/health",
    "GET /api/metrics",
    "GET /api/openapi.json",
    "GET /health",
    "GET /health/cache",
    "GET /health/ready",
];

struct Documented {
    method: String,
    path: String,
    roles: Vec<String>,
}

fn documented() -> Vec<Documented> {
    let mut routes = Vec::new();
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let security = operation["security"].as_array().unwrap();
            let roles = security.iter().filter_map(|scheme| scheme.get("token"));
            let roles = roles.flat_map(|roles| roles.as_array().unwrap().clone());
            routes.push(Documented {
                method: method.to_ascii_uppercase(),
                path: path.clone(),
                roles: roles.map(|role| role.as_str().unwrap().to_owned()).collect(),
            });
        }
    }
    routes
}

/// Asks a route with ids filled in and an empty object for a body.
async fn attempt(caller: &Client, route: &Documented, ids: &[(&str, &str)]) -> u16 {
    let mut path = route.path.clone();
    for (name, id) in ids {
        path = path.replace(&format!("{{{name}}}"), id);
    }
    let reply = match route.method.as_str() {
        "GET" | "DELETE" => caller.send(&route.method, &path).await,
        _ => caller.send_json(&route.method, &path, &json!({})).await,
    };
    reply.status
}

/// The table of routes, the document, and the list of open routes are one.
#[test]
fn the_document_names_exactly_the_routes_and_their_roles() {
    let mut open = BTreeSet::new();
    let mut guarded = BTreeSet::new();
    for route in documented() {
        let name = format!("{} {}", route.method, route.path);
        match route.roles.as_slice() {
            [] => assert!(open.insert(name)),
            [role] => assert!(guarded.insert((name, role.clone()))),
            many => panic!("{name} takes {many:?}"),
        }
    }
    let table = AUTHENTICATED
        .iter()
        .map(|route| (format!("{} {}", route.method, route.path), route.role.name().to_owned()));
    assert_eq!(open.iter().map(String::as_str).collect::<Vec<_>>(), OPEN);
    assert_eq!(guarded, table.collect());
}

/// No token, an unknown one, and every wrong role: 0 × 2xx.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_route_answers_a_caller_without_its_role() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let ids = [
        ("entryId", "01890000-0000-7000-8000-000000000000"),
        ("tokenId", "01890000-0000-7000-8000-000000000000"),
        ("slug", "acme"),
    ];
    let (mut tried, mut answered) = (0, 0);
    for route in documented().iter().filter(|route| !route.roles.is_empty()) {
        let mut callers = vec![(app.client.clone(), 401), (app.client.with_token("aic_x_y"), 401)];
        for role in Role::ALL.into_iter().filter(|role| !route.roles.contains(&role.name().into()))
        {
            let token = app.token(tenant.id, &[role]).await;
            callers.push((app.client.with_token(&token), 403));
        }
        for (caller, expected) in callers {
            let status = attempt(&caller, route, &ids).await;
            tried += 1;
            answered += u32::from(status < 300);
            assert_eq!(status, expected, "{} {}", route.method, route.path);
        }
    }
    println!("tried {tried} times, answered with 2xx {answered} times");
    assert_eq!(answered, 0);
    app.stop().await;
}

/// Another tenant's ids are as unknown as random ones, in status and in words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_things_are_not_found() {
    let app = TestApp::start().await;
    let (ours, theirs) = (app.tenant("ours").await, app.tenant("theirs").await);
    let entry = theirs.app.ask("their question").await.expect(200);
    let entry = entry.body["entryId"].as_str().unwrap().to_owned();
    let tokens = theirs.admin.get("/api/ai-cache/tokens").await.expect(200);
    let token = tokens.body["tokens"][0]["id"].as_str().unwrap().to_owned();
    let random = "01890000-0000-7000-8000-000000000000";
    for (method, path, id) in [
        ("GET", "/api/ai-cache/entries/", &entry),
        ("DELETE", "/api/ai-cache/entries/", &entry),
        ("DELETE", "/api/ai-cache/tokens/", &token),
    ] {
        let foreign = ours.admin.send(method, &format!("{path}{id}")).await.expect(404);
        let unknown = ours.admin.send(method, &format!("{path}{random}")).await.expect(404);
        let words = |body: &Value| {
            let mut body = body.clone();
            for own in ["instance", "requestId"] {
                body[own] = Value::Null;
            }
            body
        };
        assert_eq!(words(&foreign.body), words(&unknown.body), "{method} {path}");
    }
    let body = json!({ "entryId": entry });
    let counted = ours.admin.post("/api/ai-cache/invalidate", &body).await.expect(200);
    assert_eq!(counted.body["invalidatedCount"], 0);
    theirs.app.ask("their question").await.expect(200);
    assert_eq!(app.upstream.calls(), 1, "their entry is still there");
    app.stop().await;
}

/// api.md "Authentication": who may grant what.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_are_granted_only_as_far_as_the_rules_say() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let operator = app.operator().await;
    let own = "/api/ai-cache/tokens";
    let admin = "/api/ai-cache/admin/tenants/acme/tokens";
    let cases = [
        (&tenant.admin, own, "app", 201),
        (&tenant.admin, own, "admin", 201),
        (&tenant.admin, own, "compliance", 403),
        (&tenant.admin, own, "operator", 403),
        (&operator, admin, "admin", 201),
        (&operator, admin, "compliance", 201),
        (&operator, admin, "app", 403),
        (&operator, admin, "operator", 403),
    ];
    for (caller, path, role, status) in cases {
        let reply = caller.post(path, &json!({ "roles": [role] })).await;
        assert_eq!(reply.status, status, "{path} {role}");
    }
    let trail = format!(
        "SELECT count(*) FROM ai_cache_audit_logs WHERE tenant_id = '{}'
         AND action = 'token-create' AND outcome = 'done' AND actor_roles = 'operator'",
        tenant.id
    );
    assert_eq!(app.db.count(&trail).await, 2, "the tenant's own trail shows both");
    app.stop().await;
}

/// Unknown, wrong, revoked and expired tokens, and those of a disabled tenant, are told alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_tokens_are_told_alike_and_get_nothing_from_memory() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let operator = app.operator().await;
    tenant.app.ask("a question").await.expect(200);
    let made = tenant.admin.post("/api/ai-cache/tokens", &json!({ "roles": ["app"] })).await;
    let made = made.expect(201);
    let token = made.body["token"].as_str().unwrap();
    let caller = app.client.with_token(token);
    assert_eq!(caller.ask("a question").await.expect(200).body["cacheSource"], "hot");
    let revoke = format!("/api/ai-cache/tokens/{}", made.body["id"].as_str().unwrap());
    tenant.admin.send("DELETE", &revoke).await.expect(204);
    let revoked = caller.ask("a question").await.expect(401);
    let missing = app.client.ask("a question").await.expect(401);
    let other = app.tenant("other").await;
    let mut wrong = token.to_owned();
    wrong.replace_range(4..36, &other.id.0.simple().to_string());
    let unknown = app.client.with_token(&wrong).ask("a question").await.expect(401);
    let off = json!({ "active": false });
    operator.send_json("PATCH", "/api/ai-cache/admin/tenants/acme", &off).await.expect(200);
    let disabled = tenant.app.ask("a question").await.expect(401);
    let words =
        |body: &Value| (body["type"].clone(), body["title"].clone(), body["detail"].clone());
    for reply in [&missing, &unknown, &disabled] {
        assert_eq!(words(&reply.body), words(&revoked.body));
    }
    app.stop().await;
}
