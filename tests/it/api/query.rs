//! `POST /api/ai-cache/query` (W2, issue 2).

use serde_json::json;

use crate::support::TestApp;

/// W2: first from the upstream, then from memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_answered_by_the_upstream_once_and_then_from_memory() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let question = json!({ "query": "Best photographers in NYC",
        "weddingContext": { "location": "New York, NY", "vendorTypes": ["photographer"], "budget": 5000 } });

    let first = tenant.app.query(&question).await.expect(200);
    let second = tenant.app.query(&question).await.expect(200);

    assert_eq!(first.body["cached"], false);
    assert_eq!(first.body["cacheSource"], "openai");
    assert_eq!(first.header("x-cache"), Some("MISS"));
    assert_eq!(first.header("cache-status"), Some("ai-cache; fwd=miss; stored"));
    assert_eq!(second.body["cached"], true);
    assert_eq!(second.body["cacheSource"], "hot");
    assert_eq!(second.header("x-cache"), Some("HIT"));
    assert_eq!(second.body["data"], first.body["data"]);
    assert_eq!(second.body["entryId"], first.body["entryId"]);
    assert_eq!(second.body["costSavedUsd"], "0.00025185");
    assert_eq!(app.upstream.calls(), 1);
    app.stop().await;
}
