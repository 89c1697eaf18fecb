//! The floor in Redis (architecture.md §5): it never falls, and whoever reads it can tell when the
//! memory it was read from was lost.

use std::sync::Arc;
use std::time::Duration;

use ai_cache::domain::clock::SystemClock;
use ai_cache::domain::selector::Position;
use ai_cache::lifecycle::Lifecycle;
use ai_cache::redis::{Floor, FloorKey, Redis, RedisError, RedisSettings};
use futures_util::future::join_all;
use uuid::Uuid;

use crate::support::redis_servers::{RedisCluster, RedisProcess};
use crate::support::wait_until;

/// The history that floors are of where nothing else is said.
const HISTORY: &str = "one";

const EPOCHS: [Uuid; 3] = [Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3)];

fn client(urls: Vec<String>) -> Redis {
    let settings = RedisSettings { urls, timeout: Duration::from_millis(500) };
    Redis::new(&settings, Arc::new(SystemClock), &Lifecycle::new()).unwrap()
}

fn key() -> FloorKey {
    FloorKey::of(Uuid::nil())
}

async fn raise(redis: &Redis, position: i64, epoch: Uuid) -> Floor {
    redis.raise_floor(&key(), HISTORY, Position(position), epoch).await.unwrap()
}

/// The floor, once Redis can tell.
async fn read(redis: &Redis) -> Option<Floor> {
    wait_until("Redis tells the floor", || async { redis.read_floor(&key()).await.ok() }).await
}

/// It rises and never falls; two installations have one each; all who raise at once end at the
/// highest, told the same origin.
#[tokio::test]
async fn a_floor_rises_and_never_falls() {
    let server = RedisProcess::start(&[]).await;
    let redis = client(vec![server.url()]);
    assert_eq!(read(&redis).await, None);
    let first = raise(&redis, 5, EPOCHS[0]).await;
    let (lower, higher) = (raise(&redis, 3, EPOCHS[1]).await, raise(&redis, 7, EPOCHS[2]).await);
    assert_eq!([&first, &lower, &higher].map(|floor| floor.position.0), [5, 5, 7]);
    assert_eq!((&first.origin, &first.origin), (&lower.origin, &higher.origin));
    assert_eq!(read(&redis).await, Some(higher.clone()));
    let other = FloorKey::of(Uuid::from_u128(1));
    assert_eq!(redis.read_floor(&other).await.unwrap(), None);

    let raised = join_all((8..108).map(|position| raise(&redis, position, EPOCHS[0]))).await;
    assert!(raised.iter().zip(8..).all(|(floor, own)| floor.position.0 >= own));
    assert!(raised.iter().all(|floor| floor.origin == first.origin));
    assert_eq!(read(&redis).await.unwrap().position, Position(107));
}

/// Lua's numbers are not exact beyond 2^53: such positions are refused, and what stands there
/// instead of a floor is none.
#[tokio::test]
async fn what_is_no_position_is_refused_and_what_is_no_floor_is_none() {
    let server = RedisProcess::start(&[]).await;
    let redis = client(vec![server.url()]);
    for position in [-1, 1_000_000_000_000_000, i64::MAX] {
        let refused = redis.raise_floor(&key(), HISTORY, Position(position), EPOCHS[0]).await;
        assert!(matches!(refused, Err(RedisError::PositionOutOfRange)), "{refused:?}");
    }
    assert_eq!(raise(&redis, 999_999_999_999_998, EPOCHS[0]).await.position.0, 999_999_999_999_998);
    assert_eq!(raise(&redis, 999_999_999_999_999, EPOCHS[0]).await.position.0, 999_999_999_999_999);
    let name = format!("ai-cache:floor:{}", Uuid::nil());
    let huge = format!("{}:9999999999999999:one", EPOCHS[0].simple());
    for garbage in ["", "garbage", "ab:7", &huge] {
        server.run::<()>(&["SET", &name, garbage]).await;
        assert_eq!(read(&redis).await, None, "{garbage}");
        let made = raise(&redis, 2, EPOCHS[1]).await;
        assert_eq!(made.position, Position(2), "{garbage}");
    }
    server.run::<()>(&["DEL", &name]).await;
    server.run::<()>(&["RPUSH", &name, "1"]).await;
    assert_eq!(read(&redis).await, None);
    assert_eq!(raise(&redis, 3, EPOCHS[1]).await.position, Position(3));
}

/// A Postgres that was restored counts anew: the floor of its new history lies where it is, be that
/// lower, and is another one than before.
#[tokio::test]
async fn another_history_begins_another_floor() {
    let server = RedisProcess::start(&[]).await;
    let redis = client(vec![server.url()]);
    let before = raise(&redis, 9, EPOCHS[0]).await;
    let restored = redis.raise_floor(&key(), "two", Position(5), EPOCHS[1]).await.unwrap();
    assert_eq!(restored.position, Position(5));
    assert_ne!(restored.origin, before.origin);
    assert_eq!(read(&redis).await, Some(restored));
}

/// A flush and a restart both end the memory a floor was read from.
#[tokio::test]
async fn a_flush_or_a_restart_changes_the_origin() {
    let mut server = RedisProcess::start(&[]).await;
    let redis = client(vec![server.url()]);
    let before = raise(&redis, 9, EPOCHS[0]).await;
    server.run::<()>(&["FLUSHALL"]).await;
    assert_eq!(read(&redis).await, None);
    let flushed = raise(&redis, 9, EPOCHS[1]).await;
    assert_ne!(flushed.origin, before.origin);

    // The floor is on the disk this time, and comes back with the server.
    server.run::<()>(&["SAVE"]).await;
    server.kill();
    assert!(redis.read_floor(&key()).await.is_err());
    server.start_again().await;
    let restarted = read(&redis).await.unwrap();
    println!("before {before:?}\nflushed {flushed:?}\nrestarted {restarted:?}");
    assert_eq!(restarted.position, Position(9));
    assert_ne!(restarted.origin, flushed.origin);
}

/// A replica tells no floor: what it holds may be old. As a master again it is another memory,
/// though the process is the same.
#[tokio::test]
async fn a_replica_tells_no_floor() {
    let server = RedisProcess::start(&[]).await;
    let redis = client(vec![server.url()]);
    let before = raise(&redis, 4, EPOCHS[0]).await;
    server.run::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
    for refused in [
        redis.read_floor(&key()).await.map(|_| ()),
        redis.raise_floor(&key(), HISTORY, Position(1), EPOCHS[1]).await.map(|_| ()),
    ] {
        let read_only = matches!(&refused, Err(RedisError::Refused { code }) if code == "READONLY");
        assert!(read_only, "{refused:?}");
    }
    server.run::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    let after = read(&redis).await.unwrap();
    assert_eq!(after.position, before.position);
    assert_ne!(after.origin, before.origin);
}

/// The master of the floor's slot tells it in a cluster, and its successor is another memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_changes_the_origin() {
    let mut cluster = RedisCluster::start().await;
    let redis = client(cluster.urls());
    let before = raise(&redis, 6, EPOCHS[0]).await;
    let name = format!("ai-cache:floor:{}", Uuid::nil());
    let slot: usize = cluster.nodes[0].run(&["CLUSTER", "KEYSLOT", &name]).await;
    let master = slot / 5_461;
    wait_until("the replica has the floor", || async {
        let keys: usize = cluster.nodes[master + 3].run(&["DBSIZE"]).await;
        (keys == 1).then_some(())
    })
    .await;
    cluster.nodes[master].kill();
    cluster.wait_for_master(master + 3).await;
    let after = read(&redis).await.unwrap();
    println!("slot {slot}: {before:?}, then {after:?}");
    assert_eq!(after.position, before.position);
    assert_ne!(after.origin, before.origin);
    assert_eq!(raise(&redis, 7, EPOCHS[1]).await.origin, after.origin);
}
