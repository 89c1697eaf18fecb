//! Faults of Redis under a load of 64 callers of several tenants (issue 4, architecture.md §7): no
//! reply fails, none is foreign or stale, each has its record, and few are slow.
#![expect(clippy::print_stdout, reason = "a promise about counts prints them")]

use std::time::Duration;

use ai_cache::redis::RedisSettings;
use deadpool_redis::redis::cmd;
use nix::sys::signal::Signal;
use rstest::rstest;

use crate::support::load::{Load, Report};
use crate::support::redis_servers::RedisProcess;
use crate::support::{TestApp, rounds};

/// The limit is as in the settings unless set.
const LIMIT: Duration = Duration::from_millis(100);

const TENANTS: usize = 4;

/// A service whose memory holds next to nothing, so that most known answers are read from Redis.
pub async fn service_on(urls: Vec<String>) -> TestApp {
    let redis = RedisSettings { urls, timeout: LIMIT };
    let builder = TestApp::builder().settings(|settings| {
        settings.redis = Some(redis);
        settings.memory_bytes = 32 * 1_024;
    });
    builder.start().await
}

/// Checks the promises about every reply, whatever happened.
pub async fn check(what: &str, app: &TestApp, normal: &Report, faulty: &Report) {
    let records = faulty.records(&app.db).await;
    println!("{what}: before: {}", normal.line());
    println!("{what}: faulty: {}; {records} records", faulty.line());
    assert_eq!((normal.failed, normal.foreign, normal.stale), (0, 0, 0));
    assert_eq!((faulty.failed, faulty.foreign, faulty.stale), (0, 0, 0));
    assert_eq!(faulty.answered(), records);
    assert!(normal.warm > 0 && faulty.invalidations > 0, "Redis was used, and answers went stale");
    // A busy machine makes small runs slow by itself.
    if rounds(0, 1) == 1 {
        assert!(faulty.p99() < normal.p99() * 10);
    }
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Killed,
    Hung,
    Flushed,
    ReadOnly,
    Full,
    Restarted,
    Garbage,
}

impl Fault {
    async fn make(self, server: &mut RedisProcess) {
        match self {
            Self::Killed | Self::Restarted => server.kill(),
            Self::Hung => server.signal(Signal::SIGSTOP),
            Self::Flushed => server.run::<()>(&["FLUSHALL"]).await,
            Self::ReadOnly => server.run::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await,
            Self::Full => {
                server.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
                server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
            }
            Self::Garbage => spoil(server).await,
        }
    }

    /// Makes the fault once more, or ends it.
    async fn go_on(self, server: &mut RedisProcess) {
        match self {
            Self::Killed | Self::Restarted => server.start_again().await,
            Self::Hung => server.signal(Signal::SIGCONT),
            Self::Flushed | Self::Garbage => self.make(server).await,
            Self::ReadOnly => server.run::<()>(&["REPLICAOF", "NO", "ONE"]).await,
            Self::Full => server.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await,
        }
    }

    /// Returns the request at which the fault ends. A kill is not mended within the load.
    const fn end(self, requests: usize) -> usize {
        match self {
            Self::Killed => requests,
            Self::Restarted => requests / 2,
            _ => requests * 3 / 4,
        }
    }
}

/// Overwrites every value: half with bytes of no meaning, half with another's.
async fn spoil(server: &RedisProcess) {
    let mut connection = server.connect().await.unwrap();
    let keys: Vec<Vec<u8>> = cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    let mut other: Option<Vec<u8>> = None;
    for (index, key) in keys.iter().enumerate() {
        let value: Option<Vec<u8>> =
            cmd("GET").arg(key).query_async(&mut connection).await.unwrap();
        let Some(value) = value else { continue };
        let noise = value.iter().rev().map(|byte| byte.wrapping_mul(31).wrapping_add(7)).collect();
        let spoilt = match other.replace(value) {
            Some(other) if index % 2 == 0 => other,
            _ => noise,
        };
        let mut set = cmd("SET");
        set.arg(key).arg(spoilt).arg("KEEPTTL");
        set.query_async::<()>(&mut connection).await.unwrap();
    }
}

/// 400 requests of each kind after 150 before the fault; in full 20,000 each.
#[rstest]
#[case(Fault::Killed)]
#[case(Fault::Hung)]
#[case(Fault::Flushed)]
#[case(Fault::ReadOnly)]
#[case(Fault::Full)]
#[case(Fault::Restarted)]
#[case(Fault::Garbage)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_harmed_whatever_becomes_of_redis(#[case] fault: Fault) {
    let requests = rounds(400, 20_000);
    let mut server = RedisProcess::start(&[]).await;
    let app = service_on(vec![server.url()]).await;
    let load = Load::new(&app, TENANTS).await;
    load.fill().await;
    let normal = load.run(rounds(150, 20_000), async {}).await;
    let begun = load.begun();
    let faults = async {
        load.reached(begun + requests / 10).await;
        fault.make(&mut server).await;
        load.reached(begun + fault.end(requests)).await;
        fault.go_on(&mut server).await;
    };
    let faulty = load.run(requests, faults).await;
    check(&format!("{fault:?}"), &app, &normal, &faulty).await;
    app.stop().await;
}
