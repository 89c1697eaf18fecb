//! The tier that answers (api.md "Query", architecture.md §2).

use ai_cache::embedded::Listen;
use serde_json::{Value, json};

use crate::support::services::{COUNT_VALUES, start_redis};
use crate::support::{Reply, TestApp, wait_until};

async fn keys_in_redis(url: &str) -> u64 {
    let client = deadpool_redis::redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut count = deadpool_redis::redis::cmd("EVAL");
    count.arg(COUNT_VALUES).arg(0).query_async(&mut connection).await.unwrap()
}

/// Issue 2 "Must show": after a restart of the service, `cold`; then from memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_an_answer_comes_from_postgres_and_then_from_memory() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let token = app.token(tenant.id, &[ai_cache::domain::caller::Role::App]).await;
    let asking = json!({ "query": "a question", "subjectId": "couple-4711" });
    let first = tenant.app.query(&asking).await.expect(200);
    let db = app.db.clone();
    app.stop().await;

    let app = TestApp::builder().db(&db).start().await;
    let caller = app.client.with_token(&token);
    let cold = caller.query(&asking).await.expect(200);
    let hot = caller.query(&asking).await.expect(200);
    assert_eq!(
        (&cold.body["cacheSource"], &hot.body["cacheSource"]),
        (&json!("cold"), &json!("hot"))
    );
    let status = format!("ai-cache; hit; ttl={}; detail=cold", cold.body["expiresIn"]);
    assert_eq!(cold.header("cache-status"), Some(status.as_str()));
    for reply in [&cold, &hot] {
        assert_eq!(reply.body["data"], first.body["data"]);
        assert_eq!(reply.body["entryId"], first.body["entryId"]);
        assert_eq!(reply.body["costSavedUsd"], "0.00025185");
    }
    assert_eq!(app.upstream.calls(), 0);
    app.stop().await;
}

/// Issue 2 item 6: hot → warm → cold; another replica finds in Redis what one stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_replica_answers_from_redis() {
    let redis = start_redis(Listen::Unix).await;
    let app = TestApp::builder().redis_url(&redis.url()).start().await;
    let tenant = app.tenant("acme").await;
    let token = app.token(tenant.id, &[ai_cache::domain::caller::Role::App]).await;
    let first = tenant.app.ask("a question").await.expect(200);
    wait_until("the answer is in Redis", || async {
        (keys_in_redis(&redis.url()).await == 1).then_some(())
    })
    .await;

    let other = TestApp::builder().db(&app.db).redis_url(&redis.url()).start().await;
    let caller = other.client.with_token(&token);
    let warm = caller.ask("a question").await.expect(200);
    assert_eq!(warm.body["cacheSource"], "warm");
    assert!(warm.header("cache-status").unwrap().ends_with("; detail=warm"));
    assert_eq!(warm.body["data"], first.body["data"]);
    assert_eq!(caller.ask("a question").await.expect(200).body["cacheSource"], "hot");
    assert_eq!(other.upstream.calls(), 0);

    let health = other.client.get("/health/cache").await.expect(200);
    let states = ["hot", "warm", "cold"].map(|tier| health.body["tiers"][tier]["state"].clone());
    assert_eq!(states, ["up", "up", "up"].map(Value::from));
    other.stop().await;
    app.stop().await;
}

/// Issue 2 item 6: what Postgres answers is in Redis for the next replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_postgres_answers_moves_up_into_redis() {
    let redis = start_redis(Listen::Unix).await;
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let token = app.token(tenant.id, &[ai_cache::domain::caller::Role::App]).await;
    tenant.app.ask("a question").await.expect(200);
    assert_eq!(keys_in_redis(&redis.url()).await, 0);
    let other = TestApp::builder().db(&app.db).redis_url(&redis.url()).start().await;
    let reply = other.client.with_token(&token).ask("a question").await.expect(200);
    assert_eq!(reply.body["cacheSource"], "cold");
    wait_until("the answer is in Redis", || async {
        (keys_in_redis(&redis.url()).await == 1).then_some(())
    })
    .await;
    other.stop().await;
    app.stop().await;
}

/// Architecture §2: Redis is a convenience; without it answers come from below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_everything_is_served_and_health_says_so() {
    let nowhere = "redis://127.0.0.1:1";
    let app = TestApp::builder().redis_url(nowhere).start().await;
    let tenant = app.tenant("acme").await;
    let first = tenant.app.ask("a question").await.expect(200);
    let second = tenant.app.ask("a question").await.expect(200);
    assert_eq!(first.header("cache-status"), Some("ai-cache; fwd=miss; stored"));
    assert_eq!(second.body["cacheSource"], "hot");
    let health = app.client.get("/health/cache").await.expect(200);
    assert_eq!(health.body["tiers"]["warm"]["state"], "down");
    assert_eq!(health.body["status"], "degraded");
    app.client.get("/health/ready").await.expect(200);
    app.stop().await;
}

/// Issue 2 item 6: callers of one missing question share one call, and all counts agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_replies_say_of_shared_fetches_is_what_is_counted() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    app.upstream.hold();
    let callers = (0..50).map(|_| tenant.app.ask("a question"));
    let (replies, ()) = tokio::join!(futures_util::future::join_all(callers), async {
        app.upstream.wait_for_calls(1).await;
        app.upstream.release();
    });
    let status = |reply: &Reply| reply.header("cache-status").unwrap().to_owned();
    let statuses: Vec<String> = replies.iter().map(status).collect();
    let count = |wanted: &str| statuses.iter().filter(|text| text.starts_with(wanted)).count();
    let collapsed = count("ai-cache; fwd=miss; stored; collapsed");
    let (misses, hits) = (count("ai-cache; fwd=miss; stored"), count("ai-cache; hit; "));
    assert_eq!((misses - collapsed, misses + hits), (1, 50), "{statuses:?}");
    assert_eq!(app.upstream.calls(), 1);
    let counted = tenant.admin.get("/api/ai-cache/statistics").await.expect(200).body;
    let names = ["collapsed", "misses", "hits", "upstreamCalls"].map(|name| counted[name].clone());
    assert_eq!(names, [collapsed, misses, hits, 1].map(Value::from));
    app.stop().await;
}
