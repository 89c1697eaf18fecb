//! Sealed bytes in the wrong place do not open (W9): 0 answers from the wrong entry.

use ai_cache::embedded::{Listen, Redis};
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::cmd;

use crate::support::services::start_redis;
use crate::support::{TestApp, wait_until};

const FIRST: &str = "the first question";
const SECOND: &str = "the second question";

fn answers(app: &TestApp) {
    app.upstream.answer_with(|asked| format!("the answer to {asked}"));
}

async fn redis_of(redis: &Redis) -> MultiplexedConnection {
    let client = deadpool_redis::redis::Client::open(redis.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn integrity_failures(app: &TestApp) -> i64 {
    let query = "SELECT count(*) FROM ai_cache_audit_logs WHERE outcome = 'integrity-failure'";
    app.db.count(query).await
}

/// Two entries' sealed answers swapped in Postgres: each question still gets its own answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_swapped_in_postgres_are_not_served() {
    let first = TestApp::start().await;
    answers(&first);
    let tenant = first.tenant("acme").await;
    for question in [FIRST, SECOND] {
        tenant.app.ask(question).await.expect(200);
    }
    let token = first.token(tenant.id, &[ai_cache::domain::caller::Role::App]).await;
    let db = first.db.clone();
    first.stop().await;
    let swap = "UPDATE ai_cache_entries e SET answer_sealed = o.answer_sealed
                FROM ai_cache_entries o WHERE o.tenant_id = e.tenant_id AND o.entry_id <> e.entry_id";
    assert_eq!(db.superuser().await.execute(swap, &[]).await.unwrap(), 2);

    let second = TestApp::builder().db(&db).start().await;
    answers(&second);
    let caller = second.client.with_token(&token);
    let mut wrong = 0;
    for question in [FIRST, SECOND] {
        let reply = caller.ask(question).await.expect(200);
        wrong += u32::from(reply.body["data"]["response"] != format!("the answer to {question}"));
        assert_eq!(reply.body["cached"], false);
    }
    println!(
        "answers from the wrong entry: {wrong}, integrity failures: {}",
        integrity_failures(&second).await
    );
    assert_eq!((wrong, integrity_failures(&second).await), (0, 2));
    assert_eq!(second.upstream.calls(), 2);
    second.stop().await;
}

/// A lifetime prolonged and a byte flipped in Postgres: neither opens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prolonged_lifetime_and_a_flipped_byte_do_not_open() {
    for change in [
        "UPDATE ai_cache_entries SET expires_at = expires_at + interval '1 year'",
        "UPDATE ai_cache_entries SET answer_sealed = set_byte(answer_sealed, 100, get_byte(answer_sealed, 100) # 1)",
        "UPDATE ai_cache_entries SET cost_picousd = cost_picousd + 1",
    ] {
        let first = TestApp::start().await;
        let tenant = first.tenant("acme").await;
        tenant.app.ask(FIRST).await.expect(200);
        let token = first.token(tenant.id, &[ai_cache::domain::caller::Role::App]).await;
        let db = first.db.clone();
        first.stop().await;
        assert_eq!(db.superuser().await.execute(change, &[]).await.unwrap(), 1);
        let second = TestApp::builder().db(&db).start().await;
        let reply = second.client.with_token(&token).ask(FIRST).await.expect(200);
        assert_eq!(
            (&reply.body["cached"], second.upstream.calls()),
            (&false.into(), 1),
            "{change}"
        );
        assert_eq!(integrity_failures(&second).await, 1, "{change}");
        second.stop().await;
    }
}

/// The same with two values swapped in Redis, of one tenant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_swapped_in_redis_are_not_served() {
    let redis = start_redis(Listen::Unix).await;
    let first = TestApp::builder().redis_url(&redis.url()).start().await;
    answers(&first);
    let tenant = first.tenant("acme").await;
    for question in [FIRST, SECOND] {
        tenant.app.ask(question).await.expect(200);
    }
    let mut connection = redis_of(&redis).await;
    let keys: Vec<Vec<u8>> = wait_until("both values are in Redis", || {
        let mut connection = connection.clone();
        async move {
            let keys: Vec<Vec<u8>> =
                cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
            (keys.len() == 2).then_some(keys)
        }
    })
    .await;
    let mut values = Vec::new();
    for key in &keys {
        let value: Vec<u8> = cmd("GET").arg(key).query_async(&mut connection).await.unwrap();
        values.push(value);
    }
    for (key, value) in keys.iter().zip(values.iter().rev()) {
        let set = cmd("SET").arg(key).arg(value).clone();
        set.query_async::<()>(&mut connection).await.unwrap();
    }
    let token = first.token(tenant.id, &[ai_cache::domain::caller::Role::App]).await;
    let db = first.db.clone();
    first.stop().await;

    let second = TestApp::builder().db(&db).redis_url(&redis.url()).start().await;
    answers(&second);
    let caller = second.client.with_token(&token);
    let mut wrong = 0;
    for question in [FIRST, SECOND] {
        let reply = caller.ask(question).await.expect(200);
        wrong += u32::from(reply.body["data"]["response"] != format!("the answer to {question}"));
    }
    println!(
        "answers from the wrong value: {wrong}, integrity failures: {}",
        integrity_failures(&second).await
    );
    assert_eq!((wrong, integrity_failures(&second).await), (0, 2));
    second.stop().await;
    redis.stop().await.unwrap();
}
