//! Walls between tenants, sealing, roles (G5, W9, issue 2).
#![expect(clippy::unwrap_used, reason = "a test fails here")]
#![expect(clippy::print_stdout, reason = "a promise about counts prints them")]

mod disguise;
mod dump;
mod grants;
mod guard;
mod refusals;
mod routes;
mod rows;
mod swaps;
mod swaps_redis;

use ai_cache::embedded::RedisServer;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::cmd;
use serde_json::Value;

use crate::support::services::LIST_VALUES;
use crate::support::{Reply, wait_until};

async fn connect(redis: &RedisServer) -> MultiplexedConnection {
    let client = deadpool_redis::redis::Client::open(redis.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// The sealed answers in Redis, once there are `count`.
async fn redis_values(connection: &MultiplexedConnection, count: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let keys = wait_until("every value is in Redis", || {
        let mut connection = connection.clone();
        async move {
            let keys: Vec<Vec<u8>> =
                cmd("EVAL").arg(LIST_VALUES).arg(0).query_async(&mut connection).await.unwrap();
            (keys.len() == count).then_some(keys)
        }
    });
    let mut values = Vec::new();
    for key in keys.await {
        let get = cmd("GET").arg(&key).clone();
        values.push((key, get.query_async(&mut connection.clone()).await.unwrap()));
    }
    values
}

/// All that is in Redis, once there are `count` keys or more: floors and leases come besides answers.
async fn everything_in_redis(
    connection: &MultiplexedConnection,
    count: usize,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    wait_until("everything is in Redis", || {
        let mut connection = connection.clone();
        async move {
            let keys: Vec<Vec<u8>> =
                cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
            let mut found = Vec::new();
            for key in keys {
                let get = cmd("GET").arg(&key).clone();
                let value: Option<Vec<u8>> = get.query_async(&mut connection).await.unwrap();
                found.extend(value.map(|value| (key, value)));
            }
            (found.len() >= count).then_some(found)
        }
    })
    .await
}

async fn set_in_redis(connection: &MultiplexedConnection, key: &[u8], value: &[u8]) {
    let set = cmd("SET").arg(key).arg(value).clone();
    set.query_async::<()>(&mut connection.clone()).await.unwrap();
}

/// A problem without what is the request's own.
fn words(reply: &Reply) -> Value {
    let mut body = reply.body.clone();
    for own in ["instance", "requestId"] {
        body[own] = Value::Null;
    }
    body
}
