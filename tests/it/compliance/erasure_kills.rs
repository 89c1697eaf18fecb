//! The process that executes an erasure is killed at each of its steps; the next one goes on from there:
//! one completion, one certificate, the same counts (issue 5).

use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::json;
use tokio_postgres::Client as Sql;

use super::erasures::{ERASED, certificate, question};
use super::requests::{file, wait_for};
use crate::cli::program::{Program, Serving};
use crate::support::app::MASTER_KEYS;
use crate::support::redis_servers::RedisProcess;
use crate::support::{Client, TestDb, wait_until};

/// The obstacle that keeps the execution from going on.
#[derive(Debug, Clone, Copy)]
enum Block {
    /// Before anything is removed.
    Ledger,
    /// Between the deletes in Postgres and in Redis.
    Redis,
    /// Before every replica is known to follow.
    Replica,
    /// Before the certificate.
    Certificate,
}

impl Block {
    async fn set(self, sql: &Sql, redis: &RedisProcess) {
        match self {
            Self::Ledger => sql.batch_execute("BEGIN; LOCK TABLE erasures").await.unwrap(),
            Self::Redis => redis.signal(Signal::SIGSTOP),
            Self::Replica => {
                let silent =
                    "INSERT INTO replicas (replica_id, started_at, seen_at, applied_position)
                              VALUES (gen_random_uuid(), now(), now() + interval '1 hour', 0)";
                sql.batch_execute(silent).await.unwrap();
            }
            Self::Certificate => {
                sql.batch_execute("BEGIN; LOCK TABLE gdpr_certificates").await.unwrap();
            }
        }
    }

    /// Returns whether the execution stands before it.
    async fn is_reached(self, db: &TestDb) -> bool {
        let waits = |table: &str| {
            format!(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                 AND datname = current_database() AND query LIKE 'INSERT INTO {table} %'"
            )
        };
        let step = |step: &str| {
            format!("SELECT count(*) FROM ai_cache_gdpr_requests WHERE step = '{step}'")
        };
        let reached = match self {
            Self::Ledger => waits("erasures"),
            Self::Redis => step("destroyed"),
            Self::Replica => step("redis"),
            Self::Certificate => waits("gdpr_certificates"),
        };
        db.count(&reached).await > 0
    }

    async fn lift(self, sql: &Sql, redis: &RedisProcess) {
        match self {
            Self::Ledger | Self::Certificate => sql.batch_execute("ROLLBACK").await.unwrap(),
            Self::Redis => redis.signal(Signal::SIGCONT),
            Self::Replica => {
                let gone = "DELETE FROM replicas WHERE seen_at > now() + interval '1 minute'";
                sql.batch_execute(gone).await.unwrap();
            }
        }
    }
}

async fn serve(program: &Program, db: &TestDb, redis: &RedisProcess) -> Serving {
    let (url, redis_url) = (db.app_url().await, redis.url());
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("AI_CACHE_REDIS_URL", redis_url.as_str()),
        ("AI_CACHE_MASTER_KEYS", MASTER_KEYS),
        ("AI_CACHE_UPSTREAM", "demo"),
        ("AI_CACHE_UPSTREAM_DEMO_DELAY_MS", "0"),
    ];
    program.serve(&variables).await
}

async fn token(program: &Program, db: &TestDb) -> String {
    program.json_on(db, &["tenant", "create", "acme", "--name", "Acme", "--json"]).await;
    let roles = ["--role", "app", "--role", "compliance"];
    let make = [&["token", "create", "--tenant", "acme", "--json"][..], &roles[..]].concat();
    program.json_on(db, &make).await["token"].as_str().unwrap().to_owned()
}

#[rstest]
#[case(Block::Ledger)]
#[case(Block::Redis)]
#[case(Block::Replica)]
#[case(Block::Certificate)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_killed_anywhere_is_completed_once(#[case] block: Block) {
    let (program, db) = (Program::new(), TestDb::new().await);
    let redis = RedisProcess::start(&[]).await;
    let token = token(&program, &db).await;
    let serving = serve(&program, &db, &redis).await;
    let caller: Client = serving.client().with_token(&token);
    for number in 0..5 {
        caller.query(&question(number, ERASED, "default")).await.expect(200);
    }
    let (sql, superuser) = (db.superuser().await, db.superuser().await);
    block.set(&sql, &redis).await;
    let id = file(&caller, "erase", ERASED).await;
    wait_until("the execution stands before the block", || async {
        block.is_reached(&db).await.then_some(())
    })
    .await;
    serving.kill().await;
    block.lift(&sql, &redis).await;
    // A dead execution's lease runs out after 30 s.
    let free = "UPDATE ai_cache_gdpr_requests SET lease_until = NULL, restarts_at = NULL";
    superuser.batch_execute(free).await.unwrap();

    let serving = serve(&program, &db, &redis).await;
    let caller = serving.client().with_token(&token);
    let shown = wait_for(&caller, &id, "completed").await;

    let removed = certificate(&caller, &id).await.certificate.removed;
    let mut told = Vec::new();
    for action in ["subject-key-destroy", "gdpr-complete"] {
        let records = format!(
            "SELECT count(*) FROM ai_cache_audit_logs WHERE object_id = '{id}' AND action = '{action}'"
        );
        told.push(db.count(&records).await);
    }
    let certificates = db.count("SELECT count(*) FROM gdpr_certificates").await;
    println!("{block:?}: {certificates} certificate, {told:?} records, {removed:?}");
    assert_eq!((certificates, told), (1, vec![1, 1]));
    assert_eq!((removed.postgres_entries, removed.redis_names), (5, 5));
    assert_eq!(shown["counts"]["postgresEntries"], json!(5));
    assert_eq!(db.count("SELECT count(*) FROM ai_cache_entries").await, 0);
    assert_eq!(serving.stop().await, Some(0));
}
