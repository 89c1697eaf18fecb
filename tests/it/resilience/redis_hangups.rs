//! Replies of Redis that come late, while those who asked have hung up: one shared connection carries
//! them all, and none may reach another (issue 4).

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ai_cache::domain::caller::Role;
use ai_cache::redis::RedisSettings;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::redis_proxy::RedisProxy;
use crate::support::redis_servers::RedisProcess;
use crate::support::{TestApp, rounds, wait_until};

/// 50 tenants; a few in `make test`.
fn tenants() -> usize {
    rounds(12, 50)
}

const QUESTIONS: usize = 10;
const CALLERS: usize = 64;

/// The longest time of a command. Now and then a reply comes later.
const LIMIT: Duration = Duration::from_millis(100);

/// Up to 15 ms, and one in some thousand pieces later than the limit.
fn delay(total: usize) -> Duration {
    let spread = total.wrapping_mul(0x9e37_79b9) >> 7;
    Duration::from_millis(if spread.is_multiple_of(2_048) { 200 } else { spread as u64 % 15 })
}

/// Returns the time that a caller waits before hanging up. Returns `None` if it waits for as long
/// as it takes.
fn patience(index: usize) -> Option<Duration> {
    let spread = index.wrapping_mul(0x9e37_79b9) >> 9;
    let settled = index > tenants() * QUESTIONS * 3;
    (settled && spread.is_multiple_of(2)).then(|| Duration::from_millis(spread as u64 / 2 % 20))
}

/// 64 callers and what they got.
struct Callers {
    http: reqwest::Client,
    base: String,
    tokens: Vec<String>,
    next: AtomicUsize,
    enough: AtomicBool,
    answered: AtomicUsize,
    hung_up: AtomicUsize,
    warm: AtomicUsize,
    foreign: AtomicUsize,
    failed: Mutex<Vec<u16>>,
}

impl Callers {
    async fn new(app: &TestApp) -> Self {
        let mut tokens = Vec::new();
        for number in 0..tenants() {
            let tenant = app.tenant(&format!("tenant-{number}")).await;
            tokens.push(app.token(tenant.id, &[Role::App]).await);
            // Tokens never seen before are verified one by one: at once they would be too many.
            app.client.with_token(&tokens[number]).ask("hello").await.expect(200);
        }
        let idle = Duration::from_secs(1);
        let http = reqwest::Client::builder().no_proxy().pool_idle_timeout(idle).build().unwrap();
        Self {
            http,
            base: app.base(),
            tokens,
            next: AtomicUsize::new(0),
            enough: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            hung_up: AtomicUsize::new(0),
            warm: AtomicUsize::new(0),
            foreign: AtomicUsize::new(0),
            failed: Mutex::default(),
        }
    }

    fn note(&self, question: &str, status: u16, body: &Value) {
        match status {
            200 => {}
            // Only the cache was asked, and Redis was left alone just then.
            504 => return,
            _ => return self.failed.lock().unwrap().push(status),
        }
        self.answered.fetch_add(1, Ordering::SeqCst);
        let warm = body["cacheSource"] == "warm";
        self.warm.fetch_add(usize::from(warm), Ordering::SeqCst);
        let foreign = body["data"]["response"] != format!("the answer to {question}");
        self.foreign.fetch_add(usize::from(foreign), Ordering::SeqCst);
    }

    async fn ask(&self, index: usize) {
        let tenant = index % tenants();
        let question = format!("question {} of tenant-{tenant}", index / tenants() % QUESTIONS);
        // The one is looked up in a task of its own, the other in the caller's request.
        let mode = if index.is_multiple_of(3) { "default" } else { "only-if-cached" };
        let request = self
            .http
            .post(format!("{}/api/ai-cache/query", self.base))
            .bearer_auth(&self.tokens[tenant])
            .json(&json!({ "query": question, "cache": { "mode": mode } }));
        let reply = async {
            let reply = request.send().await.unwrap();
            let status = reply.status().as_u16();
            let text = reply.text().await.unwrap();
            self.note(&question, status, &serde_json::from_str(&text).unwrap());
        };
        let patience = patience(index).unwrap_or(Duration::from_mins(1));
        let waited = tokio::time::timeout(patience, reply).await;
        self.hung_up.fetch_add(usize::from(waited.is_err()), Ordering::SeqCst);
    }

    async fn ask_on(&self) {
        while !self.enough.load(Ordering::SeqCst) {
            self.ask(self.next.fetch_add(1, Ordering::SeqCst)).await;
        }
    }
}

/// Counts the reads of values that Redis got.
async fn gets(server: &RedisProcess) -> usize {
    let told = server.info("commandstats", "cmdstat_get").await;
    let calls = told.strip_prefix("calls=").and_then(|rest| rest.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

/// 50 tenants ask for the same questions, each with its name; half hang up within 20 ms.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_comes_late_reaches_nobody_else() {
    let wanted = rounds(600, 100_000);
    let server = RedisProcess::start(&[]).await;
    let proxy = RedisProxy::start(server.port, delay).await;
    let redis = RedisSettings { urls: vec![proxy.url.clone()], timeout: LIMIT };
    let builder = TestApp::builder().settings(|settings| {
        settings.redis = Some(redis);
        settings.memory_bytes = 1_024;
    });
    let app = builder.start().await;
    app.upstream.answer_with(|question| format!("the answer to {question}"));
    let callers = Callers::new(&app).await;
    let asking = join_all((0..CALLERS).map(|_| callers.ask_on()));
    let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    let watch = async {
        // The minute of `wait_until` is for each hundredth part.
        for part in 1..=100 {
            wait_until("Redis is asked, answers, and callers hang up", || async {
                let reached = gets(&server).await >= wanted * part / 100
                    && count(&callers.warm) >= wanted / 10 * part / 100
                    && count(&callers.hung_up) >= wanted / 10 * part / 100;
                reached.then_some(())
            })
            .await;
        }
        callers.enough.store(true, Ordering::SeqCst);
    };
    tokio::join!(asking, watch);
    let (warm, hung_up, foreign) =
        (count(&callers.warm), count(&callers.hung_up), count(&callers.foreign));
    let failed = callers.failed.lock().unwrap().clone();
    println!(
        "{} GETs, {} requests: {} answered, {warm} of them from Redis, {hung_up} hung up; \
         {foreign} foreign, failed {failed:?}",
        gets(&server).await,
        count(&callers.next),
        count(&callers.answered),
    );
    assert_eq!((foreign, failed.len()), (0, 0));
    app.stop().await;
}
