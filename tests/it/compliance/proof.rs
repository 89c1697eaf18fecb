//! Seals and their verification where nobody tampers: everything is covered, a break in the history
//! begins a new ledger, and what lags is named (issue 3; architecture.md §3 "Seals").

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ai_cache::app::App;
use ai_cache::audit::verify::{FindingKind, Verification};
use ai_cache::audit::{Audit, CheckpointFile};
use ai_cache::domain::action::Action;
use ai_cache::domain::audit_record::{Actor, AuditRecord, Outcome, RecordHead};
use ai_cache::domain::clock::{Clock as _, SystemClock};
use ai_cache::domain::entry::Tier;
use ai_cache::domain::ids::{
    AuditId, EntryId, Ids as _, RequestId, SubjectKeyId, SystemIds, TenantId, TokenId,
};
use ai_cache::domain::money::Usd;
use ai_cache::domain::network::Network;
use ai_cache::domain::operation::Operation;
use ai_cache::store::{Store, StoreSettings, seals};
use ai_cache::telemetry::Metrics;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;

use crate::resilience::hurt::Hurt;
use crate::support::folders::scratch;
use crate::support::{Builder, TestApp, TestClock, wait_until};

/// The records that wait at a time.
const CHUNK: usize = 4_000;

/// Makes the path of a checkpoint file, in a folder of its own.
pub(super) fn checkpoint_file() -> PathBuf {
    scratch("checkpoint").join("seals.ndjson")
}

/// A service on a Postgres of its own, which keeps its seals in a file.
pub(super) fn builder(hurt: &Hurt, checkpoint: &Path) -> Builder {
    let (url, file) = (hurt.url(), checkpoint.to_owned());
    TestApp::builder().settings(|settings| {
        settings.database_url = url;
        settings.checkpoint = Some(file);
    })
}

/// A record that says something in every column.
pub(super) fn record(tenant: TenantId, now: DateTime<Utc>) -> AuditRecord {
    let request = RequestId::fresh(&SystemIds, now);
    let id = || SystemIds.next(now);
    let network = Network::parse("192.0.2.0/24");
    let head = RecordHead {
        id: AuditId::fresh(&SystemIds, now),
        tenant,
        at: now,
        request,
        actor: Actor::Token { id: TokenId(id()), roles: "app".into(), network },
        action: Action::Query,
    };
    AuditRecord {
        outcome: Outcome::Hit,
        operation: Some(Operation::Chat),
        tier: Some(Tier::Hot),
        entry: Some(EntryId(id())),
        subject_key: Some(SubjectKeyId(id())),
        object: Some(id()),
        status: 200,
        count: 1,
        duration_us: 1_234,
        cost: Usd(5_678),
        ..AuditRecord::begun(head)
    }
}

/// Writes so many records.
pub(super) async fn write(audit: &Audit, tenant: TenantId, count: usize) {
    let mut left = count;
    while left > 0 {
        let now = left.min(CHUNK);
        let waits: Vec<_> =
            (0..now).map(|_| audit.record(record(tenant, SystemClock.now()))).collect();
        for receipt in join_all(waits).await {
            let _receipt = receipt.unwrap();
        }
        left -= now;
    }
}

pub(super) async fn verify(rooms: &App, checkpoint: Option<&CheckpointFile>) -> Verification {
    let record = rooms.calls.command_line_record();
    rooms.compliance.verify_on_request(None, checkpoint, record).await.unwrap()
}

/// Waits until every row there is now lies below the last seal.
pub(super) async fn sealed(hurt: &Hurt) {
    let rows = hurt.count("SELECT COALESCE(max(tx_id), 0) FROM ai_cache_audit_logs").await;
    wait_until("everything is sealed", || async {
        let to = hurt.count("SELECT COALESCE(max(to_tx), 0) FROM audit_seals").await;
        (to > rows).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_is_sealed_and_a_clean_trail_has_no_findings() {
    let hurt = Hurt::in_memory().await;
    let file = checkpoint_file();
    let app = builder(&hurt, &file).start().await;
    let tenant = app.tenant("acme").await;
    for number in 0..40 {
        tenant.app.ask(&format!("question {}", number % 10)).await.expect(200);
    }
    sealed(&hurt).await;
    let found = verify(app.rooms(), None).await;
    assert_eq!(found.findings, []);
    let rows = hurt.count("SELECT count(*) FROM ai_cache_audit_logs").await;
    // The verification's own record came after it.
    assert_eq!(i64::try_from(found.rows).unwrap(), rows - 1);
    assert!(found.unsealed < 5 && found.seals > 0 && found.checkpoints == found.seals, "{found:?}");

    // The last records are sealed at the stop.
    tenant.app.ask("the last question").await.expect(200);
    app.stop().await;
    let left = "SELECT count(*) FROM ai_cache_audit_logs
                WHERE tx_id >= (SELECT max(to_tx) FROM audit_seals)";
    assert_eq!(hurt.count(left).await, 0);

    // The next process goes on with the same ledger and chain.
    let app = builder(&hurt, &file).start().await;
    write(app.rooms().audit(), tenant.id, 10).await;
    sealed(&hurt).await;
    assert_eq!(verify(app.rooms(), None).await.findings, []);
    assert_eq!(hurt.count("SELECT count(*) FROM audit_ledgers").await, 1);
    app.stop().await;
    hurt.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rival_sealers_make_one_chain_in_which_each_row_is_once() {
    let hurt = Hurt::in_memory().await;
    let file = checkpoint_file();
    let apps = [
        builder(&hurt, &file).start().await,
        builder(&hurt, &file).start().await,
        builder(&hurt, &file).start().await,
    ];
    let tenant = apps[0].tenant("acme").await;
    let writes = apps.iter().map(|app| write(app.rooms().audit(), tenant.id, 3_000));
    join_all(writes).await;
    sealed(&hurt).await;
    // Counted before the rows, of which there are only ever more.
    let sealed = "SELECT sum(n)::bigint FROM audit_seals, unnest(part_counts) AS n";
    let sealed = hurt.count(sealed).await;
    let found = verify(apps[0].rooms(), None).await;
    assert_eq!(found.findings, []);
    let rows = i64::try_from(found.rows).unwrap();
    println!("{rows} rows, {sealed} of them sealed once, {} seals", found.seals);
    assert!(sealed >= 9_000 && sealed <= rows);
    for app in apps {
        app.stop().await;
    }
    hurt.stop().await;
}

/// A record that is written during the verification is nobody's forgery.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verifying_under_load_finds_nothing() {
    let hurt = Hurt::in_memory().await;
    let file = checkpoint_file();
    let app = builder(&hurt, &file).start().await;
    let tenant = app.tenant("acme").await;
    let over = AtomicBool::new(false);
    let load = async {
        while !over.load(Ordering::SeqCst) {
            write(app.rooms().audit(), tenant.id, 50).await;
        }
    };
    let verifications = async {
        let mut rows = 0;
        for _ in 0..10 {
            let found = verify(app.rooms(), None).await;
            assert_eq!(found.findings, []);
            rows = found.rows;
        }
        over.store(true, Ordering::SeqCst);
        rows
    };
    let (rows, ()) = tokio::join!(verifications, load);
    println!("10 verifications, {rows} rows in the last one, 0 findings");
    app.stop().await;
    hurt.stop().await;
}

/// Returns the value of the series of the lag, in seconds.
pub(super) async fn lag_shown(app: &TestApp) -> Option<f64> {
    let text = app.client.get("/api/metrics").await.expect(200).text;
    let line = text.lines().find(|line| line.starts_with("ai_cache_audit_seal_lag_seconds"));
    line?.rsplit(' ').next()?.parse().ok()
}

/// Waits for the series of the lag to be above so many seconds.
pub(super) async fn lag_above(app: &TestApp, least: f64) -> f64 {
    let above = || async { lag_shown(app).await.filter(|lag| *lag > least) };
    wait_until("the lag shows", above).await
}

/// A prepared transaction that somebody forgot in another database stops the horizon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_the_trail_from_being_sealed_is_named() {
    let hurt = Hurt::in_memory().await;
    let clock = Arc::new(TestClock::default());
    let file = checkpoint_file();
    let app = builder(&hurt, &file).clock(clock.clone()).start().await;
    let tenant = app.tenant("acme").await;
    sealed(&hurt).await;
    let other = hurt.other_database().await;
    let forget = "BEGIN; CREATE TABLE t (n int); PREPARE TRANSACTION 'forgotten one'";
    other.batch_execute(forget).await.unwrap();
    write(app.rooms().audit(), tenant.id, 20).await;
    // The sealer has seen that it cannot go on.
    lag_above(&app, 0.0).await;
    clock.advance(TimeDelta::seconds(90));
    let lag = lag_above(&app, 60.0).await;
    let store = StoreSettings { pool_size: 1, limit: std::time::Duration::from_secs(5) };
    let store = Store::new(&hurt.url(), &store, Arc::new(Metrics::new().unwrap())).unwrap();
    let blockers = store.system("list blockers in a test", async |mut tx| {
        let horizon = seals::horizon(&mut tx).await?;
        seals::list_blockers(&mut tx, horizon.settled).await
    });
    let blockers = blockers.await.unwrap().join(", ");
    store.close().await;
    println!("lag {lag} s, in the way: {blockers}");
    assert!(blockers.contains("forgotten one") && blockers.contains("elsewhere"), "{blockers}");
    let found = verify(app.rooms(), None).await;
    let kinds: Vec<FindingKind> = found.findings.iter().map(|found| found.kind).collect();
    assert_eq!(kinds, [FindingKind::SealLagging], "{found:?}");

    other.batch_execute("ROLLBACK PREPARED 'forgotten one'").await.unwrap();
    sealed(&hurt).await;
    assert_eq!(verify(app.rooms(), None).await.findings, []);
    drop(other);
    app.stop().await;
    hurt.stop().await;
}

/// The daily verification: once, whoever comes first; its result is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daily_verification_is_done_once_and_told() {
    let clock = Arc::new(TestClock::default());
    let app = TestApp::builder().clock(clock.clone()).start().await;
    let tenant = app.tenant("acme").await;
    let before = tenant.compliance.get("/api/ai-cache/audit/verification").await.expect(200);
    assert_eq!(before.body["lastVerification"], serde_json::Value::Null);
    let rooms = app.rooms();
    let (one, other) =
        tokio::join!(rooms.compliance.verify_when_due(), rooms.compliance.verify_when_due());
    let done = [one.unwrap(), other.unwrap()];
    assert_eq!(done.iter().filter(|done| done.is_some()).count(), 1);
    assert!(rooms.compliance.verify_when_due().await.unwrap().is_none());
    let told = tenant.compliance.get("/api/ai-cache/audit/verification").await.expect(200);
    assert_eq!(told.body["lastVerification"]["ok"], true, "{}", told.text);
    let metrics = app.client.get("/api/metrics").await.expect(200).text;
    assert!(metrics.contains("ai_cache_audit_findings 0"), "{metrics}");
    let ended = told.body["lastVerification"]["endedAt"].as_str().unwrap();
    let ended = DateTime::parse_from_rfc3339(ended).unwrap().timestamp();
    let verified = format!("ai_cache_audit_verified_timestamp_seconds {ended}");
    assert!(metrics.contains(&verified), "{verified}, {metrics}");

    // A row of long ago has no month's partition.
    let old = record(tenant.id, SystemClock.now() - TimeDelta::days(400));
    let _receipt = rooms.audit().record(old).await.unwrap();
    clock.advance(TimeDelta::hours(25));
    assert!(rooms.compliance.verify_when_due().await.unwrap().is_some());
    let metrics = app.client.get("/api/metrics").await.expect(200).text;
    assert!(metrics.contains("ai_cache_audit_default_partition_rows 1"), "{metrics}");
    app.stop().await;
}
