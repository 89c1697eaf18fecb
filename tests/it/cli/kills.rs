//! The service killed and stopped in the middle of its work: replies are counted against records.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is the test's failure")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use rstest::rstest;
use serde_json::Value;
use tokio::time::Instant;

use crate::resilience::hurt::Hurt;
use crate::support::app::MASTER_KEYS;
use crate::support::{Client, TestDb, rounds, wait_until};

use super::program::{Program, Serving};

const CALLERS: usize = 64;

/// The longest time that a stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Replies with data before the service ends.
const ENOUGH: usize = 400;

/// The audit ids of replies that carried data.
async fn ask_until_it_ends(
    caller: Client,
    number: usize,
    replies: Arc<AtomicUsize>,
) -> Vec<String> {
    let mut ids = Vec::new();
    // New questions and known ones.
    for round in 0.. {
        let question =
            format!("question {}", if round % 4 == 0 { number * 10_000 + round } else { 0 });
        let Some(reply) = caller.try_ask(&question).await else { break };
        if reply.status == 200 {
            ids.push(reply.header("x-audit-id").unwrap().to_owned());
            replies.fetch_add(1, Ordering::SeqCst);
        }
    }
    ids
}

/// Loads the service until it has answered enough, ends it with `end`, and counts.
async fn load_and_end<T, F: Future<Output = T>>(
    db: &TestDb,
    serving: Serving,
    token: &str,
    end: impl FnOnce(Serving) -> F,
) -> (usize, usize, T) {
    let caller = serving.client().with_token(token);
    let replies = Arc::new(AtomicUsize::new(0));
    let load =
        (0..CALLERS).map(|number| ask_until_it_ends(caller.clone(), number, Arc::clone(&replies)));
    let end = async {
        wait_until("the service is busy", || async {
            (replies.load(Ordering::SeqCst) >= ENOUGH).then_some(())
        })
        .await;
        end(serving).await
    };
    let (ids, ended) = tokio::join!(join_all(load), end);
    let ids: Vec<String> = ids.into_iter().flatten().collect();
    let query =
        "SELECT count(DISTINCT id), count(*) FROM ai_cache_audit_logs WHERE id::text = ANY ($1)";
    let row = db.superuser().await.query_one(query, &[&ids]).await.unwrap();
    let (distinct, all): (i64, i64) = (row.get(0), row.get(1));
    assert_eq!(distinct, all, "no record is there twice");
    (ids.len(), usize::try_from(distinct).unwrap(), ended)
}

async fn serve(program: &Program, db: &TestDb) -> Serving {
    let url = db.app_url().await;
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("AI_CACHE_MASTER_KEYS", MASTER_KEYS),
        ("AI_CACHE_UPSTREAM", "demo"),
        ("AI_CACHE_UPSTREAM_DEMO_DELAY_MS", "0"),
    ];
    program.serve(&variables).await
}

async fn token(program: &Program, db: &TestDb) -> String {
    program.json_on(db, &["tenant", "create", "acme", "--name", "Acme", "--json"]).await;
    let make = ["token", "create", "--tenant", "acme", "--role", "app", "--json"];
    program.json_on(db, &make).await["token"].as_str().unwrap().to_owned()
}

/// W10: kill -9 under load. Every reply that carried data has its record, and what the dead process
/// left is served by the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_no_record_of_a_reply() {
    let (program, db) = (Program::new(), TestDb::new().await);
    let token = token(&program, &db).await;
    for round in 1..=rounds(2, 5) {
        let serving = serve(&program, &db).await;
        let (replies, records, ()) = load_and_end(&db, serving, &token, Serving::kill).await;
        println!(
            "kill -9 number {round}: {replies} replies with data, {records} records of theirs"
        );
        assert_eq!(replies, records);
        assert!(replies >= ENOUGH);
    }
    let serving = serve(&program, &db).await;
    let replicas = db.count("SELECT count(*) FROM replicas").await;
    assert_eq!(replicas, 1, "invalidations wait for none of the dead");
    let caller = serving.client().with_token(&token);
    let again = caller.ask("question 0").await.expect(200);
    assert_eq!(again.body["cached"], true, "{}", again.text);
    assert_eq!(serving.stop().await, Some(0));
}

/// SIGTERM: it ends well, and soon. Gives how soon.
async fn stop_in_time(serving: Serving) -> Duration {
    let asked = Instant::now();
    assert_eq!(serving.stop().await, Some(0));
    let took = asked.elapsed();
    assert!(took < STOP_LIMIT, "stopped after {took:?}");
    took
}

/// W10: SIGTERM under load ends well, with every record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_loses_no_record_of_a_reply() {
    let (program, db) = (Program::new(), TestDb::new().await);
    let token = token(&program, &db).await;
    let serving = serve(&program, &db).await;
    let (replies, records, took) = load_and_end(&db, serving, &token, stop_in_time).await;
    println!("stopped in {took:?}: {replies} replies with data, {records} records of theirs");
    assert_eq!(replies, records);
    assert!(replies >= ENOUGH);
    let left = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'ai-cache'";
    wait_until("no connection is left", || async { (db.count(left).await == 0).then_some(()) })
        .await;
}

/// The way in which Postgres is away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outage {
    Down,
    Hung,
}

/// The way in which the service ends.
#[derive(Clone, Copy)]
enum Ending {
    Killed,
    Stopped,
}

/// Issue 3: the service is killed or stopped under load while Postgres is away and its spool holds
/// records. The next one in that folder adopts them: each is there once, and the spool is empty.
#[rstest]
#[case::killed(Outage::Down, Ending::Killed)]
#[case::stopped(Outage::Down, Ending::Stopped)]
#[case::stopped_while_postgres_hangs(Outage::Hung, Ending::Stopped)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_with_a_filled_spool_loses_no_record_of_a_reply(
    #[case] outage: Outage,
    #[case] ending: Ending,
) {
    let (program, mut hurt) = (Program::new(), Hurt::on_disk().await);
    let url = hurt.url();
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("AI_CACHE_MASTER_KEYS", MASTER_KEYS),
        ("AI_CACHE_UPSTREAM", "demo"),
        ("AI_CACHE_UPSTREAM_DEMO_DELAY_MS", "0"),
    ];
    let create = ["tenant", "create", "acme", "--name", "Acme", "--json"];
    assert_eq!(program.run(&create, &variables).await.code, Some(0));
    let make = ["token", "create", "--tenant", "acme", "--role", "app", "--json"];
    let made = program.run(&make, &variables).await;
    let made: Value = serde_json::from_str(&made.out).unwrap();
    let serving = program.serve(&variables).await;
    let caller = serving.client().with_token(made["token"].as_str().unwrap());
    caller.ask("the question").await.expect(200);

    if outage == Outage::Down {
        hurt.kill();
    }
    let hung = (outage == Outage::Hung).then(|| hurt.hang());
    let replies = Arc::new(AtomicUsize::new(0));
    let load = (0..CALLERS).map(|_| ask_known(caller.clone(), Arc::clone(&replies)));
    let end = async {
        wait_until("the spool is busy", || async {
            (replies.load(Ordering::SeqCst) >= ENOUGH).then_some(())
        })
        .await;
        match ending {
            Ending::Killed => {
                serving.kill().await;
                Duration::ZERO
            }
            Ending::Stopped => stop_in_time(serving).await,
        }
    };
    let (ids, took) = tokio::join!(join_all(load), end);
    let ids: Vec<String> = ids.into_iter().flatten().collect();
    let log = std::fs::read_to_string(program.path("serve.log")).unwrap();
    assert!(!log.contains("some tasks did not end in time"), "{log}");
    drop(hung);
    if outage == Outage::Down {
        hurt.bring_back().await;
    }
    let serving = program.serve(&variables).await;
    wait_until("the spool is adopted", || async {
        (hurt.records(&ids).await == ids.len()).then_some(())
    })
    .await;
    println!(
        "ended in {took:?}: {} replies from the outage, {} records of theirs",
        ids.len(),
        hurt.records(&ids).await
    );
    let twice = "SELECT count(*) - count(DISTINCT (writer_id, writer_seq)) FROM ai_cache_audit_logs
                 WHERE writer_id IS NOT NULL";
    assert_eq!(hurt.count(twice).await, 0);
    assert_eq!(serving.stop().await, Some(0));
    let left = std::fs::read_dir(program.path("data/spool")).unwrap().count();
    assert_eq!(left, 0, "nothing is left behind");
    hurt.stop().await;
}

/// The audit ids of replies with data to one question, until the service ends.
async fn ask_known(caller: Client, replies: Arc<AtomicUsize>) -> Vec<String> {
    let mut ids = Vec::new();
    while let Some(reply) = caller.try_ask("the question").await {
        // Refused at the very end of a stop.
        if reply.status != 200 {
            continue;
        }
        assert_eq!(reply.header("x-audit-durability"), Some("spool"));
        ids.push(reply.header("x-audit-id").unwrap().to_owned());
        replies.fetch_add(1, Ordering::SeqCst);
    }
    ids
}
