//! One flight across replicas (issue 4 item 4): a missing answer is bought once, whoever asks where;
//! nobody waits for what does not come.

use std::sync::Arc;
use std::time::Duration;

use ai_cache::domain::caller::Role;
use ai_cache::domain::clock::SystemClock;
use ai_cache::embedded::{Listen, RedisServer};
use ai_cache::upstream::{OpenAi, OpenAiSettings, Upstream};
use deadpool_redis::redis::cmd;
use futures_util::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::redis::{own_redis, run};
use crate::api::raw::{self, RawReply};
use crate::cli::program::Program;
use crate::support::app::{MASTER_KEYS, PRICES, Tenant};
use crate::support::redis_proxy::RedisProxy;
use crate::support::redis_servers::own_port;
use crate::support::services::start_redis;
use crate::support::upstream::TestUpstream;
use crate::support::{Client, TestApp, TestDb, rounds, wait_until};

/// The time that a lease lasts that nobody renews.
const TERM: Duration = Duration::from_secs(3);

/// Replicas over one database, one Redis and one upstream.
struct Replicas {
    redis: RedisServer,
    upstream: TestUpstream,
    apps: Vec<TestApp>,
    tenant: Tenant,
    /// A token of the role app.
    token: String,
    /// One at each replica.
    callers: Vec<Client>,
}

fn openai(upstream: &TestUpstream, timeout: Duration) -> Arc<dyn Upstream> {
    let settings = OpenAiSettings {
        base_url: upstream.url().to_owned(),
        name: "openai".to_owned(),
        api_key: None,
        model: "gpt-4o-mini".to_owned(),
        timeout,
        prices: PRICES,
    };
    Arc::new(OpenAi::new(settings, Arc::new(SystemClock)).unwrap())
}

impl Replicas {
    async fn start(count: usize) -> Self {
        let redis = own_redis().await;
        let url = redis.url();
        Self::start_on(redis, &url, count).await
    }

    /// They reach Redis by `url`.
    async fn start_on(redis: RedisServer, url: &str, count: usize) -> Self {
        let (upstream, db) = (TestUpstream::start().await, TestDb::new().await);
        upstream.answer_with(|message| format!("the answer to {message}"));
        let start = || async {
            let upstream = openai(&upstream, Duration::from_secs(20));
            TestApp::builder().db(&db).redis_url(url).upstream(upstream).start().await
        };
        let mut apps = Vec::new();
        for _ in 0..count {
            apps.push(start().await);
        }
        let tenant = apps[0].tenant("acme").await;
        // Tokens and keys are known everywhere from here on.
        let token = apps[0].token(tenant.id, &[Role::App]).await;
        for app in &apps {
            app.client.with_token(&token).ask("something else").await.expect(200);
        }
        // Each caller has connections of its own, and the service is about to close none of them
        // for idleness.
        let caller = |app: &TestApp| Client::new(&app.base()).with_token(&token);
        let callers: Vec<Client> = apps.iter().map(caller).collect();
        assert_eq!(upstream.calls(), 1, "they share what is stored");
        Self { redis, upstream, apps, tenant, token, callers }
    }

    /// Commands about leases so far.
    async fn looks(&self) -> usize {
        looks(&self.redis).await
    }

    async fn stop(self) {
        for app in self.apps {
            app.stop().await;
        }
    }
}

async fn looks(redis: &RedisServer) -> usize {
    let told: String = run(redis, cmd("INFO").arg("commandstats")).await;
    let line = told.lines().find_map(|line| line.strip_prefix("cmdstat_eval:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

async fn leases(redis: &RedisServer) -> Vec<Vec<u8>> {
    run(redis, cmd("KEYS").arg("ai-cache:lease:*")).await
}

/// Waits until a replica has asked twenty times more whether the holder has ended.
async fn wait_for_waiting(redis: &RedisServer) {
    let before = looks(redis).await;
    wait_until("another replica waits", || async {
        (looks(redis).await >= before + 20).then_some(())
    })
    .await;
}

fn answer(reply: &RawReply) -> Value {
    serde_json::from_str::<Value>(&reply.body).unwrap()["data"].take()
}

fn starting_with(replies: &[RawReply], status: &str) -> usize {
    let statuses = replies.iter().map(|reply| reply.header("cache-status").unwrap_or_default());
    statuses.filter(|told| told.starts_with(status)).count()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Killed,
}

/// Issue 4: 5,000 callers of one new question on three replicas: one call of the upstream, or one
/// each without Redis; every one of them is answered right and recorded.
#[rstest]
#[case(State::Up, 1)]
#[case(State::Killed, 3)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_on_three_replicas_make_one_call(#[case] state: State, #[case] most: usize) {
    let replicas = Replicas::start(3).await;
    let count = rounds(500, 5_000);
    if state == State::Killed {
        kill(Pid::from_raw(replicas.redis.pid()), Signal::SIGKILL).unwrap();
    }
    replicas.upstream.hold();
    // All have asked before anybody is answered.
    let question = raw::question(&replicas.token, "the question of everybody");
    let asking = (0..count).map(|number| raw::send(&replicas.apps[number % 3], &question));
    let asked = join_all(asking).await;
    replicas.upstream.wait_for_calls(1 + if state == State::Up { 1 } else { 3 }).await;
    if state == State::Up {
        wait_for_waiting(&replicas.redis).await;
    }
    replicas.upstream.release();
    let replies = join_all(asked.into_iter().map(raw::receive)).await;
    let calls = replicas.upstream.calls() - 1;
    let right = replies
        .iter()
        .filter(|reply| reply.status == 200 && answer(reply) == answer(&replies[0]))
        .count();
    let records = "SELECT count(*) FROM ai_cache_audit_logs
                   WHERE action = 'query' AND outcome IN ('stored', 'hit')";
    let records = replicas.apps[0].db.count(records).await - 3;
    let fetched = starting_with(&replies, "ai-cache; fwd=miss; stored");
    let collapsed = starting_with(&replies, "ai-cache; fwd=miss; stored; collapsed");
    println!(
        "{count} callers on 3 replicas, Redis {state:?}: {calls} upstream calls, {right} answers, \
         {records} records; {} fetched, {} collapsed, {} hits",
        fetched - collapsed,
        collapsed,
        starting_with(&replies, "ai-cache; hit"),
    );
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(right, count);
    assert!((1..=most).contains(&calls), "{calls}");
    assert_eq!(records, i64::try_from(count).unwrap());
    if state == State::Up {
        wait_until("the lease is given back", || async {
            leases(&replicas.redis).await.is_empty().then_some(())
        })
        .await;
    }
    replicas.stop().await;
}

/// Issue 4: a replica killed in the middle of its flight costs the others its lease's term at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_costs_the_others_three_seconds() {
    let replicas = Replicas::start(2).await;
    let (program, app) = (Program::new(), &replicas.apps[0]);
    let variables = [
        ("DATABASE_URL", app.db.app_url().await),
        ("AI_CACHE_MASTER_KEYS", MASTER_KEYS.to_owned()),
        ("AI_CACHE_REDIS_URL", replicas.redis.url()),
        ("AI_CACHE_UPSTREAM", "openai".to_owned()),
        ("AI_CACHE_UPSTREAM_URL", replicas.upstream.url().to_owned()),
    ];
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let serving = program.serve(&variables).await;
    let token = app.token(replicas.tenant.id, &[Role::App]).await;
    let doomed = serving.client().with_token(&token);
    replicas.upstream.hold();
    let kill = async {
        replicas.upstream.wait_for_calls(2).await;
        let waiting = join_all(replicas.callers.iter().map(|caller| async {
            let asked = Instant::now();
            (caller.ask("the question").await, asked.elapsed())
        }));
        let end = async {
            wait_for_waiting(&replicas.redis).await;
            let calls = replicas.upstream.calls();
            serving.kill().await;
            let killed = Instant::now();
            replicas.upstream.wait_for_calls(calls + 1).await;
            replicas.upstream.release();
            (calls, killed.elapsed())
        };
        tokio::join!(waiting, end)
    };
    let (lost, (answered, (calls, took))) = tokio::join!(doomed.try_ask("the question"), kill);
    assert!(lost.is_none(), "the killed replica does not answer");
    assert_eq!(calls, 2, "nobody else asked while it lived");
    for (reply, _) in &answered {
        assert_eq!(reply.status, 200, "{}", reply.text);
    }
    let calls = replicas.upstream.calls() - calls;
    println!("killed; the next call came {took:?} later; {calls} more calls for 2 replicas");
    assert!(took < TERM + Duration::from_millis(1_500), "{took:?}");
    assert!((1..=2).contains(&calls), "{calls}");
    replicas.stop().await;
}

/// A replica whose upstream hangs: the others wait no longer than their own limit, also when it
/// keeps its lease much longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_holder_is_waited_for_no_longer_than_an_upstream() {
    let replicas = Replicas::start(1).await;
    let limit = Duration::from_secs(2);
    let own = TestUpstream::start().await;
    let other = TestApp::builder()
        .db(&replicas.apps[0].db)
        .redis_url(&replicas.redis.url())
        .upstream(openai(&own, limit))
        .start()
        .await;
    let caller = replicas.callers[0].at(&other.base());
    caller.ask("something else").await.expect(200);
    replicas.upstream.hold();
    let impatient = async {
        replicas.upstream.wait_for_calls(2).await;
        let asked = Instant::now();
        let reply = caller.ask("the question").await.expect(200);
        replicas.upstream.release();
        (reply, asked.elapsed())
    };
    let stalled = replicas.callers[0].ask("the question");
    let (stalled, (reply, took)) = tokio::join!(stalled, impatient);
    println!("answered after {took:?}, with a limit of {limit:?}");
    assert_eq!(reply.header("cache-status"), Some("ai-cache; fwd=miss; stored"));
    assert!(took >= limit && took < limit * 2, "{took:?}");
    assert_eq!((stalled.expect(200).status, own.calls()), (200, 1));
    other.stop().await;
    replicas.stop().await;
}

/// Redis ends while a replica waits for another: it goes on by itself at once.
#[rstest]
#[case::killed(Signal::SIGKILL)]
#[case::hung(Signal::SIGSTOP)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_redis_ends_nobody_waits_for_a_lease(#[case] signal: Signal) {
    let replicas = Replicas::start(2).await;
    replicas.upstream.hold();
    let second = async {
        replicas.upstream.wait_for_calls(2).await;
        let end = async {
            wait_for_waiting(&replicas.redis).await;
            kill(Pid::from_raw(replicas.redis.pid()), signal).unwrap();
            let ended = Instant::now();
            replicas.upstream.wait_for_calls(3).await;
            replicas.upstream.release();
            ended.elapsed()
        };
        tokio::join!(replicas.callers[1].ask("the question"), end)
    };
    let (first, (reply, took)) = tokio::join!(replicas.callers[0].ask("the question"), second);
    println!("Redis {signal}: the waiting replica asked the upstream {took:?} later");
    assert_eq!((first.expect(200).status, reply.expect(200).status), (200, 200));
    assert!(took < Duration::from_secs(3), "{took:?}");
    kill(Pid::from_raw(replicas.redis.pid()), Signal::SIGCONT).ok();
    replicas.stop().await;
}

/// A caller that asks after an invalidation does not wait for a flight that began before it, on any
/// replica. Callers after it share one call again, also when all replicas claim that flight's lease
/// at once: Redis answers late, so that each has asked before any is told.
#[rstest]
#[case::all(json!({ "invalidateAll": true }))]
#[case::group(json!({ "operation": "wedding-query" }))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_what_an_invalidation_overtook(#[case] selector: Value) {
    let port = own_port();
    let redis = start_redis(Listen::Tcp(port)).await;
    let late = RedisProxy::start(port, |_| Duration::from_millis(50)).await;
    let replicas = Replicas::start_on(redis, &late.url, 3).await;
    replicas.upstream.hold();
    let old = replicas.callers[0].ask("the question");
    let new = async {
        replicas.upstream.wait_for_calls(2).await;
        let admin = replicas.tenant.admin.at(&replicas.apps[1].base());
        admin.post("/api/ai-cache/invalidate", &selector).await.expect(200);
        for app in &replicas.apps {
            app.rooms().coherence().catch_up().await.unwrap();
        }
        let asking =
            join_all((0..60).map(|number| replicas.callers[number % 3].ask("the question")));
        let release = async {
            replicas.upstream.wait_for_calls(3).await;
            wait_for_waiting(&replicas.redis).await;
            replicas.upstream.release();
        };
        tokio::join!(asking, release).0
    };
    let (old, new) = tokio::join!(old, new);
    let calls = replicas.upstream.calls() - 1;
    println!("1 caller before and 60 after an invalidation on 3 replicas: {calls} upstream calls");
    assert_eq!(old.expect(200).header("cache-status"), Some("ai-cache; fwd=miss"), "not stored");
    assert!(
        new.iter().all(|reply| reply.status == 200 && reply.body["data"] == new[0].body["data"])
    );
    assert_eq!(calls, 2);
    replicas.stop().await;
}

/// `refresh` wants an answer made after it was asked for: one that another replica fetches meanwhile
/// will do, one that was there will not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refreshing_callers_on_two_replicas_share_a_call_made_for_them() {
    let replicas = Replicas::start(2).await;
    let refresh = json!({ "query": "something else", "cache": { "mode": "refresh" } });
    let before = replicas.callers[1].query(&refresh).await.expect(200);
    assert_eq!((replicas.upstream.calls(), &before.body["cached"]), (2, &json!(false)));
    replicas.upstream.hold();
    let second = async {
        replicas.upstream.wait_for_calls(3).await;
        let release = async {
            wait_for_waiting(&replicas.redis).await;
            replicas.upstream.release();
        };
        tokio::join!(replicas.callers[1].query(&refresh), release).0.expect(200)
    };
    let (first, second) = tokio::join!(replicas.callers[0].query(&refresh), second);
    let first = first.expect(200);
    assert_eq!(replicas.upstream.calls(), 3);
    assert_eq!(first.body["entryId"], second.body["entryId"]);
    assert_ne!(second.body["entryId"], before.body["entryId"]);
    assert!(second.header("cache-status").unwrap().starts_with("ai-cache; hit; ttl="));
    replicas.stop().await;
}

/// A lease in Redis that says nonsense, or that nobody holds, keeps nobody waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_says_nonsense_is_taken_over() {
    let replicas = Replicas::start(2).await;
    replicas.upstream.hold();
    let spoil = async {
        replicas.upstream.wait_for_calls(2).await;
        let names = leases(&replicas.redis).await;
        assert_eq!(names.len(), 1);
        () = run(&replicas.redis, cmd("SET").arg(&names[0]).arg("nonsense")).await;
        let second = replicas.callers[1].ask("the question");
        let release = async {
            replicas.upstream.wait_for_calls(3).await;
            replicas.upstream.release();
        };
        tokio::join!(second, release).0.expect(200)
    };
    let (first, second) = tokio::join!(replicas.callers[0].ask("the question"), spoil);
    assert_eq!((first.expect(200).status, second.status), (200, 200));
    wait_until("the lease is given back", || async {
        leases(&replicas.redis).await.is_empty().then_some(())
    })
    .await;
    replicas.stop().await;
}

/// An answer that is not kept is bought by each replica, at the same time and not in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_do_not_queue_up_behind_answers_that_are_not_kept() {
    let replicas = Replicas::start(3).await;
    for _ in 0..3 {
        replicas.upstream.then_truncated();
    }
    replicas.upstream.hold();
    let asking = join_all(replicas.callers.iter().map(|caller| caller.ask("the question")));
    let release = async {
        replicas.upstream.wait_for_calls(2).await;
        wait_for_waiting(&replicas.redis).await;
        replicas.upstream.release();
        replicas.upstream.wait_for_calls(4).await;
    };
    let (replies, ()) = tokio::join!(asking, release);
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(replicas.upstream.calls(), 4);
    assert!(replicas.looks().await > 0);
    replicas.stop().await;
}
