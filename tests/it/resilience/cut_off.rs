//! Replicas that are cut off from Postgres, Redis or both: what they serve they can prove, and nobody
//! who asks after an invalidation is served what it removed (architecture.md §5).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ai_cache::domain::caller::Role;
use chrono::TimeDelta;
use deadpool_redis::redis::cmd;
use futures_util::future::join_all;
use rstest::rstest;
use serde_json::json;
use tokio::time::Instant;

use super::redis::{own_redis, run};
use crate::api::open::series;
use crate::support::app::Tenant;
use crate::support::link::Link;
use crate::support::pg_proxy::PgProxy;
use crate::support::{Client, TestApp, TestDb, wait_until};

/// The pause of each caller between two questions. There is time for many reads, and the machine
/// has other work too.
pub const PACE: Duration = Duration::from_millis(10);

/// The answer of the upstream now: the number of its version.
pub type Version = Arc<AtomicUsize>;

/// Lets the upstream say which version its answers are of.
pub fn versioned(app: &TestApp, version: &Version) {
    let version = Arc::clone(version);
    app.upstream.answer_with(move |_| format!("version {}", version.load(Ordering::SeqCst)));
}

/// A replica whose ways to Postgres and Redis can be cut.
struct Replica {
    app: TestApp,
    postgres: PgProxy,
    redis: Option<Link>,
}

impl Replica {
    async fn start(db: &TestDb, redis_url: Option<&str>, version: &Version) -> Self {
        let postgres = PgProxy::start(&db.app_url().await).await;
        let url = postgres.url().to_owned();
        let mut builder =
            TestApp::builder().db(db).settings(|settings| settings.database_url = url);
        let redis = match redis_url {
            Some(url) => Some(Link::to_redis(url).await),
            None => None,
        };
        if let Some(link) = &redis {
            builder = builder.redis_url(&link.redis_url());
        }
        let app = builder.start().await;
        versioned(&app, version);
        Self { app, postgres, redis }
    }

    fn cut_off(&self) {
        self.postgres.take_down();
        self.redis.iter().for_each(Link::cut);
    }

    fn mend(&self) {
        self.postgres.bring_up();
        self.redis.iter().for_each(Link::mend);
    }
}

/// A reply, and when it was asked for.
struct Read {
    sent: Instant,
    version: Option<String>,
    source: String,
}

impl Read {
    fn is_hit(&self) -> bool {
        matches!(self.source.as_str(), "hot" | "warm" | "cold")
    }
}

/// Asks a question again and again until it is over.
async fn read_on(caller: Client, over: Arc<AtomicBool>) -> Vec<Read> {
    let mut reads = Vec::new();
    let mut pace = tokio::time::interval(PACE);
    while !over.load(Ordering::SeqCst) {
        pace.tick().await;
        let sent = Instant::now();
        let reply = caller.ask_quickly("the question").await;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let version = text(&reply.body["data"]["response"]);
        let source = text(&reply.body["cacheSource"]).unwrap_or_default();
        reads.push(Read { sent, version, source });
    }
    reads
}

async fn invalidate_all(admin: &Client) -> crate::support::Reply {
    admin.post("/api/ai-cache/invalidate", &json!({ "invalidateAll": true })).await
}

/// Issue 4: cut off from Postgres and Redis, a replica serves nothing old later than 2 s after, and
/// nothing old at all once the invalidation was answered.
#[rstest]
#[case::with_redis(true)]
#[case::without_redis(false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_cut_off_soon_serves_nothing_old(#[case] with_redis: bool) {
    let (redis, version) = (own_redis().await, Version::default());
    let url = redis.url();
    let url = with_redis.then_some(url.as_str());
    let db = TestDb::new().await;
    let lone = Replica::start(&db, url, &version).await;
    let builder = TestApp::builder().db(&db);
    let builder = url.map_or(TestApp::builder().db(&db), |url| builder.redis_url(url));
    let other = builder.start().await;
    let tenant = lone.app.tenant("acme").await;
    tenant.app.ask("the question").await.expect(200);

    let over = Arc::new(AtomicBool::new(false));
    let readers = join_all((0..4).map(|_| read_on(tenant.app.clone(), Arc::clone(&over))));
    let admin = tenant.admin.at(&other.base());
    let script = async {
        lone.cut_off();
        let cut = Instant::now();
        version.store(1, Ordering::SeqCst);
        let reply = invalidate_all(&admin).await.expect(200);
        let answered = Instant::now();
        assert_eq!(reply.body["invalidatedCount"], 1);
        wait_until("some more are asked", || async {
            (answered.elapsed() > Duration::from_secs(1)).then_some(())
        })
        .await;
        over.store(true, Ordering::SeqCst);
        (cut, answered)
    };
    let (reads, (cut, answered)) = tokio::join!(readers, script);
    let reads: Vec<Read> = reads.into_iter().flatten().collect();
    let hits =
        |from: Instant| reads.iter().filter(|read| read.sent > from && read.is_hit()).count();
    let old = reads
        .iter()
        .filter(|read| read.sent > answered && read.version.as_deref() == Some("version 0"))
        .count();
    let last = reads.iter().filter(|read| read.is_hit()).map(|read| read.sent).max().unwrap();
    let after = reads.iter().filter(|read| read.sent > answered).count();
    let late = hits(cut + Duration::from_secs(2));
    println!(
        "Redis {with_redis}: {} hits since the cut, the last {:?} after it, {late} later than 2 s; \
         invalidated after {:?}; {after} reads since, {old} of them old",
        hits(cut),
        last.saturating_duration_since(cut),
        answered - cut
    );
    assert_eq!((late, old), (0, 0));
    assert!(after > 0 && hits(cut) > 0);
    lone.mend();
    wait_until("it serves hits again", || async {
        tenant.app.ask("the question").await;
        (tenant.app.ask("the question").await.body["cacheSource"] == "hot").then_some(())
    })
    .await;
    other.stop().await;
    lone.app.stop().await;
    redis.stop().await.unwrap();
}

/// Architecture §5: while only Postgres is out of reach, Redis proves hits; a Redis that lost its
/// memory proves nothing, whatever it is told afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_redis_proves_hits_until_it_is_flushed() {
    let (redis, version) = (own_redis().await, Version::default());
    let db = TestDb::new().await;
    let lone = Replica::start(&db, Some(&redis.url()), &version).await;
    let other = TestApp::builder().db(&db).redis_url(&redis.url()).start().await;
    let tenant = lone.app.tenant("acme").await;
    tenant.app.ask("the question").await.expect(200);
    wait_until("Redis holds the floor", || async {
        let floors: Vec<String> = run(&redis, cmd("KEYS").arg("ai-cache:floor:*")).await;
        (floors.len() == 1).then_some(())
    })
    .await;
    lone.postgres.take_down();
    let cut = Instant::now();
    let mut proven = 0;
    let mut pace = tokio::time::interval(PACE);
    while cut.elapsed() < Duration::from_secs(4) {
        pace.tick().await;
        let reply = tenant.app.ask("the question").await.expect(200);
        assert_eq!(reply.body["cacheSource"], "hot");
        proven += usize::from(cut.elapsed() > Duration::from_secs(2));
    }
    // The other replica, which reaches Postgres, makes a floor anew: it is not the one of before.
    run::<()>(&redis, &cmd("FLUSHALL")).await;
    let flushed = Instant::now();
    let (mut reads, mut late) = (0, 0);
    while flushed.elapsed() < Duration::from_secs(4) {
        pace.tick().await;
        let sent = Instant::now();
        let reply = tenant.app.ask("the question").await.expect(200);
        let is_late = sent > flushed + Duration::from_secs(2);
        reads += usize::from(is_late);
        late += usize::from(is_late && reply.body["cached"] == true);
    }
    println!("{proven} hits by proof of Redis alone; flushed: {late} hits in {reads} reads");
    assert_eq!(late, 0);
    assert!(proven > 0 && reads > 0);
    lone.mend();
    wait_until("it serves hits again", || async {
        (tenant.app.ask("the question").await.body["cacheSource"] == "hot").then_some(())
    })
    .await;
    other.stop().await;
    lone.app.stop().await;
    redis.stop().await.unwrap();
}

/// Architecture §5: a silent replica may still prove its position by Redis. Who cannot write there does
/// not say that an invalidation is in force; it is committed, and repeating it is safe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_silent_replica_may_still_serve_is_not_said_to_be_gone() {
    let (redis, version) = (own_redis().await, Version::default());
    let db = TestDb::new().await;
    let silent = Replica::start(&db, Some(&redis.url()), &version).await;
    let asked = Replica::start(&db, Some(&redis.url()), &version).await;
    let tenant = silent.app.tenant("acme").await;
    tenant.app.ask("the question").await.expect(200);
    silent.postgres.take_down();
    asked.redis.as_ref().unwrap().cut();
    let admin = tenant.admin.at(&asked.app.base());
    let refused = invalidate_all(&admin).await.expect(503);
    assert_eq!(refused.body["type"], "urn:ai-cache:problem:not-propagated");
    assert!(refused.header("retry-after").is_some());
    let generation = "SELECT count(*) FROM invalidation_state WHERE generation = 1";
    assert_eq!(db.count(generation).await, 1, "it is committed");
    let done =
        "SELECT count(*) FROM ai_cache_audit_logs WHERE action = 'invalidate' AND outcome = ";
    assert_eq!(db.count(&format!("{done}'done'")).await, 1);
    asked.mend();
    let again = invalidate_all(&admin).await.expect(200);
    assert_eq!(again.body["invalidatedCount"], 0);
    assert_ne!(tenant.app.ask("the question").await.body["cached"], true);
    silent.mend();
    asked.app.stop().await;
    silent.app.stop().await;
    redis.stop().await.unwrap();
}

/// Requirement of api.md: a revoked token stops on every replica, also on one that follows no more.
#[rstest]
#[case::all_follow(false)]
#[case::one_is_cut_off_from_redis(true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_stops_on_every_replica(#[case] redis_down: bool) {
    let (redis, version) = (own_redis().await, Version::default());
    let db = TestDb::new().await;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::start(&db, Some(&redis.url()), &version).await);
    }
    let tenant: Tenant = replicas[0].app.tenant("acme").await;
    let text = replicas[0].app.token(tenant.id, &[Role::App]).await;
    let callers: Vec<Client> =
        replicas.iter().map(|replica| replica.app.client.with_token(&text)).collect();
    for caller in &callers {
        caller.ask("the question").await.expect(200);
    }
    if redis_down {
        replicas.iter().flat_map(|replica| &replica.redis).for_each(Link::cut);
    }
    let over = Arc::new(AtomicBool::new(false));
    let last_good = join_all(callers.iter().map(|caller| {
        let over = Arc::clone(&over);
        async move {
            let mut last = None;
            while !over.load(Ordering::SeqCst) {
                let sent = Instant::now();
                if caller.ask_quickly("the question").await.status == 200 {
                    last = Some(sent);
                }
            }
            last.unwrap()
        }
    }));
    let script = async {
        let id = text.split('_').nth(1).unwrap();
        let begun = Instant::now();
        tenant.admin.send("DELETE", &format!("/api/ai-cache/tokens/{id}")).await.expect(204);
        let answered = Instant::now();
        wait_until("some more are asked", || async {
            (answered.elapsed() > Duration::from_millis(300)).then_some(())
        })
        .await;
        over.store(true, Ordering::SeqCst);
        (begun, answered)
    };
    let (last, (begun, answered)) = tokio::join!(last_good, script);
    let took = answered - begun;
    let later: Vec<Duration> = last.iter().map(|at| at.saturating_duration_since(begun)).collect();
    println!("revoked in {took:?}; last 2xx on each replica, since it was asked for: {later:?}");
    assert!(last.iter().all(|sent| *sent <= answered));
    assert!(later.iter().all(|later| *later <= Duration::from_millis(2_500)));
    for replica in replicas {
        replica.mend();
        replica.app.stop().await;
    }
    redis.stop().await.unwrap();
}

/// Returns what the series tell of the proof: whether there is one, and whether no time has passed
/// without one.
async fn proof_told(app: &TestApp) -> (u64, bool) {
    let metrics = app.client.get("/api/metrics").await.expect(200).text;
    let without = series(&metrics, "ai_cache_unproven_seconds");
    (series(&metrics, "ai_cache_proven").to_bits(), without <= 0.0)
}

/// A token that may have been revoked elsewhere is good for an answer of the upstream, which is not
/// stored, and for nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_cannot_be_confirmed_buys_an_answer_and_changes_nothing() {
    let version = Version::default();
    let lone = Replica::start(&TestDb::new().await, None, &version).await;
    let tenant = lone.app.tenant("acme").await;
    tenant.app.ask("the question").await.expect(200);
    tenant.admin.get("/api/ai-cache/entries").await.expect(200);
    lone.cut_off();
    assert_eq!(proof_told(&lone.app).await, (1.0_f64.to_bits(), true));
    wait_until("nothing is proven any more", || async {
        (!lone.app.rooms().coherence().is_proven()).then_some(())
    })
    .await;
    assert_eq!(proof_told(&lone.app).await, (0.0_f64.to_bits(), false));
    let known = tenant.app.ask("the question").await.expect(200);
    let status = known.header("cache-status").unwrap().to_owned();
    let refused = [
        invalidate_all(&tenant.admin).await.expect(503),
        tenant.admin.get("/api/ai-cache/entries").await.expect(503),
    ];
    let refused = refused.map(|reply| reply.problem().to_owned());
    println!("{status}; {refused:?}");
    assert_eq!(
        (status.as_str(), known.header("x-cache")),
        ("ai-cache; fwd=bypass", Some("BYPASS"))
    );
    assert_eq!(refused, ["auth-unavailable", "auth-unavailable"]);
    lone.mend();
    wait_until("it is believed again", || async {
        (tenant.admin.get("/api/ai-cache/entries").await.status == 200).then_some(())
    })
    .await;
    wait_until("it is told to be proven again", || async {
        (proof_told(&lone.app).await == (1.0_f64.to_bits(), true)).then_some(())
    })
    .await;
    lone.app.stop().await;
}

/// Missed steps are not kept for ever: a replica that is back after too long begins anew. So does
/// one whose Postgres has another history.
#[rstest]
#[case::trimmed(true)]
#[case::another_ledger(false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_know_what_was_missed_empties_its_memory(#[case] trimmed: bool) {
    let version = Version::default();
    let db = TestDb::new().await;
    let lone = Replica::start(&db, None, &version).await;
    let other = TestApp::builder().db(&db).start().await;
    let tenant = lone.app.tenant("acme").await;
    for question in ["kept", "removed"] {
        tenant.app.ask(question).await.expect(200);
    }
    assert_eq!(tenant.app.ask("kept").await.body["cacheSource"], "hot");
    lone.cut_off();
    if trimmed {
        let gone = json!({ "entryId": tenant.app.ask("removed").await.body["entryId"] });
        let admin = tenant.admin.at(&other.base());
        admin.post("/api/ai-cache/invalidate", &gone).await.expect(200);
        let rooms = other.rooms();
        let before = rooms.clock().now() + TimeDelta::hours(1);
        assert_eq!(rooms.coherence().trim(before).await.unwrap(), 1);
    } else {
        let begin = "INSERT INTO audit_ledgers (ledger_id, system_identifier, begun_at, timeline)
                     SELECT 'ffffffff-ffff-7fff-bfff-ffffffffffff', system_identifier, now(), timeline
                     FROM audit_ledgers LIMIT 1";
        db.superuser().await.batch_execute(begin).await.unwrap();
    }
    lone.mend();
    wait_until("it follows again", || async { lone.app.rooms().coherence().catch_up().await.ok() })
        .await;
    let sources = [
        tenant.app.ask("kept").await.expect(200).body["cacheSource"].clone(),
        tenant.app.ask("removed").await.expect(200).body["cacheSource"].clone(),
    ];
    println!("trimmed {trimmed}: from {sources:?}");
    assert_eq!(sources, if trimmed { ["cold", "openai"] } else { ["cold", "cold"] });
    other.stop().await;
    lone.app.stop().await;
}

/// Requests that take every connection of the pool keep a replica neither from its lease nor from its
/// proof.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_stays_proven_while_its_pool_is_taken() {
    let app = TestApp::builder().settings(|settings| settings.store.pool_size = 1).start().await;
    let tenant = app.tenant("acme").await;
    tenant.app.ask("the question").await.expect(200);
    let mut superuser = app.db.superuser().await;
    let held = superuser.transaction().await.unwrap();
    held.batch_execute("LOCK TABLE ai_cache_entries IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let begun = Instant::now();
    let over = Arc::new(AtomicBool::new(false));
    let blocked = read_on_new(tenant.app.clone(), Arc::clone(&over));
    let hits = async {
        let mut sources = std::collections::BTreeMap::<String, usize>::new();
        let mut pace = tokio::time::interval(PACE);
        while begun.elapsed() < Duration::from_secs(4) {
            pace.tick().await;
            let reply = tenant.app.ask("the question").await.expect(200);
            *sources.entry(reply.body["cacheSource"].to_string()).or_default() += 1;
        }
        over.store(true, Ordering::SeqCst);
        sources
    };
    let (blocked, sources) = tokio::join!(blocked, hits);
    held.rollback().await.unwrap();
    println!("{blocked} look-ups that waited in vain; hits by source: {sources:?}");
    assert!(blocked > 0);
    assert_eq!(sources.keys().collect::<Vec<_>>(), ["\"hot\""]);
    app.stop().await;
}

/// Asks new questions, each of which waits for Postgres.
async fn read_on_new(caller: Client, over: Arc<AtomicBool>) -> usize {
    let mut asked = 0;
    while !over.load(Ordering::SeqCst) {
        asked += 1;
        caller.ask(&format!("new question {asked}")).await;
    }
    asked
}
