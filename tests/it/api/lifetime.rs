//! The time to live of answers, and the age that callers accept (api.md "Query").

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta};
use serde_json::{Value, json};

use crate::support::{Reply, TestApp, TestClock};

async fn start(clock: &Arc<TestClock>) -> TestApp {
    TestApp::builder().clock(Arc::clone(clock) as _).start().await
}

fn seconds(count: i64) -> TimeDelta {
    TimeDelta::seconds(count)
}

fn number(reply: &Reply, name: &str) -> i64 {
    reply.body[name].as_i64().unwrap()
}

/// Milliseconds between two times of an entry.
fn life(entry: &Value) -> i64 {
    let at = |name: &str| DateTime::parse_from_rfc3339(entry[name].as_str().unwrap()).unwrap();
    (at("expiresAt") - at("createdAt")).num_milliseconds()
}

/// api.md "Query": `cacheAge`, `expiresIn`, `Age` and `Cache-Status` tell the same story.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_tells_its_age_and_what_is_left() {
    let clock = Arc::new(TestClock::default());
    let app = start(&clock).await;
    let tenant = app.tenant("acme").await;
    let asking = json!({ "query": "a question", "cache": { "ttlSeconds": 600 } });
    let first = tenant.app.query(&asking).await.expect(200);
    assert!((569..=600).contains(&number(&first, "expiresIn")), "{}", first.text);
    assert_eq!(number(&first, "cacheAge"), 0);
    assert_eq!(first.header("age"), None);

    clock.advance(seconds(100));
    let hit = tenant.app.query(&asking).await.expect(200);
    let (age, left) = (number(&hit, "cacheAge"), number(&hit, "expiresIn"));
    assert!((100..=110).contains(&age), "{age}");
    assert!((455..=500).contains(&left), "{left}");
    assert_eq!(hit.header("age"), Some(age.to_string().as_str()));
    let status = format!("ai-cache; hit; ttl={left}; detail=hot");
    assert_eq!(hit.header("cache-status"), Some(status.as_str()));
    assert_eq!(hit.header("cache-control"), Some("private, no-store"));
    app.stop().await;
}

/// api.md "Query": nothing is served beyond its time, in memory or in Postgres.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_gone_when_its_time_is_over() {
    let clock = Arc::new(TestClock::default());
    let app = start(&clock).await;
    let tenant = app.tenant("acme").await;
    let asking = json!({ "query": "a question", "cache": { "ttlSeconds": 600 } });
    let first = tenant.app.query(&asking).await.expect(200);
    clock.advance(seconds(560));
    assert_eq!(tenant.app.query(&asking).await.expect(200).body["cached"], true);

    clock.advance(seconds(41));
    let polite = tenant.app.with_header("cache-control", "only-if-cached");
    assert_eq!(polite.ask("a question").await.expect(504).problem(), "not-cached");
    let entry = first.body["entryId"].as_str().unwrap();
    tenant.admin.get(&format!("/api/ai-cache/entries/{entry}")).await.expect(404);
    let again = tenant.app.query(&asking).await.expect(200);

    assert_eq!(again.body["cached"], false);
    assert_eq!(again.header("cache-status"), Some("ai-cache; fwd=miss; stored"));
    assert_ne!(again.body["entryId"], first.body["entryId"]);
    assert_eq!(app.upstream.calls(), 2);
    app.stop().await;
}

/// architecture.md §5: up to 5 % shorter, never longer, and not the same for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lives_are_spread_by_five_per_cent_downward() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    for number in 0..40 {
        let asking = json!({ "query": format!("question {number}"),
            "cache": { "ttlSeconds": 10_000 } });
        tenant.app.query(&asking).await.expect(200);
    }
    let list = tenant.admin.get("/api/ai-cache/entries").await.expect(200);
    let entries = list.body["entries"].as_array().unwrap();
    let lives: BTreeSet<i64> = entries.iter().map(life).collect();
    assert_eq!(entries.len(), 40);
    assert!(lives.iter().all(|life| (9_500_000..=10_000_000).contains(life)), "{lives:?}");
    assert!(lives.len() > 10, "{} different lives of 40: {lives:?}", lives.len());
    app.stop().await;
}

/// Issue 2 item 6: the built-in operations have times of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_has_its_time_unless_the_caller_names_one() {
    let app =
        TestApp::builder().settings(|settings| settings.default_ttl = seconds(7_200)).start().await;
    let tenant = app.tenant("acme").await;
    let times = [
        ("wedding-query", 7_200),
        ("chat", 3_600),
        ("workout-plan", 86_400),
        ("meal-plan", 86_400),
        ("progress-analysis", 1_800),
    ];
    for (operation, ttl) in times {
        let asking = json!({ "query": "a question", "operation": operation });
        let left = number(&tenant.app.query(&asking).await.expect(200), "expiresIn");
        assert!((ttl * 95 / 100 - 1..=ttl).contains(&left), "{operation}: {left} of {ttl}");
        let asking = json!({ "query": "another question", "operation": operation,
            "cache": { "ttlSeconds": 60 } });
        let left = number(&tenant.app.query(&asking).await.expect(200), "expiresIn");
        assert!((56..=60).contains(&left), "{operation}: {left} of 60");
    }
    app.stop().await;
}

/// api.md "Query": an answer too old for one caller is fetched anew, for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_too_old_for_one_caller_is_fetched_again_and_stored() {
    let clock = Arc::new(TestClock::default());
    let app = start(&clock).await;
    let tenant = app.tenant("acme").await;
    let asking = |most: i64| json!({ "query": "q", "cache": { "maxAgeSeconds": most } });
    let first = tenant.app.ask("q").await.expect(200);
    clock.advance(seconds(100));

    let patient = tenant.app.query(&asking(200)).await.expect(200);
    assert_eq!(patient.body["entryId"], first.body["entryId"]);
    let polite = tenant.app.with_header("cache-control", "only-if-cached, max-age=50");
    assert_eq!(polite.ask("q").await.expect(504).problem(), "not-cached");
    let impatient = tenant.app.query(&asking(50)).await.expect(200);
    assert_eq!(impatient.header("cache-status"), Some("ai-cache; fwd=miss; stored"));
    assert_ne!(impatient.body["entryId"], first.body["entryId"]);
    let next = tenant.app.ask("q").await.expect(200);
    assert_eq!(next.body["entryId"], impatient.body["entryId"]);
    assert_eq!(app.upstream.calls(), 2);
    app.stop().await;
}

/// api.md "Query": `max-age` in the header means the same, and the lower one counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lower_of_two_greatest_ages_counts() {
    let clock = Arc::new(TestClock::default());
    let app = start(&clock).await;
    let tenant = app.tenant("acme").await;
    for (number, (body, header, cached)) in
        [(200, "max-age=300", true), (200, "max-age=50", false), (50, "max-age=200", false)]
            .into_iter()
            .enumerate()
    {
        let question = format!("question {number}");
        tenant.app.ask(&question).await.expect(200);
        clock.advance(seconds(100));
        let asking = json!({ "query": question, "cache": { "maxAgeSeconds": body } });
        let caller = tenant.app.with_header("cache-control", header);
        let reply = caller.query(&asking).await.expect(200);
        assert_eq!(reply.body["cached"], cached, "{body} and {header}");
    }
    app.stop().await;
}
