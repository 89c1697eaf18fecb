//! Use counts (C5, M2): exact once the service has stopped, whatever was evicted from memory and
//! whoever was away meanwhile.

use std::collections::HashMap;

use ai_cache::embedded::RedisServer;
use futures_util::future::join_all;
use serde_json::json;

use super::hurt::Hurt;
use super::redis::own_redis;
use crate::support::app::Tenant;
use crate::support::folders::scratch;
use crate::support::{Client, TestApp, rounds, wait_until};

const CALLERS: usize = 64;
const ENTRIES: usize = 200;

/// The times that each entry was served from the cache, by tier.
#[derive(Default)]
struct Served {
    entries: HashMap<String, i64>,
    tiers: HashMap<String, i64>,
}

impl Served {
    fn add(&mut self, other: Self) {
        for (entry, count) in other.entries {
            *self.entries.entry(entry).or_default() += count;
        }
        for (tier, count) in other.tiers {
            *self.tiers.entry(tier).or_default() += count;
        }
    }

    fn hits(&self) -> i64 {
        self.entries.values().sum()
    }
}

/// Each caller asks its own walk over the questions, some far more often than others.
async fn ask_all(tenant: &Tenant, each: usize) -> Served {
    let ask = |caller: Client, number: usize| async move {
        let mut served = Served::default();
        for round in 0..each {
            let step = number * 31 + round * 17;
            let index = if step.is_multiple_of(3) { step % 7 } else { step % ENTRIES };
            let reply = caller.ask_quickly(&format!("question {index}")).await.expect(200);
            if reply.body["cached"] == true {
                let name = |field: &str| reply.body[field].as_str().unwrap().to_owned();
                *served.entries.entry(name("entryId")).or_default() += 1;
                *served.tiers.entry(name("cacheSource")).or_default() += 1;
            }
        }
        served
    };
    let all = join_all((0..CALLERS).map(|number| ask(tenant.app.clone(), number))).await;
    all.into_iter().fold(Served::default(), |mut sum, one| {
        sum.add(one);
        sum
    })
}

/// A memory tier that holds about a fourth of the entries.
async fn start(hurt: &Hurt, redis: &RedisServer) -> TestApp {
    let url = hurt.url();
    TestApp::builder()
        .redis_url(&redis.url())
        .settings(|settings| {
            settings.database_url = url;
            settings.memory_bytes = 48 * 1024;
        })
        .spool(|spool| spool.dir = scratch("spool"))
        .start()
        .await
}

async fn counts(hurt: &Hurt) -> HashMap<String, i64> {
    let query = "SELECT entry_id::text, access_count FROM ai_cache_entries WHERE access_count > 0";
    let rows = hurt.superuser().await.query(query, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// 64 callers, three tiers, evictions from memory all the time, Postgres killed and brought back in
/// between, stopped right after the last reply: each entry's count is what its callers counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hit_is_counted_once_whatever_breaks_in_between() {
    let each = rounds(20, 3_000);
    let (mut hurt, redis) = (Hurt::on_disk().await, own_redis().await);
    let app = start(&hurt, &redis).await;
    let tenant = app.tenant("acme").await;
    let mut served = ask_all(&tenant, each).await;
    for _ in 0..rounds(1, 5) {
        hurt.kill();
        let away = ask_all(&tenant, each / 4).await;
        let hits_away = away.hits();
        served.add(away);
        hurt.bring_back().await;
        wait_until("it is ready again", || async {
            (app.client.get("/health/ready").await.status == 200).then_some(())
        })
        .await;
        served.add(ask_all(&tenant, each).await);
        println!("{hits_away} hits while Postgres was away");
    }
    let held = app.rooms().stack().hot.len();
    app.stop().await;
    let counts = counts(&hurt).await;
    let counted: i64 = counts.values().sum();
    println!(
        "{} hits by {CALLERS} callers of {} entries, {held} of them in memory at the end, by tier {:?}; \
         {counted} counted",
        served.hits(),
        served.entries.len(),
        served.tiers
    );
    assert_eq!(served.hits(), counted);
    let wrong = served.entries.iter().filter(|(id, hits)| counts.get(*id) != Some(hits)).count();
    assert_eq!((wrong, counts.len()), (0, served.entries.len()));
    assert!(held < ENTRIES / 2 && served.tiers.len() >= 2, "{held} {:?}", served.tiers);
    let left = hurt.count("SELECT count(*) FROM use_writers").await;
    assert_eq!(left, 0, "a writer that ended is signed off");
    redis.stop().await.unwrap();
    hurt.stop().await;
}

/// A batch whose commit is in doubt is given again, and counts once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_given_twice_counts_once() {
    use ai_cache::domain::clock::{Clock as _, SystemClock};
    use ai_cache::domain::ids::{EntryId, Ids as _, SystemIds};
    use ai_cache::store::uses::{self, EntryUses, UseBatch};

    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let reply = tenant.app.query(&json!({ "query": "q" })).await.expect(200);
    let entry = EntryId(reply.body["entryId"].as_str().unwrap().parse().unwrap());
    let at = SystemClock.now();
    let writer = SystemIds.next(at);
    let store = app.rooms().store();
    for number in [1, 1, 2, 2, 1] {
        let counted = store.count_uses(tenant.id, async |mut tx| {
            let batch = UseBatch { writer, number, at };
            uses::add(&mut tx, batch, &[EntryUses { entry, count: 5, last: at }]).await
        });
        counted.await.unwrap();
    }
    let count = app.db.count("SELECT access_count FROM ai_cache_entries").await;
    println!("two batches of 5, given five times: {count}");
    assert_eq!(count, 10);
    app.stop().await;
}
