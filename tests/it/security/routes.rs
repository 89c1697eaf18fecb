//! Every route of the API document is tried by those who may not (G5).

use std::collections::{BTreeMap, BTreeSet};

use ai_cache::domain::caller::Role;
use ai_cache::domain::ids::TenantId;
use ai_cache::http::routes::AUTHENTICATED;
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::compliance::requests::file;
use crate::support::document::DOCUMENT;
use crate::support::{Client, Reply, TestApp};

use super::words;

/// The routes that everybody may use, literally.
const OPEN: [&str; 6] = [
    "GET /api/health",
    "GET /api/metrics",
    "GET /api/openapi.json",
    "GET /health",
    "GET /health/cache",
    "GET /health/ready",
];

/// The routes that need a token and the role that it must have, literally: a role that is wrong in the
/// table of routes is wrong in the document as well.
const GUARDED: [(&str, &str); 30] = [
    ("DELETE /api/ai-cache/admin/tenants/{slug}/tokens/{tokenId}", "operator"),
    ("DELETE /api/ai-cache/entries/{entryId}", "admin"),
    ("DELETE /api/ai-cache/tokens/{tokenId}", "admin"),
    ("GET /api/ai-cache/admin/tenants", "operator"),
    ("GET /api/ai-cache/admin/tenants/{slug}/tokens", "operator"),
    ("GET /api/ai-cache/audit", "compliance"),
    ("GET /api/ai-cache/audit/export", "compliance"),
    ("GET /api/ai-cache/audit/verification", "compliance"),
    ("GET /api/ai-cache/entries", "admin"),
    ("GET /api/ai-cache/entries/{entryId}", "admin"),
    ("GET /api/ai-cache/gdpr/legal-holds", "compliance"),
    ("GET /api/ai-cache/gdpr/requests", "compliance"),
    ("GET /api/ai-cache/gdpr/requests/{requestId}", "compliance"),
    ("GET /api/ai-cache/gdpr/requests/{requestId}/certificate", "compliance"),
    ("GET /api/ai-cache/gdpr/requests/{requestId}/export", "compliance"),
    ("GET /api/ai-cache/statistics", "admin"),
    ("GET /api/ai-cache/tokens", "admin"),
    ("PATCH /api/ai-cache/admin/tenants/{slug}", "operator"),
    ("POST /api/ai-cache/admin/purge", "operator"),
    ("POST /api/ai-cache/admin/tenants", "operator"),
    ("POST /api/ai-cache/admin/tenants/{slug}/tokens", "operator"),
    ("POST /api/ai-cache/gdpr/requests", "compliance"),
    ("POST /api/ai-cache/gdpr/requests/{requestId}/approve", "compliance"),
    ("POST /api/ai-cache/gdpr/requests/{requestId}/cancel", "compliance"),
    ("POST /api/ai-cache/gdpr/requests/{requestId}/extend", "compliance"),
    ("POST /api/ai-cache/gdpr/requests/{requestId}/reject", "compliance"),
    ("POST /api/ai-cache/invalidate", "admin"),
    ("POST /api/ai-cache/query", "app"),
    ("POST /api/ai-cache/tokens", "admin"),
    ("PUT /api/ai-cache/gdpr/legal-holds", "compliance"),
];

const RANDOM: &str = "01890000-0000-7000-8000-000000000000";

struct Documented {
    method: String,
    path: String,
    roles: Vec<Role>,
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
                roles: roles.map(|role| Role::parse(role.as_str().unwrap()).unwrap()).collect(),
            });
        }
    }
    routes
}

fn guarded() -> Vec<Documented> {
    documented().into_iter().filter(|route| !route.roles.is_empty()).collect()
}

/// The path with its parameters filled in. A route with a new parameter needs a value here.
fn filled(path: &str, ids: &[(&str, &str)]) -> String {
    let mut path = path.to_owned();
    for (name, id) in ids {
        path = path.replace(&format!("{{{name}}}"), id);
    }
    assert!(!path.contains('{'), "{path}: no value for a parameter");
    path
}

/// Asks a route with an empty object for a body where it takes one; with a reason where it wants one.
async fn attempt(caller: &Client, method: &str, path: &str) -> Reply {
    let body =
        if path.contains("/gdpr/requests/") { json!({ "reason": "mine" }) } else { json!({}) };
    match method {
        "GET" | "DELETE" => caller.send(method, path).await,
        _ => caller.send_json(method, path, &body).await,
    }
}

/// A caller for each set of roles, made once: each new token costs a verification.
async fn callers(app: &TestApp, tenant: TenantId) -> BTreeMap<u8, Client> {
    let mut callers = BTreeMap::new();
    for set in 1..16_u8 {
        let roles: Vec<Role> = roles_in(set).collect();
        callers.insert(set, app.client.with_token(&app.token(tenant, &roles).await));
    }
    callers
}

fn roles_in(set: u8) -> impl Iterator<Item = Role> {
    Role::ALL
        .into_iter()
        .enumerate()
        .filter(move |(bit, _)| set & (1 << bit) != 0)
        .map(|(_, role)| role)
}

/// The table of routes, the document, and the lists above are one.
#[test]
fn the_document_names_exactly_the_routes_and_their_roles() {
    let mut open = BTreeSet::new();
    let mut guarded = BTreeSet::new();
    for route in documented() {
        let name = format!("{} {}", route.method, route.path);
        match route.roles.as_slice() {
            [] => assert!(open.insert(name)),
            [role] => assert!(guarded.insert((name, role.name()))),
            many => panic!("{name} takes {many:?}"),
        }
    }
    let table: BTreeSet<_> = AUTHENTICATED
        .iter()
        .map(|route| (format!("{} {}", route.method, route.path), route.role.name()))
        .collect();
    assert_eq!(open.iter().map(String::as_str).collect::<Vec<_>>(), OPEN);
    let literal: BTreeSet<_> =
        GUARDED.iter().map(|(route, role)| ((*route).to_owned(), *role)).collect();
    assert_eq!((&guarded, &table), (&literal, &literal));
}

/// Callers without a token, with something that is no token, and with every set of roles without
/// the right one get no 2xx.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_route_answers_a_caller_without_its_role() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let callers = callers(&app, tenant.id).await;
    let good = app.token(tenant.id, &Role::ALL).await;
    let basic = app.client.with_header("authorization", &format!("Basic {good}"));
    let mut typo = good.clone();
    let last = if typo.pop() == Some('A') { 'B' } else { 'A' };
    typo.push(last);
    let strangers = [
        app.client.clone(),
        app.client.with_token(""),
        app.client.with_token("aic_x_y"),
        app.client.with_token(&typo),
        app.client.with_token(&good[..good.len() - 1]),
        app.client.with_token(&format!("{good} {good}")),
        app.client.with_header("authorization", &good),
        basic,
    ];
    let ids = [("entryId", RANDOM), ("tokenId", RANDOM), ("slug", "acme"), ("requestId", RANDOM)];
    let (mut tried, mut answered) = (0, 0);
    for route in guarded() {
        let path = filled(&route.path, &ids);
        let wrong = callers
            .iter()
            .filter(|(set, _)| roles_in(**set).all(|role| !route.roles.contains(&role)));
        let wrong = wrong.map(|(_, caller)| (caller, 403));
        for (caller, expected) in strangers.iter().map(|caller| (caller, 401)).chain(wrong) {
            let status = attempt(caller, &route.method, &path).await.status;
            tried += 1;
            answered += u32::from(status < 300);
            assert_eq!(status, expected, "{} {path}", route.method);
        }
    }
    println!("tried {tried} times, answered with 2xx {answered} times");
    assert!(tried >= 15 * AUTHENTICATED.len());
    assert_eq!(answered, 0);
    app.stop().await;
}

/// The guard is not passed by another spelling of a path or another method: without a token or with
/// a token whose role is not the route's, 0 × 2xx.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_a_path_passes_the_guard() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let ids = [("entryId", RANDOM), ("tokenId", RANDOM), ("slug", "acme"), ("requestId", RANDOM)];
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let (app_token, compliance) =
        (app.token(tenant.id, &[Role::App]).await, app.token(tenant.id, &[Role::Compliance]).await);
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"];
    let mut requests = Vec::new();
    for route in guarded() {
        let path = filled(&route.path, &ids);
        // The other methods of the path are other routes, of the same role.
        let is_theirs = route.roles.contains(&Role::Compliance);
        let idle = if is_theirs { &app_token } else { &compliance };
        let spellings = [
            path.clone(),
            format!("{path}/"),
            format!("/{path}"),
            path.replacen("/api/", "/api//", 1),
            path.replacen("/api/", "/API/", 1),
            path.replacen("ai-cache", "%61i-cache", 1),
            path.replacen("/api/", "/api/%2e/", 1),
            path.replacen("/api/", "/api/health/%2e%2e/", 1),
            path.replacen("/ai-cache/", "/ai-cache%2f", 1),
            format!("{path};x"),
            format!("{path}?x=/health"),
            format!("{path}%00"),
        ];
        for spelling in &spellings {
            for method in methods {
                for token in [None, Some(idle)] {
                    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
                    let mut asked = http.request(method, format!("{}{spelling}", app.base()));
                    asked = asked.header("content-type", "application/json").body("{}");
                    if let Some(token) = token {
                        asked = asked.bearer_auth(token);
                    }
                    let spelling = spelling.clone();
                    requests.push(async move { (asked.send().await.unwrap().status(), spelling) });
                }
            }
        }
    }
    let tried = requests.len();
    let replies: Vec<_> = stream::iter(requests).buffer_unordered(16).collect().await;
    let answered: Vec<String> = replies
        .iter()
        .filter(|(status, _)| !status.is_client_error())
        .map(|(status, spelling)| format!("{status} {spelling}"))
        .collect();
    println!("tried {tried} times, {} without a refusal", answered.len());
    assert_eq!(answered, Vec::<String>::new());
    app.stop().await;
}

/// Another tenant's ids are as unknown as random ones, in status and in words, on every route that
/// takes one; an operator finds a tenant's token under that tenant alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_things_are_not_found() {
    let app = TestApp::start().await;
    let (ours, theirs) = (app.tenant("ours").await, app.tenant("theirs").await);
    ours.app.ask("their question").await.expect(200);
    let entry = theirs.app.ask("their question").await.expect(200);
    let entry = entry.body["entryId"].as_str().unwrap().to_owned();
    let tokens = theirs.admin.get("/api/ai-cache/tokens").await.expect(200);
    let token = tokens.body["tokens"][0]["id"].as_str().unwrap().to_owned();
    let all = app.client.with_token(&app.token(ours.id, &Role::ALL).await);
    let request = file(&theirs.compliance, "erase", "couple-1").await;
    let foreign = [
        ("entryId", entry.as_str()),
        ("tokenId", &token),
        ("slug", "ours"),
        ("requestId", &request),
    ];
    let unknown =
        [("entryId", RANDOM), ("tokenId", RANDOM), ("slug", "ours"), ("requestId", RANDOM)];
    let mut tried = 0;
    for route in guarded() {
        let path = filled(&route.path, &foreign);
        if path == filled(&route.path, &unknown) {
            continue;
        }
        tried += 1;
        let found = attempt(&all, &route.method, &path).await.expect(404);
        let random = attempt(&all, &route.method, &filled(&route.path, &unknown)).await.expect(404);
        assert_eq!(words(&found), words(&random), "{} {}", route.method, route.path);
    }
    assert!(tried >= 10, "{tried}");

    // Ids in bodies.
    let invalidate = "/api/ai-cache/invalidate";
    let found = ours.admin.post(invalidate, &json!({ "entryId": entry })).await.expect(200);
    let random = ours.admin.post(invalidate, &json!({ "entryId": RANDOM })).await.expect(200);
    assert_eq!(found.body, random.body);
    assert_eq!(found.body["invalidatedCount"], 0);
    // Everything that is ours is not theirs.
    ours.admin.post(invalidate, &json!({ "invalidateAll": true })).await.expect(200);
    let still = theirs.app.ask("their question").await.expect(200);
    assert_eq!((&still.body["cached"], &still.body["entryId"]), (&true.into(), &entry.into()));
    let listed = ours.admin.get("/api/ai-cache/entries").await.expect(200);
    assert_eq!(listed.body["entries"], json!([]));
    let counted = ours.admin.get("/api/ai-cache/statistics").await.expect(200);
    assert_eq!((&counted.body["misses"], &counted.body["hits"]), (&1.into(), &0.into()));
    theirs.admin.get("/api/ai-cache/tokens").await.expect(200);
    app.stop().await;
}
