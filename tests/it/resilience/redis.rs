//! Redis missing, killed, hung, flushed and read-only: nobody notices but by slower answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ai_cache::domain::caller::Role;
use ai_cache::embedded::{Lifetime, RedisOptions, RedisServer};
use ai_cache::redis::RedisSettings;
use deadpool_redis::redis::{Client as RedisClient, Cmd, FromRedisValue, cmd};
use futures_util::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rstest::rstest;
use serde_json::json;
use tokio::time::Instant;

use crate::support::folders::scratch;
use crate::support::services::{COUNT_VALUES, LIST_VALUES, search_path};
use crate::support::{Client, Reply, TestApp, TestDb, wait_until};

/// The longest time of a command. It is shorter than the limits that the library of Redis has by
/// itself.
const LIMIT: Duration = Duration::from_millis(400);

/// A Redis in a folder: started there again, it has the same URL.
async fn redis_in(folder: &Path) -> RedisServer {
    let options =
        RedisOptions { lifetime: Lifetime::Disposable, ..RedisOptions::new(search_path()) };
    RedisServer::start(folder, options).await.unwrap()
}

pub async fn own_redis() -> RedisServer {
    redis_in(&scratch("redis")).await
}

/// Asks Redis itself, beside the service.
pub async fn run<T: FromRedisValue>(redis: &RedisServer, command: &Cmd) -> T {
    let client = RedisClient::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    command.query_async(&mut connection).await.unwrap()
}

/// Counts the sealed answers that it holds.
pub async fn count_values(redis: &RedisServer) -> usize {
    run(redis, cmd("EVAL").arg(COUNT_VALUES).arg(0)).await
}

/// Their names.
pub async fn list_values(redis: &RedisServer) -> Vec<Vec<u8>> {
    run(redis, cmd("EVAL").arg(LIST_VALUES).arg(0)).await
}

pub async fn wait_for_keys(redis: &RedisServer, count: usize) {
    wait_until("every value is in Redis", || async {
        (count_values(redis).await == count).then_some(())
    })
    .await;
}

/// The one right answer to a question, whoever is asked.
fn right(question: &str) -> String {
    format!("the answer to {question}")
}

pub fn questions(kind: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{kind} question {number}")).collect()
}

/// One process of the service.
pub struct Process {
    pub app: TestApp,
    pub caller: Client,
    pub token: String,
}

/// A process over a new database.
pub async fn first_process(redis_url: &str) -> Process {
    first_process_within(redis_url, LIMIT).await
}

/// A process that waits for Redis this long.
pub async fn first_process_within(redis_url: &str, timeout: Duration) -> Process {
    let app = start(TestDb::new().await, redis_url, timeout).await;
    let tenant = app.tenant("acme").await;
    let token = app.token(tenant.id, &[Role::App]).await;
    Process { app, caller: tenant.app, token }
}

async fn start(db: TestDb, redis_url: &str, timeout: Duration) -> TestApp {
    let redis = RedisSettings { urls: vec![redis_url.to_owned()], timeout };
    let builder = TestApp::builder().db(&db).settings(|settings| settings.redis = Some(redis));
    let app = builder.start().await;
    app.upstream.answer_with(right);
    app
}

impl Process {
    /// Another process over the same database and Redis, which remembers nothing.
    pub async fn another(&self, redis: &RedisServer) -> Self {
        self.another_at(&redis.url()).await
    }

    async fn another_at(&self, redis_url: &str) -> Self {
        let app = start(self.app.db.clone(), redis_url, LIMIT).await;
        let caller = app.client.with_token(&self.token);
        Self { app, caller, token: self.token.clone() }
    }

    /// Asks one after the other.
    pub async fn ask_all(&self, questions: &[String]) -> Tally {
        self.ask_all_in("default", questions).await
    }

    /// Asks one after the other in a mode of the cache.
    pub async fn ask_all_in(&self, mode: &str, questions: &[String]) -> Tally {
        let mut tally = Tally::default();
        for question in questions {
            tally.add(self.query(question, mode).await);
        }
        tally
    }

    async fn ask(&self, question: &str) -> Answered {
        self.query(question, "default").await
    }

    async fn query(&self, question: &str, mode: &str) -> Answered {
        let body = json!({ "query": question, "cache": { "mode": mode } });
        let asked = Instant::now();
        let reply = self.caller.query(&body).await;
        Answered { right: right(question), took: asked.elapsed(), reply }
    }

    /// Returns what the service counts as failures of Redis.
    pub async fn redis_errors(&self) -> u64 {
        let text = self.app.client.get("/api/metrics").await.expect(200).text;
        let line = text.lines().find_map(|line| line.strip_prefix("ai_cache_redis_errors_total "));
        line.unwrap().parse().unwrap()
    }

    /// Waits until this process writes to Redis and the other reads from it. Returns the number of
    /// questions that this took.
    async fn wait_until_shared_with(&self, other: &Self) -> usize {
        let asked = AtomicUsize::new(0);
        wait_until("what one process stores the other finds in Redis", || async {
            let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
            let question = format!("question {number} since Redis is back");
            let mut tally = Tally::default();
            tally.add(self.ask(&question).await);
            tally.add(other.ask(&question).await);
            assert_eq!((tally.failed, tally.wrong), (0, 0));
            (tally.warm == 1).then_some(number)
        })
        .await
    }
}

struct Answered {
    right: String,
    took: Duration,
    reply: Reply,
}

/// The replies, counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub failed: usize,
    pub wrong: usize,
    pub hot: usize,
    pub warm: usize,
    pub cold: usize,
    pub upstream: usize,
    /// Replies that took a whole limit of Redis or longer.
    pub waited: usize,
    pub slowest: Duration,
}

impl Tally {
    fn add(&mut self, Answered { right, took, reply }: Answered) {
        self.waited += usize::from(took >= LIMIT);
        self.slowest = self.slowest.max(took);
        if reply.status != 200 {
            self.failed += 1;
            return;
        }
        self.wrong += usize::from(reply.body["data"]["response"] != right);
        let counter = match reply.body["cacheSource"].as_str() {
            Some("hot") => &mut self.hot,
            Some("warm") => &mut self.warm,
            Some("cold") => &mut self.cold,
            _ => &mut self.upstream,
        };
        *counter += 1;
    }

    /// Answers by source: hot, warm, cold, upstream.
    pub fn sources(&self) -> [usize; 4] {
        [self.hot, self.warm, self.cold, self.upstream]
    }

    /// Replies that were no answer or a wrong one.
    pub fn bad(&self) -> usize {
        self.failed + self.wrong
    }
}

/// A Redis that stands still, until this is dropped.
struct Hung(Pid);

impl Hung {
    async fn new(redis: &RedisServer) -> Self {
        let hung = Self(Pid::from_raw(redis.pid()));
        kill(hung.0, Signal::SIGSTOP).unwrap();
        wait_until("Redis stands still", || async {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", hung.0)).unwrap();
            stat.contains(") T ").then_some(())
        })
        .await;
        hung
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        // A Redis that ended meanwhile stands still no more.
        let _gone = kill(self.0, Signal::SIGCONT);
    }
}

/// Architecture §7: without Redis at the start everything is answered, and once Redis is there it
/// is used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_missing_at_the_start_is_used_once_it_is_there() {
    let folder: PathBuf = scratch("redis");
    let redis = redis_in(&folder).await;
    let url = redis.url();
    redis.stop().await.unwrap();

    let first = first_process(&url).await;
    let second = first.another_at(&url).await;
    let known = questions("known", 30);
    let new = first.ask_all(&known).await;
    let again = first.ask_all(&known).await;
    let elsewhere = second.ask_all(&known).await;
    let errors = (first.redis_errors().await, second.redis_errors().await);
    let sources = [new.sources(), again.sources(), elsewhere.sources()];
    let bad = new.bad() + again.bad() + elsewhere.bad();
    println!("90 asked without Redis: {bad} bad, from {sources:?}, errors counted {errors:?}");
    assert_eq!(bad, 0);
    assert_eq!(sources, [[0, 0, 0, 30], [30, 0, 0, 0], [0, 0, 30, 0]]);
    assert!(errors.0 > 0 && errors.1 > 0);

    let redis = redis_in(&folder).await;
    assert_eq!(redis.url(), url);
    let asked = first.wait_until_shared_with(&second).await;
    println!("used after {asked} questions");
    for process in [first, second] {
        process.app.stop().await;
    }
    redis.stop().await.unwrap();
}

/// Architecture §7: Redis is killed under load: no reply fails, answers come from below, failures
/// are counted; once it is back it is used again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_killed_under_load_harms_no_reply_and_is_used_again() {
    const REQUESTS: usize = 600;
    let folder = scratch("redis");
    let redis = redis_in(&folder).await;
    let first = first_process(&redis.url()).await;
    let known = questions("known", REQUESTS / 3);
    assert_eq!(first.ask_all(&known).await.sources(), [0, 0, 0, known.len()]);
    wait_for_keys(&redis, known.len()).await;
    let second = first.another(&redis).await;
    assert_eq!(second.redis_errors().await, 0);

    let pid = Pid::from_raw(redis.pid());
    let next = Arc::new(AtomicUsize::new(0));
    let load = join_all((0..8).map(|_| async {
        let mut replies = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::SeqCst);
            if index >= REQUESTS {
                return replies;
            }
            if index == REQUESTS / 3 {
                kill(pid, Signal::SIGKILL).unwrap();
            }
            // Each known question twice, then one that nobody asked before.
            replies.push(match index % 3 {
                2 => second.ask(&format!("new question {index}")).await,
                _ => second.ask(&known[index / 3]).await,
            });
        }
    }));
    let mut tally = Tally::default();
    for answered in load.await.into_iter().flatten() {
        tally.add(answered);
    }
    let errors = second.redis_errors().await;
    println!("{REQUESTS} asked, killed at {}: {tally:?}, errors counted {errors}", REQUESTS / 3);
    assert_eq!((tally.sources().iter().sum::<usize>(), tally.bad()), (REQUESTS, 0));
    assert!(tally.sources().iter().all(|count| *count > 0), "every source was there");
    assert!(errors > 0);

    redis.stop().await.unwrap();
    let redis = redis_in(&folder).await;
    let asked = first.wait_until_shared_with(&second).await;
    let held = count_values(&redis).await;
    let fresh = first.another(&redis).await;
    let found = fresh.ask(&format!("question {asked} since Redis is back")).await.reply;
    println!("used after {asked} questions, {held} values in it");
    assert_eq!(found.expect(200).body["cacheSource"], "warm");
    for process in [first, second, fresh] {
        process.app.stop().await;
    }
    redis.stop().await.unwrap();
}

/// Architecture §7: of a hung Redis the first replies wait one limit, then the breaker spares the
/// others the wait; once it goes on it is used again.
#[rstest]
#[case::before_the_first_use(0)]
#[case::in_the_middle(5)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_redis_delays_a_few_replies_and_is_used_again(#[case] before: usize) {
    let redis = own_redis().await;
    let first = first_process(&redis.url()).await;
    let known = questions("known", before + 50);
    first.ask_all(&known).await;
    wait_for_keys(&redis, known.len()).await;
    let second = first.another(&redis).await;
    assert_eq!(second.ask_all(&known[..before]).await.sources(), [0, before, 0, 0]);

    let hung = Hung::new(&redis).await;
    let early = second.ask_all(&known[before..before + 10]).await;
    let begun = Instant::now();
    let late = second.ask_all(&known[before + 10..]).await;
    let took = begun.elapsed();
    let errors = second.redis_errors().await;
    drop(hung);
    println!("10 asked of a hung Redis: {early:?}");
    println!("40 more took {took:?} of {:?}: {late:?}; errors counted {errors}", LIMIT * 40);
    assert_eq!((early.bad(), late.bad()), (0, 0));
    assert_eq!((early.cold, late.cold), (10, 40));
    assert!(early.waited > 0, "Redis was asked");
    assert!(early.slowest < LIMIT * 2 && late.slowest < LIMIT * 2);
    assert!(late.waited <= 4, "the breaker spares them the wait");
    assert!(took < LIMIT * 10);
    assert!(errors > 0);

    let asked = first.wait_until_shared_with(&second).await;
    println!("used again after {asked} questions");
    for process in [first, second] {
        process.app.stop().await;
    }
    redis.stop().await.unwrap();
}

/// Architecture §7: many who ask at once of a hung Redis wait at the same time, not in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_at_once_of_a_hung_redis_wait_one_limit_together() {
    let redis = own_redis().await;
    let first = first_process(&redis.url()).await;
    let known = questions("known", 32);
    first.ask_all(&known).await;
    wait_for_keys(&redis, known.len()).await;
    let second = first.another(&redis).await;
    let hung = Hung::new(&redis).await;
    let replies = join_all(known.iter().map(|question| second.ask(question))).await;
    drop(hung);
    let mut tally = Tally::default();
    for answered in replies {
        tally.add(answered);
    }
    println!("32 at once of a hung Redis: {tally:?}");
    assert_eq!((tally.sources(), tally.bad()), ([0, 0, 32, 0], 0));
    assert!(tally.waited > 0, "Redis was asked");
    assert!(tally.slowest < LIMIT * 4);
    for process in [first, second] {
        process.app.stop().await;
    }
    redis.stop().await.unwrap();
}

/// Issue 2 item 6: writing to Redis never delays a reply, however long Redis hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reply_waits_for_a_write_to_a_hung_redis() {
    let redis = own_redis().await;
    let first = first_process(&redis.url()).await;
    first.ask_all(&questions("known", 1)).await;
    wait_for_keys(&redis, 1).await;
    let hung = Hung::new(&redis).await;
    let unread = first.ask_all_in("refresh", &questions("refreshed", 20)).await;
    let missed = first.ask_all(&questions("missed", 3)).await;
    let errors = first.redis_errors().await;
    drop(hung);
    println!("20 answered anew without reading: {unread:?}");
    println!("3 missed: {missed:?}; errors counted {errors}");
    assert_eq!((unread.bad(), missed.bad()), (0, 0));
    assert_eq!((unread.upstream, missed.upstream), (20, 3));
    assert!(unread.waited <= 1, "one asks for a lease; a reply that reads nothing waits no more");
    assert!(unread.waited + missed.waited > 0, "Redis was asked");
    assert!(missed.slowest < LIMIT * 2, "the read's limit and no second wait");
    first.app.stop().await;
    redis.stop().await.unwrap();
}
