//! Many tenants through few connections, with callers that hang up, callers that lose patience and rows
//! that are locked: nobody gets another's answer and no connection is left in a transaction.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use uuid::Uuid;

use crate::support::app::Tenant;
use crate::support::{Reply, TestApp, TestDb, rounds, wait_until};

const CALLERS: usize = 64;

/// The replies that callers got.
#[derive(Default)]
struct Seen {
    answers: usize,
    foreign: usize,
    aborted: usize,
    statuses: HashMap<u16, usize>,
    audit: Vec<Uuid>,
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// The words a tenant's questions carry, and so its answers.
fn marker(tenant: usize) -> String {
    format!("<tenant-{tenant}>")
}

/// One request, and whose.
async fn ask(tenants: &[Tenant], dice: &mut Dice, index: usize) -> (usize, Reply) {
    let which = usize::try_from(dice.roll(tenants.len() as u64)).unwrap();
    let tenant = &tenants[which];
    // The words of a question are the same for all tenants but for the marker.
    let question = match dice.roll(20) {
        0 => format!("{} new {index}", marker(which)),
        _ => format!("{} known {}", marker(which), dice.roll(20)),
    };
    let reply = match dice.roll(200) {
        0 => tenant.admin.get("/api/ai-cache/entries?limit=3").await,
        1 => {
            let again = json!({ "query": question, "cache": { "mode": "refresh" } });
            tenant.app.query(&again).await
        }
        2 => {
            let operation = json!({ "operation": "wedding-query" });
            tenant.admin.post("/api/ai-cache/invalidate", &operation).await
        }
        _ => tenant.app.ask_quickly(&question).await,
    };
    (which, reply)
}

async fn call(tenants: &[Tenant], next: &AtomicUsize, most: usize, seed: usize) -> Seen {
    let (mut seen, mut dice) = (Seen::default(), Dice(seed as u64 + 1));
    loop {
        let index = next.fetch_add(1, Ordering::SeqCst);
        if index >= most {
            return seen;
        }
        // One in eight hangs up, most of them within the time that an answer takes.
        let patience = match dice.roll(8) {
            0 => Duration::from_micros(dice.roll(6_000)),
            _ => Duration::from_mins(1),
        };
        let Ok((which, reply)) =
            tokio::time::timeout(patience, ask(tenants, &mut dice, index)).await
        else {
            seen.aborted += 1;
            continue;
        };
        *seen.statuses.entry(reply.status).or_default() += 1;
        seen.audit.extend(reply.header("x-audit-id").map(|id| Uuid::parse_str(id).unwrap()));
        if let Some(answer) = reply.body["data"]["response"].as_str() {
            seen.answers += 1;
            seen.foreign += usize::from(!answer.contains(&marker(which)));
        }
    }
}

/// Now and then holds a tenant's row for longer than a fill waits, so that transactions end in the
/// middle.
async fn lock_rows(db: &TestDb, next: &AtomicUsize, (times, requests): (usize, usize)) {
    let mut client = db.superuser().await;
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    for time in 1..=times {
        while next.load(Ordering::SeqCst) < requests * time / (times + 1) {
            ticks.tick().await;
        }
        let tx = client.transaction().await.unwrap();
        let lock = "SELECT 1 FROM invalidation_state WHERE tenant_id =
                        (SELECT tenant_id FROM tenants ORDER BY random() LIMIT 1) FOR UPDATE";
        tx.execute(lock, &[]).await.unwrap();
        tx.execute("SELECT pg_sleep(2.5)", &[]).await.unwrap();
        tx.rollback().await.unwrap();
    }
}

/// Issue 4: 3,000 requests of 15 tenants through a pool of five; 500,000 of 50 in `make chaos`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tenants_through_five_connections_keep_apart() {
    let requests = rounds(3_000, 500_000);
    let app = TestApp::builder()
        .settings(|settings| {
            settings.store.pool_size = 5;
            settings.memory_bytes = 512 * 1_024;
        })
        .start()
        .await;
    app.upstream.answer_with(|question| format!("the answer to {question}"));
    let mut tenants = Vec::new();
    let many = rounds(15, 50);
    for number in 0..many {
        tenants.push(app.tenant(&format!("tenant-{number}")).await);
    }
    for tenant in &tenants {
        // A network may not bring this many new tokens at once.
        wait_until("its tokens are known", || async {
            let first = tenant.app.ask("who are you").await.status;
            let second = tenant.admin.get("/api/ai-cache/entries?limit=1").await.status;
            (first == 200 && second == 200).then_some(())
        })
        .await;
    }
    println!("{many} tenants are known");
    let (next, held) = (AtomicUsize::new(0), rounds(1, 30));
    let callers = join_all((0..CALLERS).map(|seed| call(&tenants, &next, requests, seed)));
    let (seen, ()) = tokio::join!(callers, lock_rows(&app.db, &next, (held, requests)));
    let sum = |count: fn(&Seen) -> usize| seen.iter().map(count).sum::<usize>();
    let (answers, foreign, aborted) = (sum(|s| s.answers), sum(|s| s.foreign), sum(|s| s.aborted));
    let mut statuses = HashMap::<u16, usize>::new();
    for (status, count) in seen.iter().flat_map(|seen| &seen.statuses) {
        *statuses.entry(*status).or_default() += count;
    }
    let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'ai_cache_app'
                AND datname = current_database() AND state LIKE 'idle in transaction%'";
    wait_until("no connection is in a transaction", || async {
        (app.db.count(open).await == 0).then_some(())
    })
    .await;
    let db = app.db.clone();
    app.stop().await;
    let ids: Vec<String> = seen.iter().flat_map(|seen| &seen.audit).map(Uuid::to_string).collect();
    let query = "SELECT count(DISTINCT id) FROM ai_cache_audit_logs WHERE id::text = ANY ($1)";
    let records: i64 = db.superuser().await.query_one(query, &[&ids]).await.unwrap().get(0);
    let gaps = "SELECT count(*) FROM (SELECT max(writer_seq) - count(*) AS gap
                FROM ai_cache_audit_logs WHERE writer_id IS NOT NULL GROUP BY writer_id) w
                WHERE gap <> 0";
    let gaps = db.count(gaps).await;
    println!(
        "{requests} requests of {many} tenants through 5 connections, {held} rows held for 2.5 s: \
         {answers} answers, {foreign} of another tenant, {aborted} hung up, {statuses:?}; {} replies with a \
         record's id, {records} records, {gaps} gaps; 0 connections left in a transaction",
        ids.len()
    );
    assert_eq!((foreign, gaps), (0, 0));
    assert_eq!(records, i64::try_from(ids.len()).unwrap());
    assert!(aborted > requests / 20 && answers > requests / 2, "{aborted} {answers}");
    assert!(statuses.keys().all(|status| matches!(status, 200 | 429 | 503)), "{statuses:?}");
}
