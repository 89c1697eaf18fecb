//! Paths and methods: an unknown path is a 404, a known path with another method a 405 with
//! `Allow`, and no way of writing a path goes round the roles.

use ai_cache::domain::caller::Role;
use ai_cache::http::routes::{AUTHENTICATED, OPEN};

use super::raw::{exchange, request};
use crate::support::TestApp;

/// A path without parameters in braces.
fn concrete(template: &str) -> String {
    template
        .replace("{entryId}", "01890a5d-ac96-774b-bcce-b302099a8057")
        .replace("{tokenId}", "01890a5d-ac96-774b-bcce-b302099a8057")
        .replace("{requestId}", "01890a5d-ac96-774b-bcce-b302099a8057")
        .replace("{slug}", "acme")
}

/// The path with the first letter of its last word written as its code.
fn written_otherwise(path: &str) -> String {
    let at = path.rfind('/').unwrap() + 1;
    format!("{}%{:02x}{}", &path[..at], path.as_bytes()[at], &path[at + 1..])
}

/// RFC 9110 §15.5.6: every path answers every other method with those it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_method_is_a_405_with_what_the_path_takes() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let mut paths: Vec<&str> = AUTHENTICATED.iter().map(|route| route.path.as_str()).collect();
    paths.dedup();
    for template in paths {
        let same = AUTHENTICATED.iter().filter(|route| route.path == template);
        let taken: Vec<&str> = same.map(|route| route.method).collect();
        let path = concrete(template);
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            if !taken.contains(&method) {
                let reply = tenant.admin.send(method, &path).await.expect(405);
                assert_eq!(reply.problem(), "method-not-allowed", "{method} {path}");
                assert_eq!(reply.header("allow"), Some(taken.join(", ").as_str()));
                app.client.send(method, &path).await.expect(401);
            }
        }
    }
    for route in OPEN.iter() {
        let path = route.path.as_str();
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let reply = app.client.send(method, path).await.expect(405);
            assert_eq!(reply.header("allow"), Some("GET"), "{method} {path}");
        }
    }
    app.stop().await;
}

/// A path under the cache's own is not there for those with a token, and tells nobody else so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_path_is_a_404_and_without_a_token_a_401() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    for path in ["nothing", "", "query/", "query/more", "entries/x/y", "admin", "Query"] {
        for method in ["GET", "POST", "DELETE"] {
            let path = format!("/api/ai-cache/{path}");
            app.client.send(method, &path).await.expect(401);
            let reply = tenant.app.send(method, &path).await.expect(404);
            assert_eq!(reply.problem(), "not-found", "{method} {path}");
            assert!(reply.header("x-audit-id").is_some(), "{method} {path}");
        }
    }
    for path in ["/", "/nothing", "/api", "/api/", "/api/nothing", "/health/", "/api/ai-cachex"] {
        assert_eq!(app.client.get(path).await.expect(404).problem(), "not-found", "{path}");
    }
    app.stop().await;
}

/// The path of an entry or token that has no such id is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_is_none_is_a_404() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    for id in ["x", "%20", "%00", "%ff", "..", "%2e%2e", "1", "01890a5d-ac96-774b-bcce-b302099a805"]
    {
        for (method, path) in [("GET", "entries"), ("DELETE", "entries"), ("DELETE", "tokens")] {
            let line = format!("{method} /api/ai-cache/{path}/{id}");
            let token = app.token(tenant.id, &[Role::Admin]).await;
            let auth = format!("Authorization: Bearer {token}");
            let reply = exchange(&app, &request(&line, &[&auth], b"")).await;
            assert!(matches!(reply.status, 400 | 404 | 405), "{line}: {reply:?}");
        }
    }
    app.stop().await;
}

/// RFC 9110 §9.3.2: HEAD is not taken and gives no body away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_has_a_status_and_no_body() {
    let app = TestApp::start().await;
    for (path, status) in [("/health", 405), ("/api/ai-cache/entries", 401), ("/nothing", 404)] {
        let reply = exchange(&app, &request(&format!("HEAD {path}"), &[], b"")).await;
        assert_eq!((reply.status, reply.body.as_str()), (status, ""), "{path}: {reply:?}");
        assert!(reply.header("x-request-id").is_some(), "{path}");
    }
    app.stop().await;
}

/// W10: a role is asked for however the path is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_way_of_writing_a_path_goes_round_the_roles() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let entry = tenant.app.ask("a question").await.expect(200).body["entryId"].clone();
    let entry = entry.as_str().unwrap();
    let mut tried = 0;
    for route in AUTHENTICATED.iter() {
        let path = concrete(&route.path).replace("01890a5d-ac96-774b-bcce-b302099a8057", entry);
        let middle = path.replace("ai-cache/", "ai-cache/%").replace("/%", "/");
        let first = written_otherwise(&path);
        let inner = path.replacen("/admin/", "/%61dmin/", 1).replacen("/entries", "/%65ntries", 1);
        let scope = path.replacen("/ai-cache", "/%61i-cache", 1);
        let doubled = path.replacen("/api/", "/api//", 1);
        let is_theirs = route.role == Role::Compliance;
        let lacking = if is_theirs { &tenant.app } else { &tenant.compliance };
        for path in
            [middle, first, inner, scope, doubled, format!("{path}/"), format!("{path}?x=1")]
        {
            let reply = lacking.send(route.method, &path).await;
            assert!(matches!(reply.status, 403..=405), "{} {path}: {}", route.method, reply.text);
            tried += 1;
        }
    }
    assert_eq!(tried, AUTHENTICATED.len() * 7);
    let still = tenant.app.ask("a question").await.expect(200);
    assert_eq!(still.body["entryId"].as_str(), Some(entry));
    app.stop().await;
}
