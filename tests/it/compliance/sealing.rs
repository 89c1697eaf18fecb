//! The turns of sealers: a stop in the middle of a seal, and a replica whose turn never comes
//! (issue 3; architecture.md §3 "Seals").

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;

use crate::resilience::hurt::Hurt;
use crate::support::{TestClock, wait_until};

use super::proof::{builder, checkpoint_file, lag_shown, sealed, verify, write};

/// Rows that no seal covers.
const UNSEALED: &str = "SELECT count(*) FROM ai_cache_audit_logs
                        WHERE tx_id >= (SELECT max(to_tx) FROM audit_seals)";

/// The seal waits for a lock. A stop that did not wait for it would leave Postgres at it, and what was
/// written since would be left to the next process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_for_the_seal_being_made_and_seals_the_rest() {
    let hurt = Hurt::in_memory().await;
    let file = checkpoint_file();
    let app = builder(&hurt, &file).start().await;
    let tenant = app.tenant("acme").await;
    sealed(&hurt).await;
    let mut owner = hurt.superuser().await;
    let held = owner.transaction().await.unwrap();
    held.batch_execute("LOCK TABLE audit_seals IN SHARE MODE").await.unwrap();
    write(app.rooms().audit(), tenant.id, 100).await;
    let waits = "SELECT count(*) FROM pg_locks
                 WHERE NOT granted AND relation = 'audit_seals'::regclass";
    wait_until("a seal is being made", || async { (hurt.count(waits).await == 1).then_some(()) })
        .await;
    write(app.rooms().audit(), tenant.id, 100).await;
    let mut stop = std::pin::pin!(app.stop());
    let early = tokio::time::timeout(Duration::from_millis(300), &mut stop).await;
    assert!(early.is_err(), "the stop left the seal alone");
    held.rollback().await.unwrap();
    stop.await;
    let (rows, left) =
        (hurt.count("SELECT count(*) FROM ai_cache_audit_logs").await, hurt.count(UNSEALED).await);
    println!("{rows} rows, {left} of them not sealed");
    assert!(rows >= 200 && left == 0);
    hurt.stop().await;
}

/// A function that fits a replica's call better than Postgres' own, where it is in the search path.
/// It counts the tries and, once told so, refuses them.
const LOSER: &str = "CREATE SCHEMA loser;
    CREATE SEQUENCE loser.tries;
    CREATE TABLE loser.refused ();
    CREATE FUNCTION loser.pg_try_advisory_xact_lock(integer) RETURNS boolean LANGUAGE sql AS
        'SELECT nextval(''loser.tries'') > 0 AND NOT EXISTS (SELECT FROM loser.refused)
                AND pg_catalog.pg_try_advisory_xact_lock($1)';
    GRANT USAGE ON SCHEMA loser TO PUBLIC;
    GRANT USAGE ON SEQUENCE loser.tries TO PUBLIC;
    GRANT SELECT ON loser.refused TO PUBLIC";

/// It learns from the others' seals that nothing lags.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_turn_never_comes_raises_no_alarm_while_another_seals() {
    let hurt = Hurt::in_memory().await;
    let owner = hurt.superuser().await;
    owner.batch_execute(LOSER).await.unwrap();
    let (file, clock) = (checkpoint_file(), Arc::new(TestClock::default()));
    let path = "options[search_path]=loser,pg_catalog,public";
    let loser = builder(&hurt, &file)
        .clock(clock.clone())
        .settings(|settings| {
            let mark = if settings.database_url.contains('?') { '&' } else { '?' };
            settings.database_url = format!("{}{mark}{path}", settings.database_url);
        })
        .start()
        .await;
    let tenant = loser.tenant("acme").await;
    write(loser.rooms().audit(), tenant.id, 10).await;
    // It has sealed before, so it has something to count a lag from.
    sealed(&hurt).await;
    owner.batch_execute("INSERT INTO loser.refused DEFAULT VALUES").await.unwrap();
    let sealer = builder(&hurt, &file).start().await;
    let mut shown = Vec::new();
    for _ in 0..3 {
        clock.advance(TimeDelta::seconds(25));
        write(sealer.rooms().audit(), tenant.id, 10).await;
        sealed(&hurt).await;
        let tries = "SELECT last_value FROM loser.tries";
        let before = hurt.count(tries).await;
        wait_until("it has tried three times", || async {
            (hurt.count(tries).await > before + 2).then_some(())
        })
        .await;
        shown.push(lag_shown(&loser).await.unwrap());
    }
    println!("lags after each 25 s in which only the other sealed: {shown:?} s");
    assert!(shown.iter().all(|lag| *lag < 60.0));
    assert_eq!(verify(sealer.rooms(), None).await.findings, []);
    loser.stop().await;
    sealer.stop().await;
    hurt.stop().await;
}
