//! The wishes of a caller about the cache: `cache.mode`, `Cache-Control`, and the stricter of the
//! two (api.md "Query", RFC 9111).

use ai_cache::answering::Switch;
use ai_cache::app::AppSettings;
use serde_json::{Value, json};

use crate::support::{Client, TestApp};

/// One way to ask for a question whose answer is stored, and what becomes of it.
struct Case {
    cache: Value,
    header: &'static str,
    x_cache: &'static str,
    status: &'static str,
    renews: bool,
}

const fn case(
    cache: Value,
    header: &'static str,
    (x_cache, status): (&'static str, &'static str),
) -> Case {
    let renews = matches!(x_cache.as_bytes(), b"MISS");
    Case { cache, header, x_cache, status, renews }
}

const HIT: (&str, &str) = ("HIT", "ai-cache; hit; ttl=");
const RENEWED: (&str, &str) = ("MISS", "ai-cache; fwd=miss; stored");
const BYPASSED: (&str, &str) = ("BYPASS", "ai-cache; fwd=bypass");

fn cases() -> Vec<Case> {
    vec![
        case(Value::Null, "", HIT),
        case(json!({}), "", HIT),
        case(json!({ "mode": "default" }), "", HIT),
        case(json!({ "mode": "only-if-cached" }), "", HIT),
        case(json!({ "mode": "refresh" }), "", RENEWED),
        case(json!({ "mode": "bypass" }), "", BYPASSED),
        case(Value::Null, "only-if-cached", HIT),
        case(Value::Null, "no-cache", RENEWED),
        case(Value::Null, "no-store", BYPASSED),
        case(Value::Null, "No-Store", BYPASSED),
        case(Value::Null, "no-transform", HIT),
        case(Value::Null, "no-cache, no-store", BYPASSED),
        case(json!({ "mode": "default" }), "no-cache", RENEWED),
        case(json!({ "mode": "refresh" }), "no-store", BYPASSED),
        case(json!({ "mode": "bypass" }), "no-cache", BYPASSED),
    ]
}

fn with_header(client: &Client, header: &str) -> Client {
    if header.is_empty() { client.clone() } else { client.with_header("cache-control", header) }
}

/// api.md "Query": default, bypass, refresh, only-if-cached, in body and header.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn body_and_header_decide_together_whether_a_stored_answer_is_read_and_replaced() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    for (number, case) in cases().into_iter().enumerate() {
        let what = format!("{} with header {:?}", case.cache, case.header);
        let question = format!("question {number}");
        let first = tenant.app.ask(&question).await.expect(200);
        let calls = app.upstream.calls();

        let asking = json!({ "query": question, "cache": case.cache });
        let reply = with_header(&tenant.app, case.header).query(&asking).await.expect(200);
        let asked = app.upstream.calls() - calls;
        let after = tenant.app.ask(&question).await.expect(200);

        assert_eq!(reply.header("x-cache"), Some(case.x_cache), "{what}");
        let status = reply.header("cache-status").unwrap();
        assert!(status.starts_with(case.status), "{what}: {status}");
        let hit = case.x_cache == "HIT";
        assert_eq!(reply.body["cached"], hit, "{what}");
        assert_eq!(asked, usize::from(!hit), "{what}: calls of the upstream");
        assert_eq!(reply.header("age").is_some(), hit, "{what}");
        assert_eq!(after.body["cached"], true, "{what}");
        let renewed = after.body["entryId"] != first.body["entryId"];
        assert_eq!(renewed, case.renews, "{what}: whether the entry was replaced");
        if case.x_cache == "BYPASS" {
            assert_eq!(reply.body["entryId"], Value::Null, "{what}");
            assert_eq!(reply.body["expiresIn"], 0, "{what}");
            assert_eq!(reply.body["costSavedUsd"], "0", "{what}");
        }
    }
    app.stop().await;
}

/// RFC 9110 §5.3: header lines of one name are one list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_cache_control_lines_count_together() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    tenant.app.ask("a question").await.expect(200);
    let caller = tenant
        .app
        .with_another_header("cache-control", "no-store")
        .with_another_header("cache-control", "max-age=3600");
    let reply = caller.ask("a question").await.expect(200);
    assert_eq!(reply.header("x-cache"), Some("BYPASS"));
    app.stop().await;
}

/// RFC 9111 §5.2.1.7: 504 on a miss, and nothing is asked or made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_if_cached_never_asks_the_upstream_and_makes_no_persons_key() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let polite = tenant.app.with_header("cache-control", "only-if-cached");
    let asked = [
        polite.ask("a question").await,
        polite.query(&json!({ "query": "a question", "subjectId": "couple-4711" })).await,
        tenant
            .app
            .query(&json!({ "query": "a question", "cache": { "mode": "only-if-cached" } }))
            .await,
    ];
    for reply in asked {
        assert_eq!(reply.expect(504).problem(), "not-cached");
    }
    assert_eq!(app.upstream.calls(), 0);
    assert_eq!(app.db.count("SELECT count(*) FROM subject_keys").await, 0);
    assert_eq!(app.db.count("SELECT count(*) FROM ai_cache_entries").await, 0);
    app.stop().await;
}

/// api.md "Query": `only-if-cached` never calls the upstream, also when no cached answer is
/// acceptable, or none is looked for because the cache is switched off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_if_cached_beside_what_bars_the_cache_is_a_504() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    tenant.app.ask("a question").await.expect(200);
    let both = [
        ("only-if-cached", "no-cache"),
        ("only-if-cached", "no-store"),
        ("refresh", "only-if-cached"),
        ("bypass", "only-if-cached"),
    ];
    for (mode, header) in both {
        let asking = json!({ "query": "a question", "cache": { "mode": mode } });
        let caller = tenant.app.with_header("cache-control", header);
        assert_eq!(caller.query(&asking).await.expect(504).problem(), "not-cached", "{mode}");
    }
    assert_eq!(app.upstream.calls(), 1);
    app.stop().await;

    let off = |settings: &mut AppSettings| settings.switch = Switch::PassThrough;
    let app = TestApp::builder().settings(off).start().await;
    let tenant = app.tenant("acme").await;
    let polite = tenant.app.with_header("cache-control", "only-if-cached");
    assert_eq!(polite.ask("a question").await.expect(504).problem(), "not-cached");
    assert_eq!(app.upstream.calls(), 0);
    app.stop().await;
}

/// api.md "Query": bypass neither reads nor stores, not even a key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bypass_leaves_nothing_behind_but_its_record() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let asking = json!({ "query": "a question", "subjectId": "couple-4711",
        "cache": { "mode": "bypass" } });
    let first = tenant.app.query(&asking).await.expect(200);
    let second = tenant.app.query(&asking).await.expect(200);
    assert_ne!(first.body["data"], second.body["data"]);
    assert_eq!(app.upstream.calls(), 2);
    assert_eq!(app.db.count("SELECT count(*) FROM ai_cache_entries").await, 0);
    assert_eq!(app.db.count("SELECT count(*) FROM subject_keys").await, 0);
    let records = "SELECT count(*) FROM ai_cache_audit_logs
         WHERE action = 'query' AND outcome = 'bypass' AND entry_id IS NOT NULL";
    assert_eq!(app.db.count(records).await, 2);
    app.stop().await;
}
