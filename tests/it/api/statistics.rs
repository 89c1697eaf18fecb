//! `GET /api/ai-cache/statistics`: numbers that are true after a known sequence (api.md).

use serde_json::{Value, json};

use crate::support::{Client, TestApp};

async fn statistics(caller: &Client, parameters: &str) -> Value {
    caller.get(&format!("/api/ai-cache/statistics{parameters}")).await.expect(200).body
}

/// The counts of a body, without what depends on time and size.
fn counts(body: &Value) -> Value {
    let names = [
        "enabled",
        "hits",
        "misses",
        "hitRate",
        "cacheSize",
        "costSavedUsd",
        "tokensSaved",
        "invalidations",
        "errors",
        "upstreamCalls",
        "collapsed",
    ];
    names.iter().map(|name| ((*name).to_owned(), body[*name].clone())).collect()
}

/// api.md: hits, misses, errors, calls and savings are what happened, of this tenant only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_are_true_after_a_known_sequence() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant("acme").await, app.tenant("globex").await);
    for question in ["one", "two"] {
        tenant.app.ask(question).await.expect(200);
    }
    for _ in 0..3 {
        tenant.app.ask("one").await.expect(200);
    }
    let chat = json!({ "query": "three", "operation": "chat" });
    tenant.app.query(&chat).await.expect(200);
    tenant.app.query(&chat).await.expect(200);
    tenant.app.with_header("cache-control", "no-store").ask("one").await.expect(200);
    tenant.app.with_header("cache-control", "only-if-cached").ask("four").await.expect(504);
    app.upstream.then_status(400, None);
    tenant.app.ask("five").await.expect(502);
    tenant.app.query(&json!({ "query": "" })).await.expect(422);
    let entry = tenant.app.ask("two").await.expect(200).body["entryId"].clone();
    tenant.admin.post("/api/ai-cache/invalidate", &json!({ "entryId": entry })).await.expect(200);

    let all = statistics(&tenant.admin, "").await;
    let wanted = json!({ "enabled": true, "hits": 5, "misses": 4, "hitRate": 5.0 / 9.0,
        "cacheSize": 2, "costSavedUsd": "0.00125925", "tokensSaved": 5 * 443, "invalidations": 1,
        "errors": 1, "upstreamCalls": 5, "collapsed": 0 });
    assert_eq!(counts(&all), wanted);
    let hits = |tier: &str| all["byTier"][tier]["hits"].clone();
    assert_eq!([hits("hot"), hits("warm"), hits("cold")], [json!(5), json!(0), json!(0)]);
    assert_eq!(all["byTier"]["hot"]["entries"], 2);
    assert_eq!(all["byTier"]["cold"]["entries"], 2);
    assert_eq!(all["byTier"]["cold"]["bytes"], all["cacheBytes"]);

    let chat = statistics(&tenant.admin, "?operation=chat").await;
    assert_eq!((&chat["hits"], &chat["misses"]), (&json!(1), &json!(1)));
    let none = statistics(&other.admin, "").await;
    assert_eq!(
        (&none["hits"], &none["misses"], &none["hitRate"]),
        (&json!(0), &json!(0), &json!(0.0))
    );
    assert_eq!((&none["cacheSize"], &none["upstreamCalls"]), (&json!(0), &json!(0)));
    app.stop().await;
}

/// api.md: times of replies in milliseconds, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn response_times_are_in_milliseconds_and_in_order() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let none = statistics(&tenant.admin, "").await;
    for name in ["average", "p50", "p95", "p99"] {
        assert_eq!(none[format!("{name}ResponseTime")], 0.0, "{name}");
    }
    for _ in 0..20 {
        tenant.app.ask("a question").await.expect(200);
    }
    let body = statistics(&tenant.admin, "").await;
    let time = |name: &str| body[format!("{name}ResponseTime")].as_f64().unwrap();
    let (p50, p95, p99) = (time("p50"), time("p95"), time("p99"));
    assert!(0.0 < p50 && p50 <= p95 && p95 <= p99, "{p50} {p95} {p99}");
    assert!(time("average") > 0.0 && p99 < 20_000.0, "{body}");
    let at = |name: &str| body["window"][name].as_str().unwrap().to_owned();
    assert!(at("from") < at("to"), "{body}");
    app.stop().await;
}
