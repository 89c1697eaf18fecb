//! Requests that are wrong before their body is read: authorization, and query strings.

use ai_cache::domain::caller::Role;
use ai_cache::domain::ids::{Ids, SystemIds, TokenId};
use ai_cache::domain::token::BearerToken;
use chrono::DateTime;

use super::raw::{exchange, request};
use crate::support::TestApp;

const QUERY: &str = "/api/ai-cache/query";

/// api.md "Authentication": the same reply for every token that is not accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_token_that_is_not_accepted_gets_the_same_reply() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let token = app.token(tenant.id, &[Role::App]).await;
    let unknown = BearerToken::new(TokenId(SystemIds.next(DateTime::UNIX_EPOCH)), [7; 32]);
    let known = BearerToken::parse(&token).unwrap();
    let wrong = BearerToken::new(known.id, [7; 32]);
    let other = if token.ends_with('x') { 'y' } else { 'x' };
    let typo = format!("{}{other}", &token[..token.len() - 1]);
    let values = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Basic {token}"),
        format!("Token {token}"),
        token.clone(),
        format!("Bearer  {token} {token}"),
        format!("Bearer {token}, Bearer {token}"),
        format!("Bearer {typo}"),
        format!("Bearer {}", token.to_uppercase()),
        format!("Bearer {}", *unknown.reveal()),
        format!("Bearer {}", *wrong.reveal()),
        "Bearer \u{e9}".to_owned(),
        format!("Bearer {}", "x".repeat(8_000)),
    ];
    let mut details = vec![app.client.ask("q").await.expect(401)];
    for value in values {
        details.push(app.client.with_header("authorization", &value).ask("q").await.expect(401));
    }
    for reply in &details {
        assert_eq!(reply.body["detail"], details[0].body["detail"]);
        assert_eq!(reply.problem(), "unauthenticated");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        assert_eq!(reply.header("x-audit-id"), None);
    }
    app.client.with_header("authorization", &format!("bEARER {token}")).ask("q").await.expect(200);
    app.stop().await;
}

/// Issue 2 "Bad input": two Authorization headers, even of the same good token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_authorization_headers_are_a_400() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let token = app.token(tenant.id, &[Role::App]).await;
    let value = format!("Bearer {token}");
    for second in [value.as_str(), "Basic eDp5", ""] {
        let caller = app
            .client
            .with_another_header("authorization", &value)
            .with_another_header("authorization", second);
        let reply = caller.ask("q").await.expect(400);
        assert_eq!(reply.problem(), "malformed-request");
    }
    app.stop().await;
}

/// RFC 9112 §2.2, §3.2: what is no HTTP is turned away without an answer of ours, never a 500.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_http_request_is_turned_away() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let long_path = format!("GET /{}", "x".repeat(200_000));
    let long_header = format!("X-Long: {}", "x".repeat(200_000));
    let many: Vec<String> = (0..500).map(|number| format!("X-{number}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let requests = [
        b"hello\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20),
        request(&long_path, &[], b""),
        request("GET /health", &[&long_header], b""),
        request("GET /health", &many, b""),
        request("GET /health", &["no colon"], b""),
        request("GET /he alth", &[], b""),
    ];
    for bytes in requests {
        let reply = exchange(&app, &bytes).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        assert!(matches!(reply.status, 0 | 400..=499), "{shown}: {reply:?}");
    }
    tenant.app.ask("it still serves").await.expect(200);
    app.stop().await;
}

/// A long path within what HTTP takes is simply not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_path_is_not_there() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let path = format!("/api/ai-cache/entries/{}", "x".repeat(30_000));
    tenant.admin.get(&path).await.expect(404);
    app.client.get(&format!("/{}", "y/".repeat(10_000))).await.expect(404);
    app.stop().await;
}

/// Issue 2 "Bad input": parameters are as strict as fields, and each comes once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_string_is_read_as_strictly_as_a_body() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let bad: &[(&str, u16, &[&str])] = &[
        ("/api/ai-cache/entries?limit=0", 422, &["/limit"]),
        ("/api/ai-cache/entries?limit=501", 422, &["/limit"]),
        ("/api/ai-cache/entries?limit=-1", 422, &["/limit"]),
        ("/api/ai-cache/entries?limit=1.5", 422, &["/limit"]),
        ("/api/ai-cache/entries?limit=", 422, &["/limit"]),
        ("/api/ai-cache/entries?limit=ten", 422, &["/limit"]),
        ("/api/ai-cache/entries?limit=99999999999999999999", 422, &["/limit"]),
        ("/api/ai-cache/entries?cursor=x", 422, &["/cursor"]),
        ("/api/ai-cache/entries?operation=poetry", 422, &["/operation"]),
        ("/api/ai-cache/entries?location=", 422, &["/location"]),
        ("/api/ai-cache/entries?tag=", 422, &["/tag"]),
        ("/api/ai-cache/entries?page=2", 422, &["/page"]),
        ("/api/ai-cache/entries?limit=0&cursor=x&page=2", 422, &["/cursor", "/limit", "/page"]),
        ("/api/ai-cache/entries?limit=1&limit=2", 400, &[]),
        ("/api/ai-cache/entries?limit=1&limit=1", 400, &[]),
        ("/api/ai-cache/entries?limit=1&%6cimit=1", 400, &[]),
        ("/api/ai-cache/statistics?operation=poetry", 422, &["/operation"]),
        ("/api/ai-cache/statistics?window=1h", 422, &["/window"]),
        ("/api/ai-cache/statistics?operation=chat&operation=chat", 400, &[]),
    ];
    for (path, status, pointers) in bad {
        let reply = tenant.admin.get(path).await;
        let mut named = reply.pointers();
        named.sort_unstable();
        assert_eq!((reply.status, named.as_slice()), (*status, *pointers), "{path}");
    }
    for path in ["?limit=500", "?limit=1&operation=chat", "?location=New%20York,+NY", "?"] {
        tenant.admin.get(&format!("/api/ai-cache/entries{path}")).await.expect(200);
    }
    for path in ["?tag=%ff", "?%ff=1", "?tag=%zz", "?tag=%", "?=x", "?&&", "?limit"] {
        let reply = tenant.admin.get(&format!("/api/ai-cache/entries{path}")).await;
        assert!(matches!(reply.status, 200 | 400 | 422), "{path}: {}", reply.text);
    }
    app.stop().await;
}

/// A header that is no text counts as the strictest: nothing is read from or put into the cache.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_control_header_that_is_no_text_bypasses_the_cache() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let token = app.token(tenant.id, &[Role::App]).await;
    let auth = format!("Authorization: Bearer {token}");
    let body = br#"{"query":"q"}"#;
    let mut bytes = request(
        &format!("POST {QUERY}"),
        &[&auth, "Content-Type: application/json", "Content-Length: 13", "Cache-Control: @"],
        body,
    );
    let at = bytes.iter().rposition(|byte| *byte == b'@').unwrap();
    bytes[at] = 0xff;
    let reply = exchange(&app, &bytes).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("x-cache"), Some("bypass"), "{reply:?}");
    app.stop().await;
}
