//! The cost of a look-up in each tier, with as many entries in each as `make scale` says.

use std::time::{Duration, Instant};

use ai_cache::crypto::{Key, MacKey, sha256};
use ai_cache::domain::cache_key::CacheKey;
use ai_cache::domain::clock::{Clock as _, SystemClock};
use ai_cache::domain::entry::Place;
use ai_cache::domain::ids::TenantId;
use ai_cache::domain::selector::Generation;
use ai_cache::embedded::{Lifetime, RedisOptions, RedisServer};
use ai_cache::tiers::{Stack, StoredAnswer, Wanted, WarmName};
use chrono::TimeDelta;
use deadpool_redis::redis::cmd;

use super::redis::{run, wait_for_keys};
use super::size::{add_rows, many};
use crate::support::folders::scratch;
use crate::support::services::search_path;
use crate::support::{TestApp, wait_until};

/// The values that may wait to be written to Redis.
const AT_A_TIME: i64 = 500;

fn key(number: i64) -> [u8; 32] {
    sha256(format!("k{number}").as_bytes())
}

fn wanted(tenant: TenantId, number: i64) -> Wanted {
    let now = SystemClock.now();
    let place = Place { tenant, key: CacheKey(key(number)), generation: Generation(0) };
    let (made_since, stale_for) = (now - TimeDelta::days(365), TimeDelta::zero());
    Wanted { place, now, made_since, stale_for }
}

fn name(mac: &MacKey, number: i64) -> WarmName<'_> {
    WarmName::new(key(number), mac, 0)
}

/// Entries all over the keys.
fn numbers(many: i64, count: i64) -> impl Iterator<Item = i64> {
    (0..count).map(move |step| 1 + step * 7_919 % many)
}

/// Puts an answer under every key into memory and Redis.
async fn fill(
    stack: &Stack,
    (redis, mac): (&RedisServer, &MacKey),
    stored: &StoredAnswer,
    many: i64,
) {
    let before: i64 = run(redis, &cmd("DBSIZE")).await;
    for number in 1..=many {
        let mut stored = stored.clone();
        stored.place.key = CacheKey(key(number));
        stack.warm.put(name(mac, number), &stored);
        stack.hot.insert(stored);
        if number % AT_A_TIME == 0 {
            wait_until("what was put is in Redis", || async {
                // Counting by their names would take too long.
                let held: i64 = run(redis, &cmd("DBSIZE")).await;
                (held >= before + number).then_some(())
            })
            .await;
        }
    }
}

/// Median and 99th percentile.
fn spread(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// 1,000,000 entries in memory, Redis and Postgres each under SCALE=1: every look-up finds, and what it
/// costs is printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_up_finds_in_every_tier_and_its_cost_is_told() {
    let many = many();
    let options = RedisOptions {
        lifetime: Lifetime::Disposable,
        max_memory_mb: 2_048,
        ..RedisOptions::new(search_path())
    };
    let redis = RedisServer::start(&scratch("redis"), options).await.unwrap();
    let app = TestApp::builder()
        .redis_url(&redis.url())
        .settings(|settings| settings.memory_bytes = 2_048 * 1_024 * 1_024)
        .start()
        .await;
    let tenant = app.tenant("acme").await;
    tenant.app.ask("the first").await.expect(200);
    wait_for_keys(&redis, 1).await;
    add_rows(&app.db.superuser().await, many).await;
    let rooms = app.rooms();
    let (stack, position) = (rooms.stack(), rooms.coherence().position());
    let first = stack.cold.get(&wanted(tenant.id, 1), position).await.unwrap().unwrap();
    let mac = MacKey::derive(&Key::random().unwrap(), "a look-up");
    fill(stack, (&redis, &mac), &first, many).await;

    let mut hot = Vec::new();
    for number in numbers(many, many / 10) {
        let wanted = wanted(tenant.id, number);
        let begun = Instant::now();
        let found = stack.hot.get(&wanted.place);
        hot.push(begun.elapsed());
        assert!(found.is_some(), "{number}");
    }
    let mut warm = Vec::new();
    for number in numbers(many, many / 50) {
        let wanted = wanted(tenant.id, number);
        let begun = Instant::now();
        let found = stack.warm.get(name(&mac, number), &wanted).await;
        warm.push(begun.elapsed());
        assert!(found.is_some(), "{number}");
    }
    let mut cold = Vec::new();
    for number in numbers(many, many / 200) {
        let wanted = wanted(tenant.id, number);
        let begun = Instant::now();
        let found = stack.cold.get(&wanted, position).await.unwrap();
        cold.push(begun.elapsed());
        assert!(found.is_some(), "{number}");
    }
    println!("{many} entries in each tier; a look-up takes p50 / p99:");
    for (tier, times) in [("hot", hot), ("warm", warm), ("cold", cold)] {
        let (median, p99) = spread(times);
        println!("  {tier}: {median:?} / {p99:?}");
    }
    app.stop().await;
    redis.stop().await.unwrap();
}
