//! Invalidation by operation, tag, location, vendor type and person (api.md, architecture.md §5):
//! what matches is gone everywhere, the rest stays, and the counts are exact.

use std::sync::Arc;

use chrono::TimeDelta;
use futures_util::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::redis::{count_values, own_redis, wait_for_keys};
use crate::support::app::Tenant;
use crate::support::{Client, TestApp, TestClock, rounds, wait_until};

#[derive(Debug, Clone, Copy)]
enum Kind {
    Operation,
    Tag,
    Location,
    VendorType,
    Subject,
}

impl Kind {
    /// Returns the selector. Case and white space of a vendor type do not count.
    fn selector(self) -> Value {
        match self {
            Self::Operation => json!({ "operation": "chat" }),
            Self::Tag => json!({ "tag": "boston" }),
            Self::Location => json!({ "location": "boston" }),
            Self::VendorType => json!({ "vendorType": " BOSTON" }),
            Self::Subject => json!({ "subjectId": "boston" }),
        }
    }

    /// Questions that it hits, and as many that it does not.
    fn questions(self) -> ([Value; 3], [Value; 3]) {
        let chat = json!({ "operation": "chat" });
        let tag = json!({ "cache": { "tags": ["boston", "dear"] } });
        let location = json!({ "weddingContext": { "location": "boston" } });
        let vendor = json!({ "weddingContext": { "vendorTypes": ["DJ", "Boston"] } });
        let subject = json!({ "subjectId": "boston" });
        let (hit, alike, other) = match self {
            Self::Operation => (chat, json!({ "operation": "meal-plan" }), tag),
            Self::Tag => (tag, json!({ "cache": { "tags": ["Boston"] } }), location),
            Self::Location => {
                (location, json!({ "weddingContext": { "location": "Boston" } }), vendor)
            }
            Self::VendorType => {
                (vendor, json!({ "weddingContext": { "vendorTypes": ["dj"] } }), tag)
            }
            Self::Subject => (subject, json!({ "subjectId": "Boston" }), location),
        };
        let ask = |name: &str, base: &Value| {
            let mut question = base.clone();
            question["query"] = Value::from(name);
            question
        };
        let hits = ["hit one", "hit two", "hit three"].map(|name| ask(name, &hit));
        (hits, [ask("alike", &alike), ask("other", &other), ask("plain", &json!({}))])
    }
}

async fn invalidate(admin: &Client, kind: Kind, dry_run: bool) -> u64 {
    let mut body = kind.selector();
    body["dryRun"] = Value::from(dry_run);
    let reply = admin.post("/api/ai-cache/invalidate", &body).await.expect(200);
    reply.body["invalidatedCount"].as_u64().unwrap()
}

async fn ask_all(caller: &Client, questions: &[Value]) {
    for question in questions {
        caller.query(question).await.expect(200);
    }
}

/// Counts the questions that are answered from the cache.
async fn cached(caller: &Client, questions: &[Value]) -> usize {
    let polite = caller.with_header("cache-control", "only-if-cached");
    let replies = join_all(questions.iter().map(|question| polite.query(question))).await;
    assert!(replies.iter().all(|reply| matches!(reply.status, 200 | 504)));
    replies.iter().filter(|reply| reply.status == 200).count()
}

async fn rows(app: &TestApp, tenant: &Tenant) -> i64 {
    let tenant = tenant.id.0;
    let count = format!("SELECT count(*) FROM ai_cache_entries WHERE tenant_id = '{tenant}'");
    app.db.count(&count).await
}

/// Three processes over one database, two of them with one Redis. The one without invalidates, so
/// that Redis keeps everything and the others have to refuse it.
#[rstest]
#[case(Kind::Operation)]
#[case(Kind::Tag)]
#[case(Kind::Location)]
#[case(Kind::VendorType)]
#[case(Kind::Subject)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_matches_is_gone_from_every_tier_and_replica_and_the_rest_stays(#[case] kind: Kind) {
    let redis = own_redis().await;
    let cold = TestApp::start().await;
    let replica = || TestApp::builder().db(&cold.db).redis_url(&redis.url()).start();
    let (hot, warm) = (replica().await, replica().await);
    let (tenant, neighbour) = (cold.tenant("acme").await, cold.tenant("other").await);
    let callers = [&hot, &warm, &cold].map(|app| tenant.app.at(&app.base()));
    let (hits, others) = kind.questions();
    for owner in [&tenant, &neighbour] {
        ask_all(&owner.app.at(&hot.base()), &hits).await;
        ask_all(&owner.app.at(&hot.base()), &others).await;
    }
    wait_for_keys(&redis, 12).await;
    // One that the second process holds in memory too, out of Redis.
    assert_eq!(callers[1].query(&hits[0]).await.expect(200).body["cacheSource"], "warm");

    let dry =
        [invalidate(&tenant.admin, kind, true).await, invalidate(&tenant.admin, kind, true).await];
    let steps = "SELECT count(*) FROM invalidations";
    assert_eq!((cold.db.count(steps).await, rows(&cold, &tenant).await), (0, 6));
    assert_eq!(cached(&callers[0], &hits).await, 3);

    let count = invalidate(&tenant.admin, kind, false).await;
    assert_eq!(count_values(&redis).await, 12, "Redis still holds what is gone");
    let mut old = 0;
    let mut kept = 0;
    for caller in &callers {
        old += cached(caller, &hits).await;
        kept += cached(caller, &others).await;
    }
    let theirs = neighbour.app.at(&warm.base());
    let theirs = cached(&theirs, &hits).await + cached(&theirs, &others).await;
    let again = invalidate(&tenant.admin, kind, false).await;
    let left = (rows(&cold, &tenant).await, rows(&cold, &neighbour).await);
    println!(
        "{kind:?}: dry {dry:?}, removed {count}, again {again}, {old} of 9 old answers, {kept} of 9 \
         others, {theirs} of 6 of another tenant, rows {left:?}"
    );
    assert_eq!((dry, count, again), ([3, 3], 3, 0));
    assert_eq!((old, kept, theirs, left), (0, 9, 6, (3, 6)));
    let told = "SELECT count(*) FROM ai_cache_audit_logs WHERE action = 'invalidate'
                AND outcome = 'done' AND item_count = 3";
    assert_eq!(cold.db.count(told).await, 1);
    for app in [warm, hot, cold] {
        app.stop().await;
    }
    redis.stop().await.unwrap();
}

/// The process that invalidates also removes what Redis held.
#[rstest]
#[case(Kind::Operation)]
#[case(Kind::Tag)]
#[case(Kind::Subject)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_removed_is_removed_from_redis_too(#[case] kind: Kind) {
    let redis = own_redis().await;
    let app = TestApp::builder().redis_url(&redis.url()).start().await;
    let tenant = app.tenant("acme").await;
    let (hits, others) = kind.questions();
    ask_all(&tenant.app, &hits).await;
    ask_all(&tenant.app, &others).await;
    wait_for_keys(&redis, 6).await;
    let count = invalidate(&tenant.admin, kind, false).await;
    let left = count_values(&redis).await;
    println!("{kind:?}: {count} removed, {left} of 6 left in Redis");
    assert_eq!((count, left), (3, 3));
    app.stop().await;
    redis.stop().await.unwrap();
}

/// Neither expired rows nor those of an older generation count; they are removed all the same.
#[rstest]
#[case(Kind::Operation)]
#[case(Kind::Tag)]
#[case(Kind::Location)]
#[case(Kind::VendorType)]
#[case(Kind::Subject)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_good_rows_of_the_present_generation_are_counted(#[case] kind: Kind) {
    let clock = Arc::new(TestClock::default());
    let app = TestApp::builder().clock(Arc::clone(&clock) as _).start().await;
    let tenant = app.tenant("acme").await;
    let ([older, mut short, good], _) = kind.questions();
    ask_all(&tenant.app, &[older]).await;
    let all = json!({ "invalidateAll": true });
    tenant.admin.post("/api/ai-cache/invalidate", &all).await.expect(200);
    short["cache"]["ttlSeconds"] = Value::from(10);
    ask_all(&tenant.app, &[short]).await;
    clock.advance(TimeDelta::seconds(11));
    ask_all(&tenant.app, &[good]).await;
    let before = rows(&app, &tenant).await;
    let dry = invalidate(&tenant.admin, kind, true).await;
    let count = invalidate(&tenant.admin, kind, false).await;
    let after = rows(&app, &tenant).await;
    println!("{kind:?}: {before} rows, {dry} would be and {count} were counted, {after} rows left");
    assert_eq!((before, dry, count, after), (3, 1, 1, 0));
    app.stop().await;
}

/// A person never named: nothing to remove, no key is made, and no replica is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_never_named_counts_nothing_and_gets_no_key() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let counts = [true, false].map(|dry| invalidate(&tenant.admin, Kind::Subject, dry));
    assert_eq!(join_all(counts).await, [0, 0]);
    assert_eq!(app.db.count("SELECT count(*) FROM subject_keys").await, 0);
    assert_eq!(app.db.count("SELECT count(*) FROM invalidations").await, 0);
    app.stop().await;
}

/// An invalidation overtakes a fill: it is not stored, and who asks later does not join it. A fill
/// that the selector does not hit is joined and stored.
#[rstest]
#[case(Kind::Operation)]
#[case(Kind::Tag)]
#[case(Kind::Location)]
#[case(Kind::VendorType)]
#[case(Kind::Subject)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_that_is_overtaken_is_neither_stored_nor_joined(#[case] kind: Kind) {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let ([hit, named, _], [other, ..]) = kind.questions();
    // The person's key is there: a person without one is not invalidated at all.
    ask_all(&tenant.app, &[named]).await;
    app.upstream.hold();
    let early = join_all([tenant.app.query(&hit), tenant.app.query(&other)]);
    let late = async {
        app.upstream.wait_for_calls(3).await;
        assert_eq!(invalidate(&tenant.admin, kind, false).await, 1);
        let late = join_all([tenant.app.query(&other), tenant.app.query(&hit)]);
        let release = async {
            app.upstream.wait_for_calls(4).await;
            // One worker serves all in turn: what was asked before these has been taken up by now.
            for _ in 0..10 {
                app.client.get("/health").await.expect(200);
            }
            app.upstream.release();
        };
        tokio::join!(late, release).0
    };
    let (early, late) = tokio::join!(early, late);
    let status = |reply: &crate::support::Reply| reply.header("cache-status").unwrap().to_owned();
    let statuses: Vec<String> = early.iter().chain(&late).map(status).collect();
    println!("{kind:?}: {} calls, {statuses:?}", app.upstream.calls());
    let (stored, joined) = ("ai-cache; fwd=miss; stored", "ai-cache; fwd=miss; stored; collapsed");
    assert_eq!(statuses, ["ai-cache; fwd=miss", stored, joined, stored]);
    assert_eq!((app.upstream.calls(), rows(&app, &tenant).await), (4, 2));
    let again = tenant.app.query(&hit).await.expect(200);
    assert_eq!(again.body["entryId"], late[1].body["entryId"]);
    app.stop().await;
}

/// Another process invalidates, and the one that fills need not have heard of it: the row at which
/// both meet decides.
#[rstest]
#[case(Kind::Operation)]
#[case(Kind::Tag)]
#[case(Kind::Location)]
#[case(Kind::VendorType)]
#[case(Kind::Subject)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_that_another_replica_overtakes_is_not_stored(#[case] kind: Kind) {
    let trials = rounds(4, 1_000);
    let fills = TestApp::start().await;
    let other = TestApp::builder().db(&fills.db).start().await;
    let tenant = fills.tenant("acme").await;
    let admin = tenant.admin.at(&other.base());
    let ([hit, named, _], _) = kind.questions();
    ask_all(&tenant.app, &[named]).await;
    invalidate(&admin, kind, false).await;
    let mut old = 0;
    for trial in 0..trials {
        fills.upstream.hold();
        let (reply, ()) = tokio::join!(tenant.app.query(&hit), async {
            fills.upstream.wait_for_calls(trial + 2).await;
            assert_eq!(invalidate(&admin, kind, false).await, 0);
            fills.upstream.release();
        });
        assert_eq!(reply.expect(200).body["entryId"], Value::Null);
        old += rows(&fills, &tenant).await;
    }
    println!("{kind:?}: {old} old rows in {trials} trials");
    assert_eq!(old, 0);
    other.stop().await;
    fills.stop().await;
}

/// Among 20,000 entries of one tenant, each kind is found by its index (architecture.md §5: no
/// request reads a whole tenant). For labels that needs the role that row-level security lets pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_found_by_their_indexes() {
    const BULK: &str = "INSERT INTO ai_cache_entries
            (tenant_id, cache_key, entry_id, generation, operation, subject_key_id, key_version,
             answer_sealed, question_sealed, labels_sealed, location_index, vendor_type_indexes,
             tag_indexes, prompt_tokens, completion_tokens, cost_picousd, created_at, expires_at)
        SELECT tenant_id, sha256(('k' || i)::bytea), gen_random_uuid(), generation, 'meal-plan',
               NULL, key_version, answer_sealed, question_sealed, labels_sealed,
               sha256(('l' || i)::bytea), ARRAY[sha256(('v' || i)::bytea)],
               ARRAY[sha256(('t' || i)::bytea)], 1, 1, 1, created_at, expires_at
        FROM (SELECT * FROM ai_cache_entries LIMIT 1) one, generate_series(1, 20000) i;
        VACUUM ANALYZE ai_cache_entries";
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let kinds = [Kind::Operation, Kind::Tag, Kind::Location, Kind::VendorType, Kind::Subject];
    for kind in kinds {
        ask_all(&tenant.app, &kind.questions().0).await;
    }
    let superuser = app.db.superuser().await;
    for statement in BULK.split(';') {
        superuser.batch_execute(statement).await.unwrap();
    }
    let mut counts = Vec::new();
    for kind in kinds {
        let dry = invalidate(&tenant.admin, kind, true).await;
        counts.push((dry, invalidate(&tenant.admin, kind, false).await));
    }
    assert_eq!(counts, [(3, 3); 5]);
    let names = ["operation", "subject", "location", "vendor_type", "tag"]
        .map(|name| format!("ai_cache_entries_by_{name}"));
    let used = "SELECT indexrelname || ' ' || idx_scan FROM pg_stat_user_indexes
                WHERE indexrelname = ANY ($1) AND idx_scan >= 2 ORDER BY 1";
    let used = wait_until("every index was used, to count and to remove", || async {
        let rows = superuser.query(used, &[&names.as_slice()]).await.unwrap();
        let used: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        (used.len() == names.len()).then_some(used)
    })
    .await;
    println!("{} entries, {counts:?}; index and its uses: {used:?}", rows(&app, &tenant).await);
    app.stop().await;
}
