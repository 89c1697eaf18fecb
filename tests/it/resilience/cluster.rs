//! A real Redis Cluster of six on loopback as the warm tier (issue 4): what one shard suffers is not
//! felt by those who ask the others, and a killed master's replica is found.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ai_cache::domain::clock::SystemClock;
use ai_cache::lifecycle::Lifecycle;
use ai_cache::redis::{Redis, RedisError, RedisSettings};
use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::json;

use super::redis_faults::{check, service_on};
use crate::support::load::{KNOWN, Load};
use crate::support::redis_servers::{RedisCluster, RedisProcess};
use crate::support::services::COUNT_VALUES;
use crate::support::{Client, TestApp, rounds, wait_until};

/// The way in which the setting names the masters.
#[derive(Debug, Clone, Copy)]
enum Named {
    All,
    OneSeed,
}

fn questions() -> Vec<String> {
    (0..KNOWN).map(|number| format!("question {number}")).collect()
}

async fn replica_of(app: &TestApp, urls: Vec<String>) -> TestApp {
    let redis = RedisSettings { urls, timeout: Duration::from_millis(500) };
    let builder = TestApp::builder().db(&app.db);
    builder.settings(|settings| settings.redis = Some(redis)).start().await
}

/// Counts the questions that are answered from Redis, or from memory that was filled from it.
async fn warm(caller: &Client, questions: &[String]) -> usize {
    let mut warm = 0;
    for question in questions {
        let reply = caller.query(&json!({ "query": question })).await.expect(200);
        let source = reply.body["cacheSource"].as_str().unwrap();
        warm += usize::from(["hot", "warm"].contains(&source));
    }
    warm
}

/// Values of every shard are found by another process, and removed by an invalidation.
#[rstest]
#[case(Named::All)]
#[case(Named::OneSeed)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_a_warm_tier(#[case] named: Named) {
    let cluster = RedisCluster::start().await;
    let urls = match named {
        Named::All => cluster.urls(),
        Named::OneSeed => vec![cluster.nodes[4].url().replace("redis://", "redis+cluster://")],
    };
    let cold = TestApp::start().await;
    let (first, second) = (replica_of(&cold, urls.clone()).await, replica_of(&cold, urls).await);
    let tenant = cold.tenant("acme").await;
    let known = questions();
    let upstream = warm(&tenant.app.at(&first.base()), &known).await;
    wait_until("every value is in Redis", || async {
        (cluster.count().await == KNOWN).then_some(())
    })
    .await;
    let mut held = Vec::new();
    for master in &cluster.nodes[..3] {
        held.push(master.run::<usize>(&["EVAL", COUNT_VALUES, "0"]).await);
    }
    let found = warm(&tenant.app.at(&second.base()), &known).await;
    let admin = tenant.admin.at(&first.base());
    let all = json!({ "operation": "wedding-query" });
    let removed = admin.post("/api/ai-cache/invalidate", &all).await.expect(200);
    let left = cluster.count().await;
    println!(
        "{named:?}: {upstream} warm at first, then {found} of {KNOWN}, held {held:?}, left {left}"
    );
    assert_eq!((upstream, found, left), (0, KNOWN, 0));
    assert_eq!(removed.body["invalidatedCount"], KNOWN);
    assert!(held.iter().all(|count| *count > KNOWN / 10), "each shard holds some");
    for app in [first, second, cold] {
        app.stop().await;
    }
}

/// A shard is gone, master and replica: of the others' values none is missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_shard_costs_its_own_values_only() {
    let mut cluster = RedisCluster::start().await;
    for node in &cluster.nodes {
        let command = ["CONFIG", "SET", "cluster-require-full-coverage", "no"];
        node.run::<()>(&command).await;
    }
    let cold = TestApp::start().await;
    let first = replica_of(&cold, cluster.urls()).await;
    let second = replica_of(&cold, cluster.urls()).await;
    let tenant = cold.tenant("acme").await;
    let known = questions();
    assert_eq!(warm(&tenant.app.at(&first.base()), &known).await, 0);
    wait_until("every value is in Redis", || async {
        (cluster.count().await == KNOWN).then_some(())
    })
    .await;
    let lost: usize = cluster.nodes[0].run(&["EVAL", COUNT_VALUES, "0"]).await;
    for node in [0, 3] {
        cluster.nodes[node].kill();
    }
    // Asked once while its loss is found out, and by another process that begins with it.
    let third = replica_of(&cold, cluster.urls()).await;
    let found = [
        warm(&tenant.app.at(&second.base()), &known).await,
        warm(&tenant.app.at(&third.base()), &known).await,
    ];
    println!("{lost} of {KNOWN} lost, {found:?} found in the other shards");
    assert_eq!(found, [KNOWN - lost; 2]);
    for app in [first, second, third, cold] {
        app.stop().await;
    }
}

/// The last slots of a shard that is gone and the first of the next one fail apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_shard_is_left_alone_and_its_neighbour_is_not() {
    let mut cluster = RedisCluster::start().await;
    for node in &cluster.nodes {
        node.run::<()>(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await;
    }
    let settings = RedisSettings { urls: cluster.urls(), timeout: Duration::from_millis(500) };
    let redis = Redis::new(&settings, Arc::new(SystemClock), &Lifecycle::new()).unwrap();
    let mut names = (0..).map(|number| format!("name {number}"));
    let mut named = async |slots: RangeInclusive<u16>| loop {
        let name = names.next().unwrap();
        if slots.contains(&cluster.nodes[0].run(&["CLUSTER", "KEYSLOT", &name]).await) {
            break name.into_bytes();
        }
    };
    let (lost, kept) = (named(5_400..=5_460).await, named(5_461..=5_530).await);
    redis.set(&kept, b"value", Duration::from_mins(1)).await.unwrap();
    redis.set(&lost, b"value", Duration::from_mins(1)).await.unwrap();
    for node in [0, 3] {
        cluster.nodes[node].kill();
    }
    let left_alone = wait_until("the lost shard is left alone", || async {
        matches!(redis.get(&lost).await, Err(RedisError::Open)).then_some(true)
    })
    .await;
    let found = redis.get(&kept).await;
    println!("the lost shard is left alone: {left_alone}; its neighbour's value: {found:?}");
    assert_eq!(found.unwrap().as_deref(), Some(b"value".as_slice()));
}

/// One master is killed, or hangs, under load.
#[rstest]
#[case::killed(Signal::SIGKILL)]
#[case::hung(Signal::SIGSTOP)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_harmed_by_a_lost_master(#[case] signal: Signal) {
    let requests = rounds(360, 20_000);
    let cluster = RedisCluster::start().await;
    let app = service_on(cluster.urls()).await;
    let load = Load::new(&app, 4).await;
    load.fill().await;
    let normal = load.run(rounds(90, 20_000), async {}).await;
    let begun = load.begun();
    let faults = async {
        load.reached(begun + requests / 10).await;
        cluster.nodes[0].signal(signal);
        cluster.wait_for_master(3).await;
        println!("replaced after {} of {requests} requests", load.begun() - begun);
    };
    let faulty = load.run(requests, faults).await;
    check(&format!("a master with {signal}"), &app, &normal, &faulty).await;
    assert!(faulty.warm > 0);

    // The values of the lost master's replica are found again.
    let known = questions();
    let tenant = app.tenant("acme").await;
    let urls = cluster.nodes[1..].iter().map(RedisProcess::url).collect();
    let first = replica_of(&app, urls).await;
    let before = warm(&tenant.app.at(&first.base()), &known).await;
    let found = wait_until("the service uses the new master", || async {
        let base = app.base();
        let found = warm(&tenant.app.at(&base), &known).await;
        (found == KNOWN).then_some(found)
    })
    .await;
    println!("{before} warm at first, then {found} of {KNOWN} at the service that saw it happen");
    assert_eq!(before, 0);
    cluster.nodes[0].signal(Signal::SIGCONT);
    first.stop().await;
    app.stop().await;
}
