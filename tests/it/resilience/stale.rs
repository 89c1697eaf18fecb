//! Answers beyond their time (issue 4 item 5, RFC 5861): served within their windows, never past an
//! invalidation, and fetched anew once for all.

use std::sync::Arc;
use std::time::Duration;

use ai_cache::domain::caller::Role;
use ai_cache::domain::entry::Windows;
use ai_cache::upstream::{OpenAi, OpenAiSettings};
use chrono::TimeDelta;
use deadpool_redis::redis::cmd;
use futures_util::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::flights::invalidation_of;
use super::redis::{list_values, own_redis, run, wait_for_keys};
use crate::api::open::series;
use crate::support::app::{PRICES, Tenant};
use crate::support::upstream::TestUpstream;
use crate::support::{Reply, TestApp, TestClock, TestDb, wait_until};

/// Past the time of what `question` asks for, whose times differ by 5 %, by 10 to 40 s.
const JUST_PAST: TimeDelta = TimeDelta::seconds(610);

const WINDOWS: Windows =
    Windows { while_revalidate: TimeDelta::seconds(60), if_error: TimeDelta::seconds(300) };

fn question(text: &str) -> Value {
    json!({ "query": text, "cache": { "ttlSeconds": 600 } })
}

struct Aged {
    clock: Arc<TestClock>,
    app: TestApp,
    tenant: Tenant,
}

impl Aged {
    async fn start(windows: Windows) -> Self {
        let clock = Arc::new(TestClock::default());
        let app = start(&clock, &TestDb::new().await, windows, None).await;
        let tenant = app.tenant("acme").await;
        Self { clock, app, tenant }
    }

    /// The first reply to a question whose answer is just past its time now.
    async fn aged(&self, text: &str) -> Reply {
        let first = self.tenant.app.query(&question(text)).await.expect(200);
        self.clock.advance(JUST_PAST);
        first
    }

    async fn count(&self, condition: &str) -> i64 {
        let query = format!("SELECT count(*) FROM ai_cache_audit_logs WHERE {condition}");
        self.app.db.count(&query).await
    }
}

async fn start(
    clock: &Arc<TestClock>,
    db: &TestDb,
    windows: Windows,
    redis: Option<&str>,
) -> TestApp {
    let builder = TestApp::builder().db(db).clock(Arc::clone(clock) as _);
    let builder = builder.settings(|settings| settings.stale = windows);
    match redis {
        Some(url) => builder.redis_url(url).start().await,
        None => builder.start().await,
    }
}

/// Seconds that `Cache-Status` says are left, and the rest of it.
fn status(reply: &Reply) -> (i64, String) {
    let text = reply.header("cache-status").unwrap();
    let (head, tail) = text.split_once("; ttl=").unwrap_or((text, "0"));
    let (left, tail) = tail.split_once(';').unwrap_or((tail, ""));
    (left.parse().unwrap(), format!("{head};{tail}"))
}

#[track_caller]
fn assert_stale(reply: &Reply, first: &Reply, told: &str) {
    let (left, rest) = status(reply);
    assert!((-400..0).contains(&left), "{:?}", reply.headers);
    assert_eq!(rest, told);
    assert_eq!(reply.header("x-cache"), Some("STALE"));
    let age = reply.body["cacheAge"].as_i64().unwrap();
    assert!(age >= 610, "{age}");
    assert_eq!(reply.header("age"), Some(age.to_string().as_str()));
    let members = ["stale", "cached", "expiresIn", "costSavedUsd", "match", "entryId", "data"];
    let (entry, data) = (&first.body["entryId"], &first.body["data"]);
    let wanted = [&json!(true), &json!(true), &json!(0), &json!("0"), &json!("exact"), entry, data];
    assert_eq!(members.map(|name| &reply.body[name]), wanted);
}

/// RFC 5861 §3: the reply does not wait, the next ones are fresh, each has its record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_a_little_late_is_served_at_once_and_fetched_anew_behind_the_reply() {
    let aged = Aged::start(WINDOWS).await;
    let first = aged.aged("q").await;
    let (app, tenant) = (&aged.app, &aged.tenant);
    app.upstream.hold();
    let late = tenant.app.query(&question("q")).await.expect(200);
    assert_stale(&late, &first, "ai-cache; fwd=stale; detail=hot");
    app.upstream.wait_for_calls(2).await;
    app.upstream.release();
    let fresh = wait_until("the answer is fetched anew", || async {
        let reply = tenant.app.query(&question("q")).await.expect(200);
        (reply.body["stale"] == false).then_some(reply)
    })
    .await;
    assert_ne!(fresh.body["entryId"], first.body["entryId"]);
    assert_eq!(
        (status(&fresh).1.as_str(), fresh.header("x-cache")),
        ("ai-cache; hit; detail=hot", Some("HIT"))
    );
    assert_eq!(app.upstream.calls(), 2);
    let of = |reply: &Reply, condition: &str| {
        format!("entry_id = '{}' AND {condition}", reply.body["entryId"].as_str().unwrap())
    };
    let stale = "action = 'query' AND outcome = 'stale' AND tier = 'hot' AND status = 200
                 AND cost_picousd = 0";
    assert!(aged.count(&of(&first, stale)).await >= 1);
    let anew = "action = 'fill' AND outcome = 'stored'";
    assert_eq!(aged.count(&of(&fresh, anew)).await, 1);
    aged.app.stop().await;
}

/// Issue 4: one background refresh, whoever asks; nothing is counted as saved twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_callers_of_what_has_just_expired_cause_one_fetch() {
    let aged = Aged::start(WINDOWS).await;
    let first = aged.aged("q").await;
    let (app, tenant) = (&aged.app, &aged.tenant);
    app.upstream.hold();
    let asked = question("q");
    let late = join_all((0..200).map(|_| tenant.app.query(&asked))).await;
    for reply in late {
        assert_stale(&reply.expect(200), &first, "ai-cache; fwd=stale; detail=hot");
    }
    app.upstream.wait_for_calls(2).await;
    app.upstream.release();
    wait_until("the answer is fetched anew", || async {
        (aged.count("action = 'fill'").await == 2).then_some(())
    })
    .await;
    let records = aged.count("action = 'query' AND outcome = 'stale'").await;
    println!("200 stale replies, {records} records, {} upstream calls", app.upstream.calls());
    assert_eq!((records, app.upstream.calls()), (200, 2));
    let metrics = app.client.get("/api/metrics").await.expect(200).text;
    assert!((series(&metrics, "ai_cache_stale_total") - 200.0).abs() < 1e-9, "{metrics}");
    let counted = tenant.admin.get("/api/ai-cache/statistics").await.expect(200).body;
    let names = ["hits", "misses", "upstreamCalls", "costSavedUsd", "tokensSaved", "errors"];
    let wanted = [json!(200), json!(1), json!(2), json!("0"), json!(0), json!(0)];
    assert_eq!(names.map(|name| counted[name].clone()), wanted);
    aged.app.stop().await;
}

/// The way in which an upstream fails.
#[derive(Debug, Clone, Copy)]
enum Failure {
    Refusing,
    Failing,
    Babbling,
    Hanging,
    LeftAlone,
}

impl Failure {
    fn script(self, upstream: &TestUpstream) {
        match self {
            Self::Refusing => upstream.then_status(400, None),
            // The failure lasts for all retries.
            Self::Failing => (0..3).for_each(|_| upstream.then_status(503, None)),
            Self::Babbling => upstream.then_garbage(),
            Self::Hanging => upstream.then_hang(),
            Self::LeftAlone => {}
        }
    }
}

/// RFC 5861 §4: however the upstream fails, the stale answer is served inside its window and the
/// failure told past it; a caller's greatest age counts, and who refuses what is cached gets none.
#[rstest]
#[case(Failure::Refusing, (502, "upstream-failed"))]
#[case(Failure::Failing, (502, "upstream-failed"))]
#[case(Failure::Babbling, (502, "upstream-failed"))]
#[case(Failure::Hanging, (504, "upstream-timeout"))]
#[case(Failure::LeftAlone, (502, "upstream-failed"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_upstream_fails_the_stale_answer_is_served_inside_its_window(
    #[case] failure: Failure,
    #[case] told: (u16, &str),
) {
    let (clock, upstream) = (Arc::new(TestClock::default()), TestUpstream::start().await);
    let settings = OpenAiSettings {
        base_url: upstream.url().to_owned(),
        name: "openai".to_owned(),
        api_key: None,
        model: "m".to_owned(),
        timeout: Duration::from_millis(if matches!(failure, Failure::Hanging) {
            300
        } else {
            9_000
        }),
        prices: PRICES,
    };
    let openai = OpenAi::new(settings, Arc::clone(&clock) as _).unwrap();
    let windows = Windows { while_revalidate: TimeDelta::zero(), ..WINDOWS };
    let builder = TestApp::builder().clock(Arc::clone(&clock) as _).upstream(Arc::new(openai));
    let app = builder.settings(|settings| settings.stale = windows).start().await;
    let tenant = app.tenant("acme").await;
    let first = tenant.app.query(&question("q")).await.expect(200);
    clock.advance(JUST_PAST);
    if matches!(failure, Failure::LeftAlone) {
        for number in 0..5 {
            Failure::Failing.script(&upstream);
            tenant.app.ask(&format!("another question {number}")).await.expect(502);
        }
    }
    let ask = async |cache: Value| {
        failure.script(&upstream);
        tenant.app.query(&json!({ "query": "q", "cache": cache })).await
    };
    let late = ask(json!({})).await.expect(200);
    assert_stale(&late, &first, "ai-cache; fwd=stale; detail=hot");
    let patient = ask(json!({ "maxAgeSeconds": 900 })).await.expect(200);
    assert_stale(&patient, &first, "ai-cache; fwd=stale; detail=hot");
    let (status, problem) = told;
    for refusing in
        [json!({ "maxAgeSeconds": 600 }), json!({ "mode": "refresh" }), json!({ "mode": "bypass" })]
    {
        assert_eq!(ask(refusing).await.expect(status).problem(), problem);
    }
    clock.advance(TimeDelta::seconds(300));
    let gone = ask(json!({})).await;
    // The pause of the breaker is over by then; it lets one through.
    let answered = matches!(failure, Failure::LeftAlone);
    assert_eq!(gone.status, if answered { 200 } else { status }, "{}", gone.text);
    assert_eq!(gone.body["stale"], if answered { json!(false) } else { Value::Null });
    let records = "SELECT count(*) FROM ai_cache_audit_logs
                   WHERE action = 'query' AND outcome = 'stale'";
    assert_eq!(app.db.count(records).await, 2);
    app.stop().await;
}

/// Architecture §5: a stale window never reaches past an invalidation, of whatever kind, in any
/// tier and on any replica.
#[rstest]
#[case(json!({ "invalidateAll": true }))]
#[case(json!({ "operation": "chat" }))]
#[case(json!({ "tag": "nyc" }))]
#[case(json!({ "location": "New York" }))]
#[case(json!({ "vendorType": "dj" }))]
#[case(json!({ "subjectId": "couple-4711" }))]
#[case(Value::Null)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_invalidated_is_never_served_stale(#[case] selector: Value) {
    let (clock, redis) = (Arc::new(TestClock::default()), own_redis().await);
    let app = start(&clock, &TestDb::new().await, WINDOWS, Some(&redis.url())).await;
    let tenant = app.tenant("acme").await;
    let other = start(&clock, &app.db, WINDOWS, Some(&redis.url())).await;
    let (here, there) = (&tenant.app, tenant.app.at(&other.base()));
    let question = json!({
        "query": "q", "operation": "chat", "subjectId": "couple-4711",
        "weddingContext": { "location": "New York", "vendorTypes": ["dj"] },
        "cache": { "ttlSeconds": 600, "tags": ["nyc"] },
    });
    let first = here.query(&question).await.expect(200);
    wait_for_keys(&redis, 1).await;
    assert_eq!(there.query(&question).await.expect(200).body["cacheSource"], "warm");
    clock.advance(JUST_PAST);
    let selector = match selector {
        Value::Null => json!({ "entryId": first.body["entryId"] }),
        given => given,
    };
    tenant.admin.post("/api/ai-cache/invalidate", &selector).await.expect(200);
    other.rooms().coherence().catch_up().await.unwrap();
    for (caller, upstream) in [(here, &app.upstream), (&there, &other.upstream)] {
        upstream.then_status(400, None);
        let reply = caller.query(&question).await.expect(502);
        assert_eq!(reply.problem(), "upstream-failed");
    }
    // Redis may hold one of an ended generation, which does not open: each record of it is taken
    // back by another.
    let records = |outcome: &str| {
        format!("SELECT count(*) FROM ai_cache_audit_logs WHERE outcome = '{outcome}'")
    };
    let stale = app.db.count(&records("stale")).await;
    assert_eq!(stale, app.db.count(&records("integrity-failure")).await);
    other.stop().await;
    app.stop().await;
}

/// Architecture §5: an invalidation between the look-up and the receipt counts for a stale answer
/// as for a fresh one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidation_before_the_receipt_withdraws_a_stale_answer() {
    let aged = Aged::start(WINDOWS).await;
    let first = aged.aged("q").await;
    let (app, tenant) = (&aged.app, &aged.tenant);
    tenant.app.ask("something else").await.expect(200);
    let mut blocker = app.db.superuser().await;
    let lock = blocker.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE ai_cache_audit_logs IN SHARE MODE").await.unwrap();
    let invalidate = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait_until("its record waits", || async {
            (app.db.count(waiting).await >= 1).then_some(())
        })
        .await;
        app.db.superuser().await.batch_execute(&invalidation_of(tenant.id)).await.unwrap();
        app.rooms().coherence().catch_up().await.unwrap();
        lock.rollback().await.unwrap();
    };
    let asked = question("q");
    let (reply, ()) = tokio::join!(tenant.app.query(&asked), invalidate);
    let reply = reply.expect(200);
    assert_eq!(reply.header("cache-status"), Some("ai-cache; fwd=miss; stored"));
    assert_ne!(reply.body["entryId"], first.body["entryId"]);
    aged.app.stop().await;
}

/// Issue 4 item 5: each tier keeps an answer to the end of the longer window, and no longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tier_serves_stale_answers() {
    let (clock, redis) = (Arc::new(TestClock::default()), own_redis().await);
    let app = start(&clock, &TestDb::new().await, WINDOWS, Some(&redis.url())).await;
    let tenant = app.tenant("acme").await;
    let first = tenant.app.query(&question("q")).await.expect(200);
    wait_for_keys(&redis, 1).await;
    let keys = list_values(&redis).await;
    let left: i64 = run(&redis, cmd("PTTL").arg(&keys[0])).await;
    println!("the value stays in Redis for {left} ms");
    assert!((860_000..=900_000).contains(&left), "600 s less 5 %, and 300 s more: {left}");
    clock.advance(JUST_PAST);
    for (url, tier) in [(Some(redis.url()), "warm"), (None, "cold")] {
        let other = start(&clock, &app.db, WINDOWS, url.as_deref()).await;
        // It is not fetched anew, so that the next one finds it stale too.
        other.upstream.then_truncated();
        let caller = other.client.with_token(&app.token(tenant.id, &[Role::App]).await);
        let reply = caller.query(&question("q")).await.expect(200);
        assert_stale(&reply, &first, &format!("ai-cache; fwd=stale; detail={tier}"));
        other.upstream.wait_for_calls(1).await;
        other.stop().await;
    }
    app.stop().await;
}

/// RFC 9111 §5.2.1: what a request says counts more than the windows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_decide_whether_a_stale_answer_will_do() {
    let Aged { clock, app, tenant } = Aged::start(WINDOWS).await;
    let strict = ["no-cache", "no-store", "max-age=9999", "max-age=60"];
    let texts = ["only-if-cached", "only-if-cached, max-age=9999"];
    let mut firsts = Vec::new();
    for text in strict.iter().chain(&texts) {
        firsts.push(tenant.app.query(&question(text)).await.expect(200));
    }
    clock.advance(JUST_PAST);
    for (number, text) in strict.iter().enumerate() {
        let caller = tenant.app.with_header("cache-control", text);
        let reply = caller.query(&question(text)).await.expect(200);
        assert_eq!(
            (&reply.body["stale"], &reply.body["cached"]),
            (&json!(false), &json!(false)),
            "{text}"
        );
        assert_ne!(reply.body["data"], firsts[number].body["data"], "{text}");
    }
    assert_eq!(app.upstream.calls(), 6 + 4);
    let polite = tenant.app.with_header("cache-control", texts[0]);
    let reply = polite.query(&question(texts[0])).await.expect(200);
    assert_stale(&reply, &firsts[4], "ai-cache; hit; detail=hot");
    let choosy = tenant.app.with_header("cache-control", texts[1]);
    assert_eq!(choosy.query(&question(texts[1])).await.expect(504).problem(), "not-cached");
    clock.advance(TimeDelta::seconds(60));
    assert_eq!(polite.query(&question(texts[0])).await.expect(504).problem(), "not-cached");
    assert_eq!(app.upstream.calls(), 6 + 4, "who wants what is cached causes no call");
    app.stop().await;
}

/// A fetch that brings nothing to keep is not made again for each stale reply.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_in_vain_is_not_repeated_for_each_stale_reply() {
    let aged = Aged::start(WINDOWS).await;
    let first = aged.aged("q").await;
    let (app, tenant) = (&aged.app, &aged.tenant);
    app.upstream.then_truncated();
    tenant.app.query(&question("q")).await.expect(200);
    app.upstream.wait_for_calls(2).await;
    wait_until("it was in vain", || async {
        let reply = tenant.app.query(&question("q")).await.expect(200);
        (status(&reply).1 == "ai-cache; hit; detail=hot").then_some(())
    })
    .await;
    for _ in 0..20 {
        let reply = tenant.app.query(&question("q")).await.expect(200);
        assert_stale(&reply, &first, "ai-cache; hit; detail=hot");
    }
    assert_eq!(app.upstream.calls(), 2);
    aged.clock.advance(TimeDelta::seconds(6));
    let reply = tenant.app.query(&question("q")).await.expect(200);
    assert_stale(&reply, &first, "ai-cache; fwd=stale; detail=hot");
    app.upstream.wait_for_calls(3).await;
    aged.app.stop().await;
}
