//! `/api/ai-cache/entries`: what may be told of entries without their answers (api.md).

use std::sync::Arc;

use chrono::{DateTime, TimeDelta};
use serde_json::{Value, json};

use crate::support::{Client, TestApp, TestClock};

const ENTRIES: &str = "/api/ai-cache/entries";

async fn list(caller: &Client, parameters: &str) -> Vec<Value> {
    let reply = caller.get(&format!("{ENTRIES}?{parameters}")).await.expect(200);
    reply.body["entries"].as_array().unwrap().clone()
}

fn ids(entries: &[Value]) -> Vec<String> {
    entries.iter().map(|entry| entry["entryId"].as_str().unwrap().to_owned()).collect()
}

/// api.md: the metadata of an entry, true to what was asked and how often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_tells_its_metadata_but_not_its_answer() {
    let clock = Arc::new(TestClock::default());
    let app = TestApp::builder().clock(Arc::clone(&clock) as _).start().await;
    let tenant = app.tenant("acme").await;
    app.upstream.answer_with(|_| "marker-in-the-answer".to_owned());
    let asking = json!({ "query": "marker-in-the-question", "subjectId": "marker-in-the-person",
        "operation": "chat",
        "weddingContext": { "location": "New York, NY", "vendorTypes": ["Venue", "dj"] },
        "cache": { "tags": ["summer", "nyc", "nyc"], "ttlSeconds": 600 } });
    let made = tenant.app.query(&asking).await.expect(200);
    let path = format!("{ENTRIES}/{}", made.body["entryId"].as_str().unwrap());
    let fresh = tenant.admin.get(&path).await.expect(200);
    assert_eq!(
        (fresh.body["accessCount"].clone(), fresh.body["lastAccessedAt"].clone()),
        (json!(0), Value::Null)
    );
    clock.advance(TimeDelta::seconds(30));
    for _ in 0..3 {
        tenant.app.query(&asking).await.expect(200);
    }

    let one = tenant.admin.get(&path).await.expect(200);
    let entry = &one.body;
    assert_eq!(entry["entryId"], made.body["entryId"]);
    assert_eq!(entry["operation"], "chat");
    assert_eq!(entry["private"], true);
    assert_eq!(entry["location"], "New York, NY");
    assert_eq!(entry["vendorTypes"], json!(["dj", "venue"]));
    assert_eq!(entry["tags"], json!(["nyc", "summer"]));
    assert_eq!(entry["accessCount"], 3);
    assert_eq!(entry["tiers"], json!(["hot", "cold"]));
    assert!((30..40).contains(&entry["ageSeconds"].as_i64().unwrap()), "{entry}");
    assert!(entry["sizeBytes"].as_i64().unwrap() > 100, "{entry}");
    let at = |name: &str| DateTime::parse_from_rfc3339(entry[name].as_str().unwrap()).unwrap();
    assert!(at("lastAccessedAt") >= at("createdAt") + TimeDelta::seconds(30), "{entry}");
    assert!(at("expiresAt") > at("createdAt") + TimeDelta::seconds(569), "{entry}");
    let listed = tenant.admin.get(ENTRIES).await.expect(200);
    assert_eq!(listed.body["entries"], json!([entry]));
    for reply in [&one, &listed] {
        assert!(!reply.text.contains("marker"), "{}", reply.text);
    }
    app.stop().await;
}

/// api.md: keyset pages, newest first, each entry once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_hold_every_entry_once_newest_first() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let mut made = Vec::new();
    for number in 0..7 {
        let reply = tenant.app.ask(&format!("question {number}")).await.expect(200);
        made.push(reply.body["entryId"].as_str().unwrap().to_owned());
    }
    let mut newest_first = made.clone();
    newest_first.sort_unstable_by(|one, other| other.cmp(one));
    for limit in [1, 2, 3, 7, 8] {
        let (mut seen, mut pages, mut cursor) = (Vec::new(), 0, String::new());
        loop {
            let path = format!("{ENTRIES}?limit={limit}{cursor}");
            let page = tenant.admin.get(&path).await.expect(200);
            let entries = page.body["entries"].as_array().unwrap();
            assert!(entries.len() <= limit, "{limit}");
            seen.extend(ids(entries));
            pages += 1;
            assert!(pages <= 7, "{limit}: the pages do not end: {seen:?}");
            match page.body["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, newest_first, "{limit}");
        assert_eq!(pages, 7_usize.div_ceil(limit), "{limit}: pages");
    }
    app.stop().await;
}

/// api.md: by operation, location and tag, alone and together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_can_be_narrowed() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    for (query, operation, location, tags) in [
        ("one", "chat", "New York, NY", json!(["a", "b"])),
        ("two", "chat", "Boston", json!(["b"])),
        ("three", "meal-plan", "Boston", json!([])),
    ] {
        let asking = json!({ "query": query, "operation": operation,
            "weddingContext": { "location": location }, "cache": { "tags": tags } });
        tenant.app.query(&asking).await.expect(200);
    }
    for (parameters, count) in [
        ("", 3),
        ("operation=chat", 2),
        ("operation=workout-plan", 0),
        ("location=Boston", 2),
        ("location=boston", 0),
        ("location=New%20York%2C+NY", 1),
        ("tag=b", 2),
        ("tag=a", 1),
        ("tag=Boston", 0),
        ("location=a", 0),
        ("operation=chat&location=Boston&tag=b", 1),
        ("operation=meal-plan&tag=b", 0),
    ] {
        let found = list(&tenant.admin, parameters).await;
        assert_eq!(found.len(), count, "{parameters}");
    }
    app.stop().await;
}

/// api.md: removes one, and it is answered anew afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_entry_is_gone_everywhere() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let kept = tenant.app.ask("kept").await.expect(200);
    let first = tenant.app.ask("a question").await.expect(200);
    let path = format!("{ENTRIES}/{}", first.body["entryId"].as_str().unwrap());
    tenant.admin.get(&path).await.expect(200);
    let removed = tenant.admin.send("DELETE", &path).await.expect(204);
    assert!(removed.header("x-audit-id").is_some());
    for method in ["GET", "DELETE"] {
        tenant.admin.send(method, &path).await.expect(404);
    }
    assert_eq!(ids(&list(&tenant.admin, "").await), [kept.body["entryId"].as_str().unwrap()]);
    let again = tenant.app.ask("a question").await.expect(200);
    assert_eq!(again.body["cached"], false);
    assert_ne!(again.body["entryId"], first.body["entryId"]);
    assert_eq!(tenant.app.ask("kept").await.expect(200).body["cached"], true);
    app.stop().await;
}

/// An entry that cannot be seen any more cannot be removed either: the two replies agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_seen_any_more_cannot_be_removed() {
    let clock = Arc::new(TestClock::default());
    let app = TestApp::builder().clock(Arc::clone(&clock) as _).start().await;
    let tenant = app.tenant("acme").await;
    let asking = json!({ "query": "expired", "cache": { "ttlSeconds": 60 } });
    let expired = tenant.app.query(&asking).await.expect(200);
    clock.advance(TimeDelta::seconds(61));
    let swept = tenant.app.ask("swept").await.expect(200);
    let all = json!({ "invalidateAll": true });
    tenant.admin.post("/api/ai-cache/invalidate", &all).await.expect(200);
    for reply in [&expired, &swept] {
        let path = format!("{ENTRIES}/{}", reply.body["entryId"].as_str().unwrap());
        for method in ["GET", "DELETE"] {
            tenant.admin.send(method, &path).await.expect(404);
        }
    }
    app.stop().await;
}

/// W9: a row whose labels were tampered with is not there, hides no other, and is recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_whose_labels_do_not_open_hides_no_other() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let bad = tenant.app.ask("one").await.expect(200).body["entryId"].clone();
    let good = tenant.app.ask("two").await.expect(200).body["entryId"].clone();
    let tamper = format!(
        "UPDATE ai_cache_entries SET labels_sealed = question_sealed WHERE entry_id = '{}'",
        bad.as_str().unwrap()
    );
    assert_eq!(app.db.superuser().await.execute(&tamper, &[]).await.unwrap(), 1);
    let listed = list(&tenant.admin, "").await;
    assert_eq!(ids(&listed), [good.as_str().unwrap()]);
    let path = format!("{ENTRIES}/{}", bad.as_str().unwrap());
    tenant.admin.get(&path).await.expect(404);
    let failures = "SELECT count(*) FROM ai_cache_audit_logs WHERE outcome = 'integrity-failure'";
    assert_eq!(app.db.count(failures).await, 2);
    app.stop().await;
}
