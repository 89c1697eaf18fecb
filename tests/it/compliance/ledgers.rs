//! A database that was copied, restored or has lost its seals' copies begins a new ledger, and an
//! operator must know (issue 3; architecture.md §3).

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use ai_cache::audit::verify::FindingKind;
use ai_cache::compliance::MissingSink;
use ai_cache::domain::clock::{Clock as _, SystemClock};
use chrono::TimeDelta;

use crate::resilience::hurt::Hurt;
use crate::resilience::spool::emptied;
use crate::support::folders::scratch;
use crate::support::services::pg_dump;
use crate::support::{Builder, TestApp, TestClock, wait_until};

use super::proof::{builder, checkpoint_file, lag_above, sealed, verify, write};

pub(super) fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// Nobody was ever erased, and there is no ledger that could say so.
async fn do_without_erasures(app: &TestApp) {
    let rooms = app.rooms();
    let record = rooms.calls.command_line_record();
    rooms.compliance.apply_erasure_ledger(MissingSink::Accepted, record).await.unwrap();
}

/// A copy of the data folder is started after the original has gone on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_data_folder_begins_a_ledger_that_an_operator_must_accept() {
    let mut hurt = Hurt::in_memory().await;
    let file = checkpoint_file();
    let app = builder(&hurt, &file).start().await;
    let tenant = app.tenant("acme").await;
    write(app.rooms().audit(), tenant.id, 10).await;
    app.stop().await;
    hurt.halt().await;
    let backup = scratch("copy");
    copy(hurt.folder(), &backup.join("whole"));
    hurt.bring_back().await;
    let app = builder(&hurt, &file).start().await;
    app.client.get("/health/ready").await.expect(200);
    write(app.rooms().audit(), tenant.id, 10).await;
    app.stop().await;
    hurt.halt().await;
    std::fs::remove_dir_all(hurt.folder()).unwrap();
    copy(&backup.join("whole"), hurt.folder());
    hurt.bring_back().await;

    let app = builder(&hurt, &file).start().await;
    let not_ready = app.client.get("/health/ready").await.expect(503);
    assert_eq!(not_ready.body["audit"], "down");
    let ledgers = "SELECT count(*) FROM audit_ledgers WHERE reason = 'behind-checkpoint'";
    assert_eq!(hurt.count(ledgers).await, 1);
    let compliance = tenant.compliance.at(&app.base());
    let asked = "/api/ai-cache/audit/verification";
    assert_eq!(compliance.get(asked).await.expect(503).problem(), "erasures-pending");
    do_without_erasures(&app).await;
    let state = wait_until("the replica knows", || async {
        let state = compliance.get(asked).await;
        (state.status == 200).then_some(state)
    })
    .await;
    assert_eq!(state.body["ledgerReason"], "behind-checkpoint");
    assert_eq!(state.body["ledgerAccepted"], false);
    let rooms = app.rooms();
    let (_, first) =
        rooms.compliance.accept_ledger(rooms.calls.command_line_record()).await.unwrap();
    assert!(first);
    wait_until("it is ready", || async {
        (app.client.get("/health/ready").await.status == 200).then_some(())
    })
    .await;
    // Another replica takes the ledger that was begun, though the file may still end with the old.
    let other = builder(&hurt, &file).start().await;
    other.client.get("/health/ready").await.expect(200);
    other.stop().await;
    assert_eq!(hurt.count("SELECT count(*) FROM audit_ledgers").await, 2);
    // The records that the original wrote after the copy was made are known to be lost.
    sealed(&hurt).await;
    let found = verify(rooms, None).await;
    assert!(!found.findings.is_empty());
    assert!(found.findings.iter().all(|found| found.kind == FindingKind::CheckpointMismatch));
    app.stop().await;
    hurt.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checkpoint_file_must_stay_once_it_was_there() {
    let hurt = Hurt::in_memory().await;
    let file = checkpoint_file();
    let app = builder(&hurt, &file).start().await;
    assert!(file.exists(), "a stop before the first seal is no loss");
    app.tenant("acme").await;
    sealed(&hurt).await;
    app.stop().await;
    // Torn at its end: the line before counts.
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}{{\"ledgerId\":\"0")).unwrap();
    let app = builder(&hurt, &file).start().await;
    app.client.get("/health/ready").await.expect(200);
    app.tenant("other").await;
    sealed(&hurt).await;
    assert_eq!(verify(app.rooms(), None).await.findings, []);
    // Moved away for a while: what it lacks is made up for.
    let away = file.with_extension("away");
    std::fs::rename(&file, &away).unwrap();
    app.tenant("away").await;
    sealed(&hurt).await;
    std::fs::rename(&away, &file).unwrap();
    app.tenant("since").await;
    wait_until("the file holds every seal", || async {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        // One was torn.
        let seals = hurt.count("SELECT count(*) FROM audit_seals").await;
        (i64::try_from(lines).unwrap() == seals + 1).then_some(())
    })
    .await;
    assert_eq!(verify(app.rooms(), None).await.findings, []);
    // Gone while the service runs: it is not made anew, so that the next start sees it.
    std::fs::remove_file(&file).unwrap();
    app.tenant("third").await;
    sealed(&hurt).await;
    let found = verify(app.rooms(), None).await;
    let kinds: Vec<FindingKind> = found.findings.iter().map(|found| found.kind).collect();
    assert_eq!(kinds, [FindingKind::CheckpointMismatch]);
    app.stop().await;
    assert!(!file.exists());

    let app = builder(&hurt, &file).start().await;
    app.client.get("/health/ready").await.expect(503);
    let reasons = "SELECT count(*) FROM audit_ledgers WHERE reason = 'checkpoint-missing'";
    assert_eq!(hurt.count(reasons).await, 1);
    app.stop().await;
    hurt.stop().await;
}

/// Transactions of somebody else.
const FIVE_THOUSAND: &str = "DO $$ BEGIN
    FOR n IN 1..5000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP;
END $$";

/// Waits until the newest ledger's rows are sealed, whatever the transactions of older ones.
async fn newest_sealed(hurt: &Hurt) {
    let left = "SELECT count(*) FROM ai_cache_audit_logs a
                WHERE ledger_id = (SELECT max(ledger_id::text)::uuid FROM audit_ledgers)
                  AND tx_id >= (SELECT COALESCE(max(to_tx), 0) FROM audit_seals s
                                WHERE s.ledger_id = a.ledger_id)";
    wait_until("the newest ledger is sealed", || async {
        (hurt.count(left).await == 0).then_some(())
    })
    .await;
}

/// Accepts the new ledger and waits until the service is ready.
async fn accept(app: &TestApp) {
    app.client.get("/health/ready").await.expect(503);
    let rooms = app.rooms();
    let (_, first) =
        rooms.compliance.accept_ledger(rooms.calls.command_line_record()).await.unwrap();
    assert!(first);
    do_without_erasures(app).await;
    wait_until("it is ready", || async {
        (app.client.get("/health/ready").await.status == 200).then_some(())
    })
    .await;
}

/// A service that keeps its spool in this folder.
fn with_spool(hurt: &Hurt, checkpoint: &Path, spool: &Path) -> Builder {
    let dir = spool.to_owned();
    builder(hurt, checkpoint).spool(|spool| spool.dir = dir)
}

/// A dump is restored on a fresh server, whose transactions count from the beginning and whose clock
/// is behind. What was in the spool when the old one was lost is adopted there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_restored_on_another_server_begins_a_ledger() {
    let (mut old, new) = (Hurt::in_memory().await, Hurt::of_another_identity().await);
    let file = checkpoint_file();
    let spool = scratch("spool");
    let app = with_spool(&old, &file, &spool).start().await;
    let tenant = app.tenant("acme").await;
    // The old ledger's seals cover what the new server's numbers will be.
    old.superuser().await.batch_execute(FIVE_THOUSAND).await.unwrap();
    write(app.rooms().audit(), tenant.id, 200).await;
    sealed(&old).await;
    let dump = pg_dump(&old.superuser_url(), &["--inserts"]);
    let dump = String::from_utf8(dump).unwrap();
    let first = "SELECT max(begun_tx) FROM audit_ledgers WHERE reason = 'first'";
    let first = old.count(first).await;
    old.kill();
    write(app.rooms().audit(), tenant.id, 20).await;
    app.stop().await;
    let statements: Vec<&str> = dump.lines().filter(|line| !line.starts_with('\\')).collect();
    let owner = new.superuser().await;
    owner.batch_execute("DROP SCHEMA public CASCADE").await.unwrap();
    owner.batch_execute("CREATE SCHEMA IF NOT EXISTS public").await.unwrap();
    let statements = statements.join("\n").replace("CREATE SCHEMA public;", "");
    new.superuser().await.batch_execute(&statements).await.unwrap();

    let clock = Arc::new(TestClock::default());
    clock.advance(TimeDelta::days(-1));
    let app = with_spool(&new, &file, &spool).clock(clock).start().await;
    accept(&app).await;
    emptied(&spool).await;
    let reason = "SELECT count(*) FROM audit_ledgers WHERE reason = 'other-server'
                  AND ledger_id = (SELECT max(ledger_id::text)::uuid FROM audit_ledgers)";
    assert_eq!(new.count(reason).await, 1);
    write(app.rooms().audit(), tenant.id, 100).await;
    newest_sealed(&new).await;
    let found = verify(app.rooms(), None).await;
    let lowest = "SELECT max(begun_tx) FROM audit_ledgers WHERE reason = 'other-server'";
    println!(
        "{} rows of two ledgers begun at {first} and {}, {} not sealed: {} findings",
        found.rows,
        new.count(lowest).await,
        found.unsealed,
        found.findings.len()
    );
    assert_eq!(found.findings, []);
    assert!(found.rows > 320 && found.unsealed >= 20);
    app.stop().await;
    new.stop().await;
}

/// A recovery that ends on another timeline, as a promotion does: nothing says that records are lost,
/// and the checkpoint file would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_timeline_begins_a_ledger_that_needs_no_acceptance() {
    let mut hurt = Hurt::in_memory().await;
    let file = checkpoint_file();
    let app = builder(&hurt, &file).start().await;
    let tenant = app.tenant("acme").await;
    write(app.rooms().audit(), tenant.id, 50).await;
    app.stop().await;
    let restore = "ALTER SYSTEM SET restore_command = 'false'";
    hurt.superuser().await.batch_execute(restore).await.unwrap();
    hurt.halt().await;
    std::fs::write(hurt.cluster().join("recovery.signal"), "").unwrap();
    hurt.bring_back().await;
    wait_until("the recovery has ended", || async {
        (hurt.count("SELECT pg_is_in_recovery()::int::bigint").await == 0).then_some(())
    })
    .await;
    // The control file tells of the timeline from the next checkpoint on.
    hurt.superuser().await.batch_execute("CHECKPOINT").await.unwrap();
    let app = builder(&hurt, &file).start().await;
    app.client.get("/health/ready").await.expect(200);
    let reasons = "SELECT count(*) FROM audit_ledgers WHERE reason = 'other-timeline'";
    assert_eq!(hurt.count(reasons).await, 1);
    write(app.rooms().audit(), tenant.id, 50).await;
    newest_sealed(&hurt).await;
    assert_eq!(verify(app.rooms(), None).await.findings, []);
    app.stop().await;
    hurt.stop().await;
}

/// After seals that could not be made, what has gathered is sealed in small steps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealer_that_failed_catches_up_in_small_steps() {
    let hurt = Hurt::in_memory().await;
    let file = checkpoint_file();
    let app = builder(&hurt, &file).start().await;
    let tenant = app.tenant("acme").await;
    sealed(&hurt).await;
    let owner = hurt.superuser().await;
    let newest = hurt.count("SELECT max(seq) FROM audit_seals").await;
    let forbid = "REVOKE INSERT ON audit_seals FROM ai_cache_system";
    owner.batch_execute(forbid).await.unwrap();
    write(app.rooms().audit(), tenant.id, 100).await;
    owner.batch_execute(FIVE_THOUSAND).await.unwrap();
    owner.batch_execute(FIVE_THOUSAND).await.unwrap();
    write(app.rooms().audit(), tenant.id, 100).await;
    lag_above(&app, 0.0).await;
    owner.batch_execute("GRANT INSERT ON audit_seals TO ai_cache_system").await.unwrap();
    sealed(&hurt).await;
    assert_eq!(verify(app.rooms(), None).await.findings, []);
    let after = format!("FROM audit_seals WHERE seq > {newest}");
    let first = format!("SELECT to_tx - from_tx {after} ORDER BY seq LIMIT 1");
    let (first, seals) =
        (hurt.count(&first).await, hurt.count(&format!("SELECT count(*) {after}")).await);
    println!("10,000 transactions in {seals} seals, the first of {first}");
    assert!(first <= 2_000 && seals > 2);
    app.stop().await;
    hurt.stop().await;
}

/// A vacuum holds the partition, and somebody moves the last seal beyond every transaction: the first
/// stops no seal, the second is alarmed about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vacuum_stops_no_seal_and_a_seal_from_nowhere_is_alarmed_about() {
    let hurt = Hurt::in_memory().await;
    let file = checkpoint_file();
    let app = builder(&hurt, &file).start().await;
    let tenant = app.tenant("acme").await;
    let mut owner = hurt.superuser().await;
    let held = owner.transaction().await.unwrap();
    let month = SystemClock.now().format("audit_logs_y7_%Y_%m");
    let lock = format!("LOCK TABLE {month} IN SHARE UPDATE EXCLUSIVE MODE");
    held.batch_execute(&lock).await.unwrap();
    write(app.rooms().audit(), tenant.id, 8_000).await;
    sealed(&hurt).await;
    held.rollback().await.unwrap();
    assert_eq!(verify(app.rooms(), None).await.findings, []);

    let ahead = "UPDATE audit_seals SET to_tx = to_tx + 1000000
                 WHERE seq = (SELECT max(seq) FROM audit_seals)";
    owner.batch_execute(ahead).await.unwrap();
    println!("lag {} s", lag_above(&app, 1.0).await);
    app.stop().await;
    hurt.stop().await;
}
