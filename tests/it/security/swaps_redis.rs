//! Swaps in Redis: a value that is not the reader's own does not open, and is a miss.

use ai_cache::domain::caller::Role;
use ai_cache::embedded::Listen;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::services::start_redis;

use super::swaps::{FIRST, Kept, Outcome, SECOND, keep};
use super::{connect, redis_values, set_in_redis};

/// The places where a value's fields begin: form, entry, person, operation, key version,
/// generation, made, expires, tokens asked, tokens answered, cost, position, count of labels, MAC,
/// sealed bytes.
const GENERATION: usize = 1 + 16 + 1 + 16 + 1 + 4;
const EXPIRES_AT: usize = GENERATION + 8 + 8;
const COST: usize = EXPIRES_AT + 8 + 4 + 4;
const POSITION: usize = COST + 8;
const LABELS: usize = POSITION + 8;
const MAC: usize = LABELS + 2;
const SEALED: usize = MAC + 32;

/// Counts the answers that were served from Redis.
async fn warm_hits(kept: &Kept) -> i64 {
    let query = "SELECT count(*) FROM ai_cache_audit_logs WHERE outcome = 'hit' AND tier = 'warm'";
    kept.db.count(query).await
}

/// An untouched value is served from Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_as_it_was_is_served_from_redis() {
    let redis = start_redis(Listen::Unix).await;
    let (app, kept) = keep(Some(&redis.url()), &["acme"], &[FIRST, SECOND]).await;
    redis_values(&connect(&redis).await, 2).await;
    app.stop().await;
    assert_eq!(kept.ask_afresh().await, Outcome { wrong: 0, fresh: 0, failures: 0 });
    assert_eq!(warm_hits(&kept).await, 2);
    redis.stop().await.unwrap();
}

/// Two values change places, of one tenant and of two.
#[rstest]
#[case::one_tenant(&["acme"], &[FIRST, SECOND])]
#[case::two_tenants(&["acme", "other"], &[FIRST])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_changed_places_are_not_served(
    #[case] tenants: &[&str],
    #[case] questions: &[&'static str],
) {
    let redis = start_redis(Listen::Unix).await;
    let (app, kept) = keep(Some(&redis.url()), tenants, questions).await;
    let connection = connect(&redis).await;
    let values = redis_values(&connection, 2).await;
    app.stop().await;
    set_in_redis(&connection, &values[0].0, &values[1].1).await;
    set_in_redis(&connection, &values[1].0, &values[0].1).await;
    let Outcome { wrong, failures, .. } = kept.ask_afresh().await;
    assert_eq!((wrong, failures), (0, 2));
    redis.stop().await.unwrap();
}

/// Changes the one value there is, and asks a process that remembers nothing.
async fn ask_after(change: impl FnOnce(&mut Vec<u8>)) -> Outcome {
    let redis = start_redis(Listen::Unix).await;
    let (app, kept) = Box::pin(keep(Some(&redis.url()), &["acme"], &[FIRST])).await;
    let connection = connect(&redis).await;
    let (key, mut value) = redis_values(&connection, 1).await.remove(0);
    app.stop().await;
    change(&mut value);
    set_in_redis(&connection, &key, &value).await;
    let outcome = Box::pin(kept.ask_afresh()).await;
    redis.stop().await.unwrap();
    outcome
}

/// A value with one bit changed: in what it is bound to or in its sealed bytes.
#[rstest]
#[case::entry(1)]
#[case::generation(GENERATION + 7)]
#[case::dearer(COST + 7)]
#[case::position(POSITION + 7)]
#[case::labels(LABELS + 1)]
#[case::proof(MAC + 31)]
#[case::first_sealed_byte(SEALED)]
#[case::middle(SEALED + 100)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_value_does_not_open(#[case] at: usize) {
    let Outcome { wrong, failures, .. } = ask_after(|value| value[at] ^= 1).await;
    assert_eq!((wrong, failures), (0, 1));
}

/// A value that says it is good for another month.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prolonged_value_does_not_open() {
    let prolong = |value: &mut Vec<u8>| {
        let was = i64::from_be_bytes(*value[EXPIRES_AT..].first_chunk().unwrap());
        let month_us = 30 * 86_400 * 1_000_000;
        value[EXPIRES_AT..EXPIRES_AT + 8].copy_from_slice(&(was + month_us).to_be_bytes());
    };
    let Outcome { wrong, failures, .. } = ask_after(prolong).await;
    assert_eq!((wrong, failures), (0, 1));
}

/// A value that is cut short, empty or no value of ours is a miss.
#[rstest]
#[case::empty(0)]
#[case::fixed_part_only(SEALED)]
#[case::without_its_end(SEALED + 40)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_cut_short_is_a_miss(#[case] length: usize) {
    let Outcome { wrong, .. } = ask_after(|value| value.truncate(length)).await;
    assert_eq!(wrong, 0);
}

/// A value put back after everything was invalidated, with a position beyond the invalidation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_brought_back_from_before_an_invalidation_does_not_open() {
    let redis = start_redis(Listen::Unix).await;
    let (app, kept) = keep(Some(&redis.url()), &["acme"], &[FIRST]).await;
    let connection = connect(&redis).await;
    let (key, mut value) = redis_values(&connection, 1).await.remove(0);
    let tenants = app.rooms().administration.list_tenants().await.unwrap();
    let tenant = tenants.iter().find(|tenant| tenant.slug == "acme").unwrap().id;
    let admin = app.client.with_token(&app.token(tenant, &[Role::Admin]).await);
    let all = json!({ "invalidateAll": true });
    admin.post("/api/ai-cache/invalidate", &all).await.expect(200);
    app.stop().await;
    value[POSITION..LABELS].copy_from_slice(&i64::MAX.to_be_bytes());
    set_in_redis(&connection, &key, &value).await;
    assert_eq!(kept.ask_afresh().await, Outcome { wrong: 0, fresh: 1, failures: 1 });
    redis.stop().await.unwrap();
}

/// Invalidates at a process without Redis, so that Redis keeps what is gone, and asks a process that
/// remembers nothing, once `change` had its way with the value.
async fn ask_after_invalidation(selector: Value, change: impl FnOnce(&mut Vec<u8>)) -> Outcome {
    let redis = start_redis(Listen::Unix).await;
    let (app, kept) = Box::pin(keep(Some(&redis.url()), &["acme"], &[FIRST])).await;
    let connection = connect(&redis).await;
    let (key, mut value) = redis_values(&connection, 1).await.remove(0);
    let tenants = app.rooms().administration.list_tenants().await.unwrap();
    let tenant = tenants.iter().find(|tenant| tenant.slug == "acme").unwrap().id;
    let token = app.token(tenant, &[Role::Admin]).await;
    app.stop().await;
    let away = TestApp::builder().db(&kept.db).start().await;
    let admin = away.client.with_token(&token);
    admin.post("/api/ai-cache/invalidate", &selector).await.expect(200);
    away.stop().await;
    change(&mut value);
    set_in_redis(&connection, &key, &value).await;
    let outcome = Box::pin(kept.ask_afresh()).await;
    redis.stop().await.unwrap();
    outcome
}

/// A value that an invalidation left in Redis is no answer, and no sign of tampering either.
#[rstest]
#[case::everything(json!({ "invalidateAll": true }))]
#[case::a_group(json!({ "operation": "wedding-query" }))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_from_before_an_invalidation_is_a_miss(#[case] selector: Value) {
    let outcome = ask_after_invalidation(selector, |_| ()).await;
    assert_eq!(outcome, Outcome { wrong: 0, fresh: 1, failures: 0 });
}

/// A Redis that lies cannot give it a position after the invalidation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_given_a_newer_position_is_not_served() {
    let newer = |value: &mut Vec<u8>| value[LABELS - 1] += 100;
    let outcome = ask_after_invalidation(json!({ "operation": "wedding-query" }), newer).await;
    assert_eq!(outcome, Outcome { wrong: 0, fresh: 1, failures: 1 });
}
