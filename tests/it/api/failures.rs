//! Queries without a good answer: the upstream fails, stops short, is switched off or does not
//! exist. Also what the upstream is told when all is well (api.md "Query").

use std::sync::Arc;
use std::time::Duration;

use ai_cache::answering::Switch;
use ai_cache::domain::clock::SystemClock;
use ai_cache::upstream::{OpenAi, OpenAiSettings};
use serde_json::{Value, json};

use crate::support::app::PRICES;
use crate::support::upstream::{TestUpstream, completion};
use crate::support::{Builder, TestApp};

async fn entries(app: &TestApp) -> i64 {
    app.db.count("SELECT count(*) FROM ai_cache_entries").await
}

/// Describes a service whose upstream must answer within `timeout`.
fn with_limit(fake: &TestUpstream, timeout: Duration) -> Builder {
    let settings = OpenAiSettings {
        base_url: fake.url().to_owned(),
        name: "openai".to_owned(),
        api_key: None,
        model: "gpt-4o-mini".to_owned(),
        timeout,
        prices: PRICES,
    };
    TestApp::builder().upstream(Arc::new(OpenAi::new(settings, Arc::new(SystemClock)).unwrap()))
}

/// Issue 2 item 6: only complete, untruncated answers are stored; what was cut off is handed out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_cut_off_is_handed_out_but_not_stored() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    app.upstream.then_truncated();
    let cut = tenant.app.ask("a question").await.expect(200);
    assert_eq!(cut.body["data"]["response"], "a beginning");
    assert_eq!(cut.header("cache-status"), Some("ai-cache; fwd=miss"));
    assert_eq!(
        (cut.body["expiresIn"].clone(), cut.body["entryId"].clone()),
        (json!(0), Value::Null)
    );
    assert_eq!(entries(&app).await, 0);
    let whole = tenant.app.ask("a question").await.expect(200);
    assert_eq!(whole.body["cached"], false);
    assert_eq!(whole.header("cache-status"), Some("ai-cache; fwd=miss; stored"));
    app.stop().await;
}

/// api.md "Query": 502 for a bad answer, with the upstream's status; nothing of it is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_fails_is_a_502_and_is_asked_again_next_time() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    for _ in 0..3 {
        app.upstream.then_status(500, None);
    }
    let failed = tenant.app.ask("a question").await.expect(502);
    assert_eq!(failed.problem(), "upstream-failed");
    assert_eq!(failed.body["detail"], "the upstream failed with status 500");
    assert!(failed.header("x-audit-id").is_some());
    app.upstream.then_status(400, None);
    let refused = tenant.app.ask("a question").await.expect(502);
    assert_eq!(refused.body["detail"], "the upstream refused the request with status 400");
    app.upstream.then_garbage();
    let garbage = tenant.app.ask("a question").await.expect(502);
    for reply in [&failed, &refused, &garbage] {
        assert!(!reply.text.contains("words of"), "{}", reply.text);
    }
    assert_eq!(entries(&app).await, 0);
    let answered = tenant.app.ask("a question").await.expect(200);
    assert_eq!(answered.body["cached"], false);
    app.stop().await;
}

/// api.md "Query": 504 for a time-out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_takes_too_long_is_a_504() {
    let fake = TestUpstream::start().await;
    let app = with_limit(&fake, Duration::from_millis(100)).start().await;
    let tenant = app.tenant("acme").await;
    fake.then_hang();
    let late = tenant.app.ask("a question").await.expect(504);
    assert_eq!(late.problem(), "upstream-timeout");
    assert_eq!(entries(&app).await, 0);
    app.stop().await;
}

/// An upstream's 401 is ours to mend, not the caller's token: it must not look like one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_refuses_our_key_is_a_502_and_not_a_401() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    for status in [401, 403, 404, 409] {
        app.upstream.then_status(status, None);
        let reply = tenant.app.ask("a question").await.expect(502);
        assert_eq!(reply.header("www-authenticate"), None);
    }
    app.stop().await;
}

/// Issue 2 item 6: AI_CACHE_ENABLED=false passes through, audited.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_is_switched_off_passes_every_question_on_and_stores_nothing() {
    let app =
        TestApp::builder().settings(|settings| settings.switch = Switch::PassThrough).start().await;
    let tenant = app.tenant("acme").await;
    for _ in 0..3 {
        let reply = tenant.app.ask("a question").await.expect(200);
        assert_eq!(reply.header("x-cache"), Some("BYPASS"));
        assert_eq!(reply.header("cache-status"), Some("ai-cache; fwd=bypass"));
        assert_eq!(reply.body["cacheSource"], "openai");
    }
    assert_eq!(app.upstream.calls(), 3);
    assert_eq!(entries(&app).await, 0);
    let records = "SELECT count(*) FROM ai_cache_audit_logs
         WHERE action = 'query' AND outcome = 'bypass'";
    assert_eq!(app.db.count(records).await, 3);
    let statistics = tenant.admin.get("/api/ai-cache/statistics").await.expect(200);
    assert_eq!(statistics.body["enabled"], false);
    assert_eq!(app.client.get("/health/cache").await.expect(200).body["enabled"], false);
    app.stop().await;
}

/// api.md "Query": no upstream configured (cache-aside).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_upstream_a_miss_is_a_reply_without_an_answer() {
    let app = TestApp::builder().no_upstream().start().await;
    let tenant = app.tenant("acme").await;
    for mode in ["default", "refresh", "bypass"] {
        let asking = json!({ "query": "a question", "cache": { "mode": mode } });
        let reply = tenant.app.query(&asking).await.expect(200);
        assert_eq!(reply.body["success"], true, "{mode}");
        assert_eq!(reply.body["data"], Value::Null, "{mode}");
        assert_eq!(reply.body["cacheSource"], "none", "{mode}");
        assert_eq!(reply.body["cached"], false, "{mode}");
        assert_eq!(reply.header("x-cache"), Some("MISS"), "{mode}");
        assert_eq!(reply.header("cache-status"), Some("ai-cache; fwd=miss"), "{mode}");
    }
    let records = "SELECT count(*) FROM ai_cache_audit_logs
         WHERE action = 'query' AND outcome = 'not-cached'";
    assert_eq!(app.db.count(records).await, 3);
    app.stop().await;
}

/// api.md "Query": one system message, one user message, never the subject.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_upstream_is_told_the_question_and_its_context_but_never_the_person() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let asking = json!({
        "query": "Best photographers in NYC",
        "subjectId": "couple-4711",
        "model": "gpt-4o",
        "parameters": { "temperature": 0.5, "seed": 7 },
        "weddingContext": { "zeal": { "b": [1, true], "a": null }, "guestCount": 120, "about": "us",
            "weddingDate": "2027-06-12", "budget": 5000.50, "vendorTypes": ["Venue", "dj"],
            "location": "New York, NY" } });
    tenant.app.query(&asking).await.expect(200);
    let requests = app.upstream.requests();
    assert_eq!(requests.len(), 1);
    let sent = &requests[0];
    assert!(!sent.text.contains("couple-4711"), "{}", sent.text);
    assert!(sent.headers.iter().all(|(_, value)| !value.contains("couple-4711")));
    let messages = sent.body["messages"].as_array().unwrap();
    let roles: Vec<&str> = messages.iter().map(|one| one["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user"]);
    let told = "Best photographers in NYC\n\nlocation: New York, NY\nvendorTypes: dj, venue\n\
                budget: 5000.5\nweddingDate: 2027-06-12\nguestCount: 120\nabout: us\n\
                zeal: {\"a\":null,\"b\":[1,true]}";
    assert_eq!(messages[1]["content"], told);
    assert_eq!(sent.body["model"], "gpt-4o");
    assert_eq!((&sent.body["temperature"], &sent.body["seed"]), (&json!(0.5), &json!(7)));
    app.stop().await;
}

/// api.md "Query": every field of a reply, and what a repeated answer saved: 31 and 412 tokens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_has_every_field_of_the_contract() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let caller = tenant.app.with_header("x-request-id", id);
    app.upstream.then_json(completion("\"quoted\", {braced} and \u{1f490}\nlines", "stop"));
    let miss = caller.ask("a question").await.expect(200);
    let hit = caller.ask("a question").await.expect(200);
    let data = json!({ "response": "\"quoted\", {braced} and \u{1f490}\nlines",
        "model": "gpt-4o-mini", "usage": { "promptTokens": 31, "completionTokens": 412 } });
    let wanted = |source: &str, cached: bool, saved: &str, reply: &Value| {
        json!({ "success": true, "data": data, "cached": cached, "cacheSource": source,
            "cacheAge": reply["cacheAge"], "expiresIn": reply["expiresIn"], "stale": false,
            "match": if cached { json!("exact") } else { Value::Null },
            "entryId": reply["entryId"], "costSavedUsd": saved, "requestId": id })
    };
    assert_eq!(miss.body, wanted("openai", false, "0", &miss.body));
    assert_eq!(hit.body, wanted("hot", true, "0.00025185", &hit.body));
    for reply in [&miss, &hit] {
        assert_eq!(reply.header("x-request-id"), Some(id));
        assert!(reply.header("x-audit-id").is_some());
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }
    assert_ne!(miss.header("x-audit-id"), hit.header("x-audit-id"));
    let records = format!("SELECT count(*) FROM ai_cache_audit_logs WHERE request_id = '{id}'");
    assert_eq!(app.db.count(&records).await, 3, "a miss, its fill and a hit");
    app.stop().await;
}

/// api.md: an id that is none is not taken from the request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_id_that_is_none_is_replaced() {
    let app = TestApp::start().await;
    for bad in ["x", "", "01890a5d", "not-a-uuid\u{e9}"] {
        let reply = app.client.with_header("x-request-id", bad).get("/health").await.expect(200);
        let made = reply.header("x-request-id").unwrap();
        assert!(made != bad && made.len() == 36, "{made}");
    }
    app.stop().await;
}
