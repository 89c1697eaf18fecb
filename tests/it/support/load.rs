//! Many callers of several tenants at once, who check their answers: each answer carries its
//! tenant, its question and the count of invalidations before it was made.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ai_cache::domain::caller::Role;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{TestApp, TestDb, wait_until};

/// The callers at a time.
const CALLERS: usize = 64;
/// The questions of a tenant that are asked again and again.
pub const KNOWN: usize = 40;
/// The requests between two invalidations.
const INVALIDATE_EACH: usize = 100;

/// The time that an unused connection is kept. It is shorter than the service's.
const IDLE: Duration = Duration::from_secs(1);

/// Callers of a service.
pub struct Load {
    http: reqwest::Client,
    base: String,
    callers: Vec<Caller>,
    next: AtomicUsize,
    /// The number of begun invalidations, which the upstream writes into its answers.
    begun: Arc<AtomicU64>,
}

struct Caller {
    token: String,
    admin_token: String,
    /// The invalidations before the last one that was answered. No older answer may come.
    oldest: AtomicU64,
}

/// The replies to a load.
#[derive(Debug, Default)]
pub struct Report {
    pub replies: usize,
    pub failed: usize,
    /// The ways in which failed requests ended.
    failures: Vec<String>,
    /// Answers to another tenant or question.
    pub foreign: usize,
    /// Answers from before an invalidation that had been answered when they were asked for.
    pub stale: usize,
    pub hot: usize,
    pub warm: usize,
    pub cold: usize,
    pub upstream: usize,
    pub invalidations: usize,
    latencies: Vec<Duration>,
    audit_ids: Vec<String>,
}

impl Report {
    pub fn p99(&self) -> Duration {
        let mut latencies = self.latencies.clone();
        latencies.sort_unstable();
        latencies[latencies.len() * 99 / 100]
    }

    fn note(&mut self, asked: &Asked, took: Duration, reply: Option<(u16, Value, String)>) {
        self.replies += 1;
        self.latencies.push(took);
        let (body, audit_id) = match reply {
            Some((200, body, audit_id)) => (body, audit_id),
            other => {
                self.failed += 1;
                self.failures.push(other.map_or_else(String::new, |(status, body, _)| {
                    format!("{status} {} after {took:?}", body["type"])
                }));
                return;
            }
        };
        self.audit_ids.push(audit_id);
        let text = body["data"]["response"].as_str().unwrap_or_default();
        match text.rsplit_once(" after ") {
            Some((told, count)) if told == asked.question => {
                self.stale += usize::from(count.parse::<u64>().unwrap() < asked.oldest);
            }
            _ => self.foreign += 1,
        }
        *match body["cacheSource"].as_str() {
            Some("hot") => &mut self.hot,
            Some("warm") => &mut self.warm,
            Some("cold") => &mut self.cold,
            _ => &mut self.upstream,
        } += 1;
    }

    fn add(&mut self, other: Self) {
        self.replies += other.replies;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.foreign += other.foreign;
        self.stale += other.stale;
        self.hot += other.hot;
        self.warm += other.warm;
        self.cold += other.cold;
        self.upstream += other.upstream;
        self.invalidations += other.invalidations;
        self.latencies.extend(other.latencies);
        self.audit_ids.extend(other.audit_ids);
    }

    /// Counts the records of its replies with data.
    pub async fn records(&self, db: &TestDb) -> usize {
        let ids: HashSet<&String> = self.audit_ids.iter().collect();
        assert_eq!(ids.len(), self.audit_ids.len(), "no two replies name one record");
        let query = "SELECT count(*) FROM ai_cache_audit_logs WHERE id::text = ANY ($1)";
        let row = db.superuser().await.query_one(query, &[&self.audit_ids]).await.unwrap();
        usize::try_from(row.get::<_, i64>(0)).unwrap()
    }

    /// Returns the number of replies with data.
    pub fn answered(&self) -> usize {
        self.audit_ids.len()
    }

    /// Returns the tally in a line.
    pub fn line(&self) -> String {
        let Self { replies, failed, foreign, stale, hot, warm, cold, upstream, .. } = self;
        format!(
            "{replies} replies, {failed} failed, {foreign} foreign, {stale} stale; hot {hot}, warm \
             {warm}, cold {cold}, upstream {upstream}; {} invalidations; p99 {:?} {:?}",
            self.invalidations,
            self.p99(),
            self.failures,
        )
    }
}

struct Asked {
    question: String,
    oldest: u64,
}

impl Load {
    /// Makes callers of `tenants` tenants, which it makes too.
    pub async fn new(app: &TestApp, tenants: usize) -> Self {
        let begun = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&begun);
        app.upstream.answer_with(move |question| {
            format!("{question} after {}", told.load(Ordering::SeqCst))
        });
        let mut callers = Vec::new();
        for number in 0..tenants {
            let tenant = app.tenant(&format!("tenant-{number}")).await;
            let token = app.token(tenant.id, &[Role::App]).await;
            let admin_token = app.token(tenant.id, &[Role::Admin]).await;
            callers.push(Caller { token, admin_token, oldest: AtomicU64::new(0) });
        }
        // A connection that the service is about to close is not used again.
        let http = reqwest::Client::builder().no_proxy().pool_idle_timeout(IDLE).build().unwrap();
        Self { http, base: app.base(), callers, next: AtomicUsize::new(0), begun }
    }

    /// Asks every known question once.
    pub async fn fill(&self) {
        for number in 0..self.callers.len() * KNOWN {
            let (caller, asked) = self.asked(number, number / self.callers.len());
            let mut report = Report::default();
            self.send(caller, &asked, &mut report).await;
            assert_eq!(report.failed + report.foreign, 0);
        }
    }

    fn asked(&self, index: usize, question: usize) -> (&Caller, Asked) {
        let number = index % self.callers.len();
        let caller = &self.callers[number];
        let question = format!("question {question} of tenant-{number}");
        (caller, Asked { question, oldest: caller.oldest.load(Ordering::SeqCst) })
    }

    async fn send(&self, caller: &Caller, asked: &Asked, report: &mut Report) {
        let begun = Instant::now();
        let request = self
            .http
            .post(format!("{}/api/ai-cache/query", self.base))
            .bearer_auth(&caller.token)
            .json(&json!({ "query": asked.question }));
        let reply = async {
            let reply = request.send().await.ok()?;
            let status = reply.status().as_u16();
            let audit_id = reply.headers().get("x-audit-id")?.to_str().ok()?.to_owned();
            let text = reply.text().await.ok()?;
            let body = serde_json::from_str(&text).unwrap_or(Value::Null);
            Some((status, body, audit_id))
        };
        let reply = reply.await;
        report.note(asked, begun.elapsed(), reply);
    }

    /// Invalidates everything of one tenant, which the others keep. Returns the number of
    /// invalidations that were answered.
    async fn invalidate(&self, index: usize) -> usize {
        let caller = &self.callers[index / INVALIDATE_EACH % self.callers.len()];
        let count = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let request = self
            .http
            .post(format!("{}/api/ai-cache/invalidate", self.base))
            .bearer_auth(&caller.admin_token)
            .json(&json!({ "invalidateAll": true }));
        // A starved machine may fail to make a change in time. Nothing is promised then.
        let done = request.send().await.unwrap().status() == 200;
        if done {
            caller.oldest.fetch_max(count, Ordering::SeqCst);
        }
        usize::from(done)
    }

    /// Makes this many requests, one in five with a new question. Beside them it runs `faults`,
    /// which can see how far they are.
    pub async fn run(&self, requests: usize, faults: impl Future<Output = ()>) -> Report {
        let first = self.next.load(Ordering::SeqCst);
        let one = async || {
            let mut report = Report::default();
            loop {
                let index = self.next.fetch_add(1, Ordering::SeqCst);
                if index >= first + requests {
                    return report;
                }
                if index % INVALIDATE_EACH == INVALIDATE_EACH - 1 {
                    report.invalidations += self.invalidate(index).await;
                }
                let question = if index % 5 == 4 { KNOWN + index } else { index / 7 % KNOWN };
                let (caller, asked) = self.asked(index, question);
                self.send(caller, &asked, &mut report).await;
            }
        };
        let load = join_all((0..CALLERS).map(|_| one()));
        let (reports, ()) = tokio::join!(load, faults);
        self.next.store(first + requests, Ordering::SeqCst);
        let mut whole = Report::default();
        for report in reports {
            whole.add(report);
        }
        whole
    }

    /// Waits until this many requests were begun since the load was made.
    pub async fn reached(&self, count: usize) {
        wait_until("the load goes on", || {
            let begun = self.next.load(Ordering::SeqCst);
            std::future::ready((begun >= count).then_some(()))
        })
        .await;
    }

    /// Returns the number of requests that were begun so far.
    pub fn begun(&self) -> usize {
        self.next.load(Ordering::SeqCst)
    }
}
