//! Bodies that are none (issue 2 "Bad input"): each gets its status and its kind, none a 500.

use std::time::Duration;

use ai_cache::app::AppSettings;
use ai_cache::domain::caller::Role;
use serde_json::json;

use super::query_text;
use super::raw::{exchange, request};
use crate::support::{Reply, TestApp};

const QUERY: &str = "/api/ai-cache/query";

fn nested(depth: usize) -> String {
    // The body itself and the context are two levels.
    let (open, close) = ("[".repeat(depth - 2), "]".repeat(depth - 2));
    format!("{{\"query\":\"q\",\"weddingContext\":{{\"deep\":{open}{close}}}}}")
}

/// Issue 2 "Bad input": not JSON, twice the same key, too deep, not UTF-8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_no_json_of_ours_is_a_400_of_its_kind() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let (deep, deeper, objects) = (nested(129), nested(1_000), "{\"a\":".repeat(200_000));
    let bodies: &[(&[u8], &str)] = &[
        (b"", "malformed-body"),
        (b"   ", "malformed-body"),
        (b"hello", "malformed-body"),
        (b"{", "malformed-body"),
        (b"{\"query\":\"q\"", "malformed-body"),
        (b"{\"query\":\"q\"}x", "malformed-body"),
        (b"{\"query\":\"q\"}{\"query\":\"q\"}", "malformed-body"),
        (b"{\"query\":\"q\",}", "malformed-body"),
        (b"{'query':'q'}", "malformed-body"),
        (b"{\"query\":\"q\",\"weddingContext\":{\"budget\":NaN}}", "malformed-body"),
        (b"{\"query\":\"q\",\"weddingContext\":{\"budget\":01}}", "malformed-body"),
        (b"{\"query\":\"q\",\"weddingContext\":{\"budget\":1e1000001}}", "malformed-body"),
        (b"{\"query\":\"\\ud800\"}", "malformed-body"),
        (b"{\"query\":\"a\nb\"}", "malformed-body"),
        (b"\xef\xbb\xbf{\"query\":\"q\"}", "malformed-body"),
        (b"{\"query\":\"\xff\"}", "not-utf8"),
        (b"{\"query\":\"\xc0\xaf\"}", "not-utf8"),
        (b"{\"query\":\"\xed\xa0\x80\"}", "not-utf8"),
        (b"\xff\xfe{\0}\0", "not-utf8"),
        (b"{\"query\":\"a\",\"query\":\"b\"}", "duplicate-key"),
        (b"{\"query\":\"a\",\"qu\\u0065ry\":\"b\"}", "duplicate-key"),
        (b"{\"query\":\"a\",\"weddingContext\":{\"x\":[{\"y\":1,\"y\":1}]}}", "duplicate-key"),
        (
            b"{\"query\":\"a\",\"cache\":{\"mode\":\"bypass\",\"mode\":\"default\"}}",
            "duplicate-key",
        ),
        (deep.as_bytes(), "too-deep"),
        (deeper.as_bytes(), "too-deep"),
        (&objects.as_bytes()[..1_000_000], "too-deep"),
    ];
    for (body, kind) in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let reply = tenant.app.send_raw("POST", QUERY, body.to_vec()).await;
        assert_eq!((reply.status, reply.problem()), (400, *kind), "{shown}: {}", reply.text);
        assert!(reply.header("x-audit-id").is_some(), "{shown}");
    }
    assert_eq!(app.upstream.calls(), 0);
    app.stop().await;
}

/// Issue 2 "Bad input": 128 levels are accepted, 129 are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_128_levels_is_accepted() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    query_text(&tenant.app, &nested(128)).await.expect(200);
    query_text(&tenant.app, &nested(129)).await.expect(400);
    app.stop().await;
}

/// RFC 9457: a body that is JSON but no object breaks a rule of the body as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_no_object_is_a_422_at_the_root() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    for body in ["[]", "[{\"query\":\"q\"}]", "null", "true", "1", "\"query\""] {
        let reply = query_text(&tenant.app, body).await.expect(422);
        assert_eq!((reply.problem(), reply.pointers()), ("invalid-field", vec![""]), "{body}");
    }
    app.stop().await;
}

/// Issue 2 "Bad input": 413 with a length, 413 without one, and no later than it must.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_two_mebibytes_is_a_413_with_and_without_its_length() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let token = app.token(tenant.id, &[Role::App]).await;
    let auth = format!("Authorization: Bearer {token}");
    let body = format!("{{\"query\":\"{}\"}}", "x".repeat(2 * 1024 * 1024));

    let length = format!("Content-Length: {}", body.len());
    let headers = [auth.as_str(), "Content-Type: application/json", &length];
    let declared = exchange(&app, &request(&format!("POST {QUERY}"), &headers, b"")).await;
    assert_eq!(declared.status, 413, "{declared:?}");
    assert!(declared.body.contains("body-too-large"), "{declared:?}");

    let headers = [auth.as_str(), "Content-Type: application/json", "Transfer-Encoding: chunked"];
    let mut chunks = Vec::new();
    for chunk in body.as_bytes().chunks(65_536) {
        chunks.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
    }
    let chunked = exchange(&app, &request(&format!("POST {QUERY}"), &headers, &chunks)).await;
    assert_eq!(chunked.status, 413, "{chunked:?}");
    assert!(chunked.body.contains("body-too-large"), "{chunked:?}");

    let most = 1024 * 1024;
    let exact = |bytes: usize| {
        let start = "{\"query\":\"q\",\"weddingContext\":{\"x\":\"";
        let end = "\"}}";
        format!("{start}{}{end}", "x".repeat(bytes - start.len() - end.len()))
    };
    query_text(&tenant.app, &exact(most)).await.expect(200);
    let reply = query_text(&tenant.app, &exact(most + 1)).await.expect(413);
    assert_eq!(reply.problem(), "body-too-large");
    app.stop().await;
}

/// A body that ends early, or says nonsense of its length, is a 400 or no reply at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_lies_about_its_length_is_never_a_500() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let token = app.token(tenant.id, &[Role::App]).await;
    let auth = format!("Authorization: Bearer {token}");
    let json_type = "Content-Type: application/json";
    let post = format!("POST {QUERY}");
    let broken: &[(&[&str], &[u8])] = &[
        (&["Content-Length: -1"], b"{}"),
        (&["Content-Length: 99999999999999999999999"], b"{}"),
        (&["Content-Length: two"], b"{}"),
        (&["Content-Length: 2", "Content-Length: 3"], b"{}"),
        (&["Transfer-Encoding: chunked"], b"zz\r\n{}\r\n0\r\n\r\n"),
        (&["Transfer-Encoding: chunked"], b"ffffffffffffffffff\r\n"),
    ];
    for (lengths, body) in broken {
        let headers = [&[auth.as_str(), json_type], *lengths].concat();
        let reply = exchange(&app, &request(&post, &headers, body)).await;
        assert!(matches!(reply.status, 0 | 400 | 413), "{lengths:?}: {reply:?}");
    }
    tenant.app.ask("it still serves").await.expect(200);
    app.stop().await;
}

/// Issue 2 "Bad input": 415 for what is not declared as plain JSON.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_not_declared_as_json_is_a_415() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let token = app.token(tenant.id, &[Role::App]).await;
    let auth = format!("Authorization: Bearer {token}");
    let types = [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "application/json-seq",
        "json",
    ];
    for kind in types {
        let header = format!("Content-Type: {kind}");
        let body = br#"{"query":"q"}"#;
        let length = format!("Content-Length: {}", body.len());
        let mut headers = vec![auth.as_str(), &length];
        if !kind.is_empty() {
            headers.push(&header);
        }
        let reply = exchange(&app, &request(&format!("POST {QUERY}"), &headers, body)).await;
        assert_eq!(reply.status, 415, "{kind:?}: {reply:?}");
        assert!(reply.body.contains("unsupported-media-type"), "{kind:?}: {reply:?}");
    }
    for coding in ["gzip", "br", "deflate", "zstd", "unknown"] {
        let caller = tenant.app.with_header("content-encoding", coding);
        assert_eq!(caller.ask("q").await.expect(415).problem(), "unsupported-media-type");
    }
    for kind in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"] {
        tenant.app.with_header("content-type", kind).ask("q").await.expect(200);
    }
    app.stop().await;
}

/// Every other route that takes a body reads it as strictly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_that_takes_a_body_is_as_strict() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let operator = app.operator().await;
    let routes = [
        ("POST", "/api/ai-cache/invalidate", &tenant.admin),
        ("POST", "/api/ai-cache/tokens", &tenant.admin),
        ("POST", "/api/ai-cache/admin/tenants", &operator),
        ("PATCH", "/api/ai-cache/admin/tenants/acme", &operator),
        ("POST", "/api/ai-cache/admin/tenants/acme/tokens", &operator),
    ];
    for (method, path, caller) in routes {
        let send = |body: &'static str| caller.send_raw(method, path, body.as_bytes().to_vec());
        let kind = |reply: &Reply| (reply.status, reply.problem().to_owned());
        assert_eq!(kind(&send("{").await), (400, "malformed-body".to_owned()), "{path}");
        let twice = send("{\"a\":1,\"a\":2}").await;
        assert_eq!(kind(&twice), (400, "duplicate-key".to_owned()), "{path}");
        let array = send("[]").await;
        assert_eq!((array.status, array.pointers()), (422, vec![""]), "{path}");
        let unknown = send("{\"no/such~field\":1}").await.expect(422);
        assert!(unknown.pointers().contains(&"/no~1such~0field"), "{path}: {}", unknown.text);
        let plain = caller.with_header("content-type", "text/plain");
        let plain = plain.send_json(method, path, &json!({})).await.expect(415);
        assert_eq!(plain.problem(), "unsupported-media-type", "{path}");
    }
    app.stop().await;
}

/// A client that sends no more of its body is told so and let go; nothing waits for it for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_arrive_is_a_408() {
    let quick = |settings: &mut AppSettings| settings.body_limit = Duration::from_millis(200);
    let app = TestApp::builder().settings(quick).start().await;
    let tenant = app.tenant("acme").await;
    let token = app.token(tenant.id, &[Role::App]).await;
    let auth = format!("Authorization: Bearer {token}");
    let headers = [auth.as_str(), "Content-Type: application/json", "Content-Length: 100"];
    let head = request(&format!("POST {QUERY}"), &headers, b"{\"query\":");
    let reply = exchange(&app, &head).await;
    assert_eq!((reply.status, reply.header("connection")), (408, Some("close")), "{reply:?}");
    assert!(reply.body.contains("request-timeout"), "{reply:?}");
    let records = "SELECT count(*) FROM ai_cache_audit_logs WHERE status = 408";
    assert_eq!(app.db.count(records).await, 1);
    app.stop().await;
}
