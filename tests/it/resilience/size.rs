//! The cold tier at size: limits of entries are kept by removing the least recently used, and what
//! nobody can be given any more goes by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ai_cache::administration::Evicted;
use chrono::TimeDelta;
use futures_util::future::join_all;
use rstest::rstest;
use serde_json::json;

use crate::api::open::series;
use crate::support::app::Tenant;
use crate::support::{Client, TestApp, TestClock, TestDb, wait_until};

/// A million of things in `make scale`, fewer in every run.
pub fn many() -> i64 {
    if std::env::var_os("SCALE").is_some() { 1_000_000 } else { 20_000 }
}

/// Adds rows to every tenant that has an entry: like it, but with keys, ids, labels and times of use of
/// their own. The higher its number, the more recently a row was used: the columns `prompt_tokens` says
/// which it is.
pub async fn add_rows(db: &tokio_postgres::Client, rows: i64) {
    let bulk = format!(
        "INSERT INTO ai_cache_entries
            (tenant_id, cache_key, entry_id, generation, operation, subject_key_id, key_version,
             answer_sealed, question_sealed, labels_sealed, location_index, vendor_type_indexes,
             tag_indexes, prompt_tokens, completion_tokens, cost_picousd, created_at, expires_at,
             access_count, last_accessed_at)
         SELECT tenant_id, sha256(('k' || i)::bytea), gen_random_uuid(), generation,
                (ARRAY['chat', 'meal-plan', 'workout-plan'])[1 + i % 3], NULL, key_version,
                answer_sealed, question_sealed, labels_sealed,
                sha256(('l' || i % 1000)::bytea), ARRAY[sha256(('v' || i % 1000)::bytea)],
                ARRAY[sha256(('t' || i % 1000)::bytea)], i, 1, 1,
                created_at - interval '40 days', expires_at, 1,
                created_at - interval '30 days' + i * interval '1 second'
         FROM (SELECT DISTINCT ON (tenant_id) * FROM ai_cache_entries ORDER BY tenant_id, cache_key) one,
              generate_series(1, {rows}) i"
    );
    db.batch_execute(&bulk).await.unwrap();
    db.batch_execute("VACUUM ANALYZE ai_cache_entries").await.unwrap();
}

async fn limit(app: &TestApp, slug: &str, entries: i64) {
    let path = format!("/api/ai-cache/admin/tenants/{slug}");
    let body = json!({ "maxEntries": entries });
    app.operator().await.send_json("PATCH", &path, &body).await.expect(200);
}

async fn rows(db: &TestDb, tenant: &Tenant, condition: &str) -> i64 {
    let id = tenant.id.0;
    db.count(&format!(
        "SELECT count(*) FROM ai_cache_entries WHERE tenant_id = '{id}' AND {condition}"
    ))
    .await
}

/// Until a turn finds nothing more. One that another has is waited for.
async fn evict(app: &TestApp) {
    loop {
        let evicted = wait_until("it is this one's turn", || async {
            app.rooms().administration.evict().await.unwrap()
        })
        .await;
        if evicted == Evicted::default() {
            return;
        }
    }
}

/// A tenant's own limit: the least recently used go, one never used counts as used when it was made; each
/// batch has a record with its count; another tenant loses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_limit_is_kept_by_removing_its_least_recently_used() {
    let clock = Arc::new(TestClock::default());
    let app = TestApp::builder().clock(Arc::clone(&clock) as _).start().await;
    let (tenant, other) = (app.tenant("acme").await, app.tenant("other").await);
    let ask = |question: usize| {
        let (caller, question) = (tenant.app.clone(), format!("question {question}"));
        async move { caller.ask(&question).await.expect(200).body["entryId"].to_string() }
    };
    for question in 0..60 {
        ask(question).await;
        clock.advance(TimeDelta::seconds(1));
    }
    other.app.ask("theirs").await.expect(200);
    // The oldest twenty are used again.
    let used = join_all((0..20).map(ask)).await;
    wait_until("their use is written", || async {
        (rows(&app.db, &tenant, "last_accessed_at IS NOT NULL").await == 20).then_some(())
    })
    .await;
    limit(&app, "acme", 25).await;
    evict(&app).await;
    let left = rows(&app.db, &tenant, "true").await;
    let list = used.join(",").replace('"', "'");
    let used = rows(&app.db, &tenant, &format!("entry_id IN ({list})")).await;
    let told = "SELECT coalesce(sum(item_count), 0)::bigint FROM ai_cache_audit_logs
                WHERE action = 'evict' AND outcome = 'done' AND actor_kind = 'service'";
    let told = app.db.count(told).await;
    let theirs = rows(&app.db, &other, "true").await;
    println!(
        "60 entries, 20 used again, limit 25: {left} left, {used} of the 20; {told} told; {theirs} of another's"
    );
    assert_eq!((left, used, told, theirs), (25, 20, 35, 1));
    let metrics = app.client.get("/api/metrics").await.expect(200).text;
    let counted = ["idle", "unusable"]
        .map(|reason| series(&metrics, &format!("ai_cache_evicted_total{{reason=\"{reason}\"}}")));
    println!("counted as evicted: {counted:?}");
    assert_eq!(counted.map(f64::to_bits), [35_f64, 0.0].map(f64::to_bits));

    // An entry that is gone from Postgres is still true: memory may serve it until it expires.
    let gone = tenant.app.with_header("cache-control", "only-if-cached");
    let gone = gone.ask("question 30").await.expect(200);
    assert_eq!(gone.body["cacheSource"], "hot");
    app.stop().await;
}

/// The installation's limit is shared in proportion, and kept when two replicas evict at a time.
#[rstest]
#[case(1)]
#[case(2)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_installations_limit_is_kept_and_not_fallen_short_of(#[case] replicas: usize) {
    const MOST: i64 = 60;
    let app = TestApp::start().await;
    let sizes = [("small", 10), ("middle", 30), ("large", 80)];
    let mut tenants = Vec::new();
    for (slug, entries) in sizes {
        let tenant = app.tenant(slug).await;
        for question in 0..entries {
            tenant.app.ask(&format!("question {question}")).await.expect(200);
        }
        tenants.push(tenant);
    }
    let mut limited = Vec::new();
    for _ in 0..replicas {
        let replica = TestApp::builder()
            .db(&app.db)
            .settings(|settings| settings.max_entries = MOST.unsigned_abs());
        limited.push(replica.start().await);
    }
    join_all(limited.iter().map(evict)).await;
    let mut left = Vec::new();
    for tenant in &tenants {
        left.push(rows(&app.db, tenant, "true").await);
    }
    println!("{replicas} replicas, {sizes:?}, limit {MOST}: {left:?} left");
    assert_eq!(left, [5, 15, 40]);
    for app in limited.into_iter().chain([app]) {
        app.stop().await;
    }
}

/// Rows that expired or are of an older generation go by themselves, whatever the limits; what is good
/// stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_can_be_given_any_more_is_removed() {
    let clock = Arc::new(TestClock::default());
    let app = TestApp::builder().clock(Arc::clone(&clock) as _).start().await;
    let tenant = app.tenant("acme").await;
    for question in 0..7 {
        tenant.app.ask(&format!("old {question}")).await.expect(200);
    }
    let all = json!({ "invalidateAll": true });
    tenant.admin.post("/api/ai-cache/invalidate", &all).await.expect(200);
    for question in 0..5 {
        let body = json!({ "query": format!("short {question}"), "cache": { "ttlSeconds": 10 } });
        tenant.app.query(&body).await.expect(200);
    }
    tenant.app.ask("good").await.expect(200);
    clock.advance(TimeDelta::seconds(11));
    evict(&app).await;
    let left = rows(&app.db, &tenant, "true").await;
    let told = "SELECT sum(item_count)::bigint FROM ai_cache_audit_logs WHERE action = 'evict'";
    let told = app.db.count(told).await;
    println!("7 of an older generation, 5 expired, 1 good: {told} removed, {left} left");
    assert_eq!((told, left), (12, 1));
    assert_eq!(tenant.app.ask("good").await.expect(200).body["cached"], true);
    app.stop().await;
}

/// Every page of a list: what is on them, how many there are, and the longest wait for one.
async fn list_all(caller: &Client, parameters: &str) -> (Vec<String>, i64, Duration) {
    let (mut found, mut pages, mut longest, mut cursor) =
        (Vec::new(), 0, Duration::ZERO, String::new());
    loop {
        let begun = Instant::now();
        let path = format!("/api/ai-cache/entries?{parameters}{cursor}");
        let page = caller.get(&path).await.expect(200);
        longest = longest.max(begun.elapsed());
        let entries = page.body["entries"].as_array().unwrap();
        found.extend(entries.iter().map(|entry| entry["entryId"].as_str().unwrap().to_owned()));
        pages += 1;
        match page.body["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (found, pages, longest),
        }
    }
}

/// One of many more than a page looks at is found, also of a kind that was just removed; and where
/// nothing is good any more the list ends, though nothing was removed yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_rare_is_listed_page_by_page() {
    let many = many().max(50_000);
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let rare = json!({ "query": "the first", "operation": "chat", "cache": { "tags": ["rare"] } });
    let made = tenant.app.query(&rare).await.expect(200);
    add_rows(&app.db.superuser().await, many).await;
    let (found, pages, longest) = list_all(&tenant.admin, "tag=rare").await;
    println!("1 of {many}: {} found on {pages} pages, each within {longest:?}", found.len());
    assert_eq!(found, [made.body["entryId"].as_str().unwrap()]);
    assert_eq!(pages, (many + 1).unsigned_abs().div_ceil(20_000).cast_signed());

    let invalidate = "/api/ai-cache/invalidate";
    let removed = tenant.admin.post(invalidate, &json!({ "operation": "meal-plan" })).await;
    let removed = removed.expect(200).body["invalidatedCount"].as_i64().unwrap();
    let (found, _, longest) = list_all(&tenant.admin, "operation=meal-plan").await;
    println!("{removed} removed at once: {} found, each page within {longest:?}", found.len());
    assert!(removed >= many / 3 && found.is_empty());

    tenant.admin.post(invalidate, &json!({ "invalidateAll": true })).await.expect(200);
    let (found, _, longest) = list_all(&tenant.admin, "").await;
    println!("all removed: {} found, each page within {longest:?}", found.len());
    assert_eq!(found, [""; 0]);
    app.stop().await;
}

/// Far more than one batch: who was used more lately than two fifths of the others is still there, and
/// the time it takes is printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_size_what_was_used_lately_survives() {
    let many = many();
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    tenant.app.ask("the first").await.expect(200);
    add_rows(&app.db.superuser().await, many).await;
    let most = many * 9 / 10;
    let begun = Instant::now();
    limit(&app, "acme", most).await;
    evict(&app).await;
    let took = begun.elapsed();
    let left = rows(&app.db, &tenant, "true").await;
    let recent = rows(&app.db, &tenant, &format!("prompt_tokens > {}", many / 2)).await;
    let worst = "SELECT max(g)::bigint FROM generate_series(1, $1::bigint) g
                 WHERE NOT EXISTS (SELECT FROM ai_cache_entries WHERE prompt_tokens = g)";
    let index = "CREATE INDEX ON ai_cache_entries (prompt_tokens)";
    let db = app.db.superuser().await;
    db.batch_execute(index).await.unwrap();
    let worst: i64 = db.query_one(worst, &[&many]).await.unwrap().get(0);
    let gone = many + 1 - left;
    println!(
        "{many} entries, limit {most}: {gone} evicted in {took:?} ({:.0}/s), {left} left; of the {} used \
         most lately {recent} left; the most lately used that went was number {worst} of {many}",
        f64::from(i32::try_from(gone).unwrap()) / took.as_secs_f64(),
        many / 2
    );
    let error = if most > 100_000 { most / 50 } else { 0 };
    assert!(left.abs_diff(most) <= error.unsigned_abs(), "{left}");
    assert!(worst < many * 2 / 5 && recent >= many / 2, "{worst}");
    app.stop().await;
}
