//! The routes that need no token: health, metrics, the API document and its browser (api.md).

use std::collections::BTreeSet;

use ai_cache::http::Monitoring;
use ai_cache::http::openapi;
use serde_json::{Value, json};

use super::raw::{exchange, request};
use crate::support::{TestApp, wait_until};

/// The value of a series.
/// The value of a series, told with its labels.
pub fn series(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not there:\n{text}")).parse().unwrap()
}

/// api.md "Operators": what each health route says while all is well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_tells_that_all_is_well() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    for path in ["/health", "/api/health"] {
        assert_eq!(app.client.get(path).await.expect(200).body, json!({ "status": "ok" }));
    }
    let ready = app.client.get("/health/ready").await.expect(200);
    let wanted = json!({ "status": "ready", "postgres": "up", "audit": "up", "erasures": "up" });
    assert_eq!(ready.body, wanted);
    tenant.app.ask("a question").await.expect(200);
    for _ in 0..3 {
        tenant.app.ask("a question").await.expect(200);
    }
    let cache = app.client.get("/health/cache").await.expect(200);
    let body = &cache.body;
    assert_eq!((&body["status"], &body["enabled"]), (&json!("ok"), &json!(true)));
    assert_eq!((&body["audit"], &body["upstream"]), (&json!("up"), &json!("openai")));
    assert_eq!((&body["hitRate"], &body["insecure"]), (&json!(0.75), &json!([])));
    let states = ["hot", "warm", "cold"].map(|tier| body["tiers"][tier]["state"].clone());
    assert_eq!(states, ["up", "off", "up"].map(Value::from));
    assert_eq!(body["tiers"]["hot"]["entries"], 1);
    assert!(body["tiers"]["cold"]["latencyMs"].as_f64().unwrap() > 0.0);
    assert!(!cache.text.contains("acme"), "{}", cache.text);
    app.stop().await;
}

/// W12: the names that dashboards and alert rules read, exactly, and from the start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_have_their_exact_names_and_true_values() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let empty = app.client.get("/api/metrics").await.expect(200);
    for name in ["ai_cache_hit_rate", "ai_cache_memory_usage", "ai_cache_misses_total"] {
        assert_eq!(series(&empty.text, name).to_bits(), 0_f64.to_bits(), "{name}");
    }
    for _ in 0..4 {
        tenant.app.ask("a question").await.expect(200);
    }
    tenant.app.with_header("cache-control", "no-store").ask("q").await.expect(200);
    app.client.ask("q").await.expect(401);
    // The refused request waits for nothing, its record comes when it comes.
    let reply = wait_until("every record is counted", || async {
        let reply = app.client.get("/api/metrics").await.expect(200);
        (series(&reply.text, "ai_cache_audit_records_total") > 6.0).then_some(reply)
    })
    .await;
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = &reply.text;
    let query = "route=\"/api/ai-cache/query\",status_class";
    let wanted = [
        ("ai_cache_hit_rate".to_owned(), 0.75),
        ("ai_cache_hits_total{tier=\"hot\"}".to_owned(), 3.0),
        ("ai_cache_hits_total{tier=\"warm\"}".to_owned(), 0.0),
        ("ai_cache_hits_total{tier=\"cold\"}".to_owned(), 0.0),
        ("ai_cache_misses_total".to_owned(), 1.0),
        ("ai_cache_stored_total".to_owned(), 1.0),
        ("ai_cache_stale_total".to_owned(), 0.0),
        ("ai_cache_evicted_total{reason=\"unusable\"}".to_owned(), 0.0),
        ("ai_cache_evicted_total{reason=\"idle\"}".to_owned(), 0.0),
        ("ai_cache_proven".to_owned(), 1.0),
        ("ai_cache_unproven_seconds".to_owned(), 0.0),
        ("ai_cache_upstream_calls_total{outcome=\"ok\"}".to_owned(), 2.0),
        ("ai_cache_response_time_count{result=\"hit\"}".to_owned(), 3.0),
        ("ai_cache_response_time_count{result=\"miss\"}".to_owned(), 1.0),
        ("ai_cache_response_time_count{result=\"other\"}".to_owned(), 1.0),
        ("ai_cache_response_time_bucket{result=\"hit\",le=\"+Inf\"}".to_owned(), 3.0),
        ("ai_cache_audit_available".to_owned(), 1.0),
        ("ai_cache_audit_failures_total".to_owned(), 0.0),
        ("ai_cache_audit_records_total".to_owned(), 7.0),
        ("ai_cache_auth_failures_total{reason=\"missing\"}".to_owned(), 1.0),
        ("ai_cache_integrity_failures_total".to_owned(), 0.0),
        ("ai_cache_hot_entries".to_owned(), 1.0),
        (format!("ai_cache_requests_total{{{query}=\"2xx\"}}"), 5.0),
        (format!("ai_cache_requests_total{{{query}=\"4xx\"}}"), 1.0),
    ];
    for (name, value) in wanted {
        assert!(
            (series(text, &name) - value).abs() < 1e-9,
            "{name} is {} and not {value}",
            series(text, &name)
        );
    }
    assert!(series(text, "ai_cache_memory_usage") > 600.0);
    assert!(series(text, "ai_cache_response_time_sum{result=\"hit\"}") > 0.0);
    assert!(text.contains("# TYPE ai_cache_response_time histogram"));
    assert!(text.contains("# TYPE ai_cache_hit_rate gauge"));
    app.stop().await;
}

/// docs/LOGGING.md: labels come from closed sets, so nothing a client writes becomes one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_write_never_becomes_a_label() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    for path in ["/marker", "/api/ai-cache/marker", "/api/ai-cache/entries/marker"] {
        tenant.admin.get(path).await.expect(404);
        tenant.admin.send("BREW", path).await;
    }
    let asking = json!({ "query": "marker", "subjectId": "marker", "model": "marker" });
    tenant.app.query(&asking).await.expect(200);
    let text = app.client.get("/api/metrics").await.expect(200).text;
    assert!(!text.contains("marker") && !text.contains("acme"), "{text}");
    let labels: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("ai_cache_requests_total{route=\"")?.split('"').next())
        .collect();
    let wanted = ["/api/ai-cache/entries/{entryId}", "/api/ai-cache/query", "other"];
    assert_eq!(labels, BTreeSet::from(wanted));
    app.stop().await;
}

/// W6: AI_CACHE_MONITORING_ENABLED=false.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_that_are_switched_off_are_not_there() {
    let app =
        TestApp::builder().settings(|settings| settings.monitoring = Monitoring::Off).start().await;
    assert_eq!(app.client.get("/api/metrics").await.expect(404).problem(), "not-found");
    app.client.get("/health").await.expect(200);
    app.stop().await;
}

/// api.md: the document is served as it is printed, and can be browsed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_document_is_served_and_browsable() {
    let app = TestApp::start().await;
    let served = app.client.get("/api/openapi.json").await.expect(200);
    assert_eq!(served.text, openapi::text().unwrap());
    let moved = exchange(&app, &request("GET /api/docs", &[], b"")).await;
    assert_eq!(moved.header("location"), Some("/api/docs/"), "{moved:?}");
    assert!((301..=308).contains(&moved.status), "{moved:?}");
    let page = app.client.get("/api/docs/").await.expect(200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    assert!(page.text.contains("swagger-ui"), "{}", page.text);
    let browsed = app.client.get("/api/docs/openapi.json").await.expect(200);
    assert_eq!(browsed.body, served.body);
    for file in ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
        let reply = app.client.get(&format!("/api/docs/{file}")).await.expect(200);
        assert!(!reply.text.is_empty(), "{file}");
    }
    for path in ["/api/docs/nothing", "/api/docs/..%2f..%2fetc%2fpasswd"] {
        let reply = exchange(&app, &request(&format!("GET {path}"), &[], b"")).await;
        assert_eq!(reply.status, 404, "{path}: {reply:?}");
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{path}");
    }
    app.stop().await;
}
