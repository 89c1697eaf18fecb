//! Replicas that all follow: to a request received after an invalidation was answered, none of them
//! serves what it removed (issue 4, architecture.md §5).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::cut_off::{Version, versioned};
use super::redis::own_redis;
use crate::support::{Client, TestApp, rounds, wait_until};

/// The selector that hits the question.
#[derive(Debug, Clone, Copy)]
enum Kind {
    All,
    Entry,
    Operation,
    Tag,
    Location,
    VendorType,
    Subject,
}

fn question() -> Value {
    json!({
        "query": "the question", "operation": "chat", "subjectId": "couple-1",
        "weddingContext": { "location": "boston", "vendorTypes": ["dj"] },
        "cache": { "tags": ["dear"] },
    })
}

impl Kind {
    async fn selector(self, caller: &Client) -> Value {
        match self {
            Self::All => json!({ "invalidateAll": true }),
            Self::Entry => json!({ "entryId": entry_id(caller).await }),
            Self::Operation => json!({ "operation": "chat" }),
            Self::Tag => json!({ "tag": "dear" }),
            Self::Location => json!({ "location": "boston" }),
            Self::VendorType => json!({ "vendorType": "dj" }),
            Self::Subject => json!({ "subjectId": "couple-1" }),
        }
    }
}

/// The entry that answers the question; none while a fill was overtaken.
async fn entry_id(caller: &Client) -> Value {
    wait_until("the question has an entry", || async {
        let id = caller.query(&question()).await.expect(200).body["entryId"].clone();
        (!id.is_null()).then_some(id)
    })
    .await
}

async fn invalidate(admin: &Client, selector: &Value) {
    admin.post("/api/ai-cache/invalidate", selector).await.expect(200);
}

/// The number in an upstream's answer.
fn version_of(reply: &Value) -> usize {
    let text = reply["data"]["response"].as_str().unwrap();
    text.strip_prefix("version ").unwrap().parse().unwrap()
}

/// The state that the readers share.
#[derive(Default)]
struct Reading {
    /// The newest version whose invalidation was answered: nothing older may be read from now on.
    answered: AtomicUsize,
    reads: AtomicUsize,
    hits: AtomicUsize,
    old: AtomicUsize,
    over: AtomicBool,
}

async fn read_on(caller: Client, reading: Arc<Reading>) {
    while !reading.over.load(Ordering::SeqCst) {
        let answered = reading.answered.load(Ordering::SeqCst);
        let reply = caller.query_quickly(&question()).await.expect(200);
        let old = version_of(&reply.body) < answered;
        reading.old.fetch_add(usize::from(old), Ordering::SeqCst);
        reading.hits.fetch_add(usize::from(reply.body["cached"] == true), Ordering::SeqCst);
        reading.reads.fetch_add(1, Ordering::SeqCst);
    }
}

/// Three replicas with one Redis; callers read through two while the third invalidates.
#[rstest]
#[case(Kind::All)]
#[case(Kind::Entry)]
#[case(Kind::Operation)]
#[case(Kind::Tag)]
#[case(Kind::Location)]
#[case(Kind::VendorType)]
#[case(Kind::Subject)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_invalidation_no_replica_serves_what_it_removed(#[case] kind: Kind) {
    // Many invalidations come while many callers read between them.
    let (invalidations, callers, each) = (rounds(8, 20), rounds(16, 64), rounds(60, 5_000));
    let (redis, version) = (own_redis().await, Version::default());
    let first = TestApp::builder().redis_url(&redis.url()).start().await;
    let mut apps = vec![first];
    for _ in 0..2 {
        apps.push(TestApp::builder().db(&apps[0].db).redis_url(&redis.url()).start().await);
    }
    for app in &apps {
        versioned(app, &version);
    }
    let tenant = apps[0].tenant("acme").await;
    let reading = Arc::new(Reading::default());
    let readers = join_all((0..callers).map(|number| {
        let caller = tenant.app.at(&apps[1 + number % 2].base());
        read_on(caller, Arc::clone(&reading))
    }));
    let script = async {
        for number in 1..=invalidations {
            let selector = kind.selector(&tenant.app).await;
            version.store(number, Ordering::SeqCst);
            invalidate(&tenant.admin, &selector).await;
            reading.answered.store(number, Ordering::SeqCst);
            let enough = reading.reads.load(Ordering::SeqCst) + each;
            wait_until("enough is read", || async {
                (reading.reads.load(Ordering::SeqCst) >= enough).then_some(())
            })
            .await;
        }
        reading.over.store(true, Ordering::SeqCst);
    };
    tokio::join!(readers, script);
    let [reads, hits, old] =
        [&reading.reads, &reading.hits, &reading.old].map(|count| count.load(Ordering::SeqCst));
    println!("{kind:?}: {invalidations} invalidations, {reads} reads, {hits} hits, {old} old");
    assert_eq!(old, 0);
    assert!(hits > reads / 2);
    for app in apps.into_iter().rev() {
        app.stop().await;
    }
    redis.stop().await.unwrap();
}

/// Invalidations that commit in another order than they began in: a replica that follows the stream
/// skips none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalidations_at_once_are_all_followed() {
    let version = Version::default();
    let reader = TestApp::start().await;
    let one = TestApp::builder().db(&reader.db).start().await;
    let two = TestApp::builder().db(&reader.db).start().await;
    versioned(&reader, &version);
    let tenants = [reader.tenant("acme").await, reader.tenant("other").await];
    let admins = [tenants[0].admin.at(&one.base()), tenants[1].admin.at(&two.base())];
    let (trials, mut skipped) = (rounds(20, 1_000), 0);
    for trial in 1..=trials {
        join_all(tenants.iter().map(|tenant| entry_id(&tenant.app))).await;
        version.store(trial, Ordering::SeqCst);
        let selector = if trial % 2 == 0 {
            json!({ "invalidateAll": true })
        } else {
            json!({ "tag": "dear" })
        };
        join_all(admins.iter().map(|admin| invalidate(admin, &selector))).await;
        let replies = join_all(tenants.iter().map(|tenant| async {
            let reply = tenant.app.query(&question()).await.expect(200);
            version_of(&reply.body)
        }));
        skipped += replies.await.into_iter().filter(|version| *version < trial).count();
    }
    let steps = reader.db.count("SELECT count(*) FROM invalidations").await;
    println!("{trials} trials of two at once, {steps} steps, {skipped} skipped");
    assert_eq!((skipped, steps), (0, 2 * i64::try_from(trials).unwrap()));
    for app in [two, one, reader] {
        app.stop().await;
    }
}

/// A fill that is held between its look-up and its commit while everything, or the entry that it
/// replaces, is invalidated by another replica: nothing old is stored.
#[rstest]
#[case(Kind::All)]
#[case(Kind::Entry)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_another_replica_overtakes_is_not_stored(#[case] kind: Kind) {
    let fills = TestApp::start().await;
    let other = TestApp::builder().db(&fills.db).start().await;
    let tenant = fills.tenant("acme").await;
    let admin = tenant.admin.at(&other.base());
    let mut refresh = question();
    refresh["cache"]["mode"] = Value::from("refresh");
    let (trials, mut old) = (rounds(4, 1_000), 0);
    for _ in 0..trials {
        let selector = match kind {
            Kind::Entry => json!({ "entryId": entry_id(&tenant.app).await }),
            _ => kind.selector(&tenant.app).await,
        };
        entry_id(&tenant.app).await;
        let calls = fills.upstream.calls();
        fills.upstream.hold();
        let (reply, ()) = tokio::join!(tenant.app.query(&refresh), async {
            fills.upstream.wait_for_calls(calls + 1).await;
            invalidate(&admin, &selector).await;
            fills.upstream.release();
        });
        assert_eq!(reply.expect(200).body["entryId"], Value::Null);
        let query = "SELECT count(*) FROM ai_cache_entries e JOIN invalidation_state s
                     USING (tenant_id, generation)";
        old += fills.db.count(query).await;
    }
    println!("{kind:?}: {old} old rows in {trials} trials");
    assert_eq!(old, 0);
    other.stop().await;
    fills.stop().await;
}
