//! Commits whose outcome nobody learns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;

use crate::support::pg_proxy::{Commit, PgProxy};
use crate::support::{Client, TestApp, TestDb, rounds, wait_until};

const CALLERS: usize = 16;

/// The state that the callers share.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    /// Replies whose record was in Postgres.
    direct: AtomicUsize,
}

/// Asks known and new questions until it is over; gives the audit ids of replies with data.
async fn ask_on(caller: Client, number: usize, load: Arc<Load>) -> Vec<String> {
    let mut ids = Vec::new();
    for round in 0.. {
        if load.over.load(Ordering::SeqCst) {
            break;
        }
        let new = round % 4 == 0;
        let question = if new { number * 1_000_000 + round } else { round % 3 };
        let reply = caller.ask(&format!("question {question}")).await;
        if reply.status == 200 {
            ids.push(reply.header("x-audit-id").unwrap().to_owned());
            let direct = reply.header("x-audit-durability").is_none();
            load.direct.fetch_add(usize::from(direct), Ordering::SeqCst);
        }
    }
    ids
}

/// Cuts so many commits, and waits until records reach Postgres again.
async fn cut_commits(proxy: &PgProxy, what: Commit, count: usize, load: &Load) {
    let enough = proxy.cuts(what) + count;
    proxy.cut_next(what, count);
    wait_until("the commits are cut", || async { (proxy.cuts(what) >= enough).then_some(()) })
        .await;
    let enough = load.direct.load(Ordering::SeqCst) + CALLERS;
    wait_until("records reach Postgres", || async {
        (load.direct.load(Ordering::SeqCst) >= enough).then_some(())
    })
    .await;
}

/// Issue 3: the connection is cut right after a commit was sent, again and again, under hits, misses
/// and fills. Every event has exactly one record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_with_an_unknown_outcome_are_there_exactly_once() {
    let db = TestDb::new().await;
    let proxy = PgProxy::start(&db.app_url().await).await;
    let through = proxy.url().to_owned();
    let app = TestApp::builder().db(&db).settings(|settings| settings.database_url = through);
    let app = app.start().await;
    let tenant = app.tenant("acme").await;
    for known in 0..3 {
        tenant.app.ask(&format!("question {known}")).await.expect(200);
    }
    let load = Arc::new(Load::default());
    let callers = (0..CALLERS).map(|number| ask_on(tenant.app.clone(), number, Arc::clone(&load)));
    let cut = async {
        for round in 0..rounds(10, 200) {
            let what = if round % 2 == 0 { Commit::Batch } else { Commit::Change };
            // Sometimes the next try of the same batch too, which then goes to the spool.
            cut_commits(&proxy, what, 1 + usize::from(round % 5 == 0), &load).await;
        }
        load.over.store(true, Ordering::SeqCst);
    };
    let (ids, ()) = tokio::join!(join_all(callers), cut);
    let ids: Vec<String> = ids.into_iter().flatten().collect();
    wait_until("the spool is drained", || async {
        let metrics = app.client.get("/api/metrics").await.text;
        metrics.contains("ai_cache_audit_spool_bytes 0").then_some(())
    })
    .await;
    let gaps = "SELECT coalesce(max(writer_seq) - count(*), 0) FROM ai_cache_audit_logs
                WHERE writer_id IS NOT NULL";
    wait_until("the writer's sequence is dense", || async {
        (db.count(gaps).await == 0).then_some(())
    })
    .await;

    let query = "SELECT count(*), count(DISTINCT id) FROM ai_cache_audit_logs
                 WHERE id::text = ANY ($1)";
    let row = db.superuser().await.query_one(query, &[&ids]).await.unwrap();
    let (records, distinct): (i64, i64) = (row.get(0), row.get(1));
    let entries = db.count("SELECT count(*) FROM ai_cache_entries").await;
    let fills = "FROM ai_cache_audit_logs WHERE action = 'fill'";
    let filled = db.count(&format!("SELECT count(DISTINCT entry_id) {fills}")).await;
    let fills = db.count(&format!("SELECT count(*) {fills}")).await;
    let (batches, changes) = (proxy.cuts(Commit::Batch), proxy.cuts(Commit::Change));
    println!(
        "{batches} batches and {changes} changes cut; {} replies with data, {records} records, \
         {distinct} distinct; {entries} entries stored, {fills} records of fills",
        ids.len()
    );
    let replies = i64::try_from(ids.len()).unwrap();
    assert_eq!((records, distinct), (replies, replies));
    assert_eq!((fills, filled), (entries, entries));
    let twice = "SELECT count(*) - count(DISTINCT (writer_id, writer_seq)) FROM ai_cache_audit_logs
                 WHERE writer_id IS NOT NULL";
    assert_eq!(db.count(twice).await, 0, "no record is there twice");
    let requests = "SELECT count(*) - count(DISTINCT request_id) FROM ai_cache_audit_logs
                    WHERE action = 'query'";
    assert_eq!(db.count(requests).await, 0, "each request has one record");
    app.stop().await;
}
