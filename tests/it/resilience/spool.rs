//! Postgres away: hits are served and audited into the spool, nothing is lost and nothing doubled
//! (issue 3, architecture.md §3 and §7).

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ai_cache::coherence::PROOF;
use ai_cache::domain::caller::Role;
use chrono::TimeDelta;
use futures_util::future::join_all;
use rstest::rstest;
use serde_json::json;
use tokio::time::Instant;

use super::hurt::Hurt;
use crate::support::folders::scratch_on_disk;
use crate::support::{
    Builder, Client, Reply, Tenant, TestApp, TestClock, TestDb, rounds, wait_until,
};

const CALLERS: usize = 64;

/// The replies that callers got.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    /// Replies with data whose record was in the spool.
    spooled: AtomicUsize,
    replies: AtomicUsize,
    refused: AtomicUsize,
    /// Hits whose record was in the spool: Redis proved that they were still true.
    proven: AtomicUsize,
}

pub(super) fn is_spooled(reply: &Reply) -> bool {
    reply.header("x-audit-durability") == Some("spool")
}

/// Asks known questions, and sometimes new ones, until the load is over; gives the audit ids of
/// replies with data.
async fn ask_on(caller: Client, number: usize, load: Arc<Load>) -> Vec<String> {
    let mut ids = Vec::new();
    let mut round = 0;
    while !load.over.load(Ordering::SeqCst) {
        round += 1;
        let known = round % 16 != 0;
        let question = if known { number % 8 } else { number * 100_000 + round };
        let reply = caller.ask(&format!("question {question}")).await;
        if reply.status != 200 {
            load.refused.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        ids.push(reply.header("x-audit-id").unwrap().to_owned());
        load.replies.fetch_add(1, Ordering::SeqCst);
        if is_spooled(&reply) {
            load.spooled.fetch_add(1, Ordering::SeqCst);
            load.proven.fetch_add(usize::from(reply.body["cached"] == true), Ordering::SeqCst);
        }
    }
    ids
}

async fn at_least(counter: &AtomicUsize, more: usize) {
    let enough = counter.load(Ordering::SeqCst) + more;
    wait_until("enough replies", || async {
        (counter.load(Ordering::SeqCst) >= enough).then_some(())
    })
    .await;
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
    let folders = files(dir.to_owned()).map(|entry| entry.path());
    let inside = folders.flat_map(files).map(|entry| entry.path());
    inside.filter(|path| path.extension().is_some_and(|kind| kind == "spool")).collect()
}

pub async fn emptied(dir: &Path) {
    wait_until("the spool is empty", || async { segments(dir).is_empty().then_some(()) }).await;
}

pub(super) async fn start(hurt: &Hurt, spool: &Path) -> (TestApp, Tenant) {
    start_with(hurt, spool, 64 * 1024 * 1024).await
}

fn builder(hurt: &Hurt, spool: &Path) -> Builder {
    let (url, dir) = (hurt.url(), spool.to_owned());
    TestApp::builder()
        .redis_url(&hurt.redis_url())
        .settings(|settings| settings.database_url = url)
        .spool(|spool| spool.dir = dir)
}

async fn start_with(hurt: &Hurt, spool: &Path, max_bytes: u64) -> (TestApp, Tenant) {
    let builder = builder(hurt, spool);
    let app = builder.spool(|spool| spool.max_bytes = max_bytes).start().await;
    let tenant = app.tenant("acme").await;
    for number in 0..8 {
        tenant.app.ask(&format!("question {number}")).await.expect(200);
    }
    tenant.admin.get("/api/ai-cache/statistics").await.expect(200);
    (app, tenant)
}

/// W10: Postgres is killed under load and comes back. Every reply with data has exactly one record,
/// and hits were served meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_postgres_under_load_loses_no_record_and_hits_are_served() {
    let (mut hurt, spool) = (Hurt::on_disk().await, scratch_on_disk("spool"));
    let (app, tenant) = start(&hurt, &spool).await;
    let load = Arc::new(Load::default());
    let callers = (0..CALLERS).map(|number| ask_on(tenant.app.clone(), number, Arc::clone(&load)));
    let mut proven = 0;
    let faults = async {
        for _ in 0..rounds(1, 5) {
            at_least(&load.replies, 100).await;
            hurt.kill();
            at_least(&load.spooled, 100).await;
            // Longer than what Postgres said proves anything.
            let killed = Instant::now();
            wait_until("only Redis proves hits", || async {
                (killed.elapsed() > PROOF * 2).then_some(())
            })
            .await;
            let before = load.proven.load(Ordering::SeqCst);
            at_least(&load.proven, 50).await;
            proven += load.proven.load(Ordering::SeqCst) - before;
            app.client.get("/health/ready").await.expect(200);
            let all = json!({ "invalidateAll": true });
            tenant.admin.post("/api/ai-cache/invalidate", &all).await.expect(503);
            hurt.bring_back().await;
            emptied(&spool).await;
        }
        at_least(&load.replies, 100).await;
        load.over.store(true, Ordering::SeqCst);
    };
    let (ids, ()) = tokio::join!(join_all(callers), faults);
    let ids: Vec<String> = ids.into_iter().flatten().collect();
    let records = hurt.records(&ids).await;
    let [spooled, refused] =
        [&load.spooled, &load.refused].map(|count| count.load(Ordering::SeqCst));
    println!(
        "{} replies with data, {records} records of theirs; {spooled} in the outage, {proven} of \
         them hits by Redis' word alone, {refused} refused",
        ids.len()
    );
    assert_eq!(records, ids.len());
    let twice = "SELECT count(*) - count(DISTINCT (writer_id, writer_seq)) FROM ai_cache_audit_logs
                 WHERE writer_id IS NOT NULL";
    assert_eq!(hurt.count(twice).await, 0);
    let gaps = "SELECT max(writer_seq) - count(*) FROM ai_cache_audit_logs
                WHERE writer_id IS NOT NULL";
    assert_eq!(hurt.count(gaps).await, 0, "the writer's sequence is dense");
    app.stop().await;
    hurt.stop().await;
}

/// Makes the spool unusable.
type Spoil = fn(&Path);

fn remove(spool: &Path) {
    fs::remove_dir_all(spool).unwrap();
}

fn close(spool: &Path) {
    for segment in segments(spool) {
        fs::set_permissions(segment.parent().unwrap(), Permissions::from_mode(0o000)).unwrap();
    }
}

fn unlink(spool: &Path) {
    for segment in segments(spool) {
        fs::remove_file(segment).unwrap();
    }
}

fn nothing(_: &Path) {}

/// Architecture §3, fail closed: Postgres hangs and the spool is removed, closed, unlinked or full.
/// No data from then on, readiness red, liveness green; back by itself with Postgres; and no record
/// of an earlier reply is missing.
#[rstest]
#[case::removed(remove, 64 * 1024 * 1024)]
#[case::closed(close, 64 * 1024 * 1024)]
#[case::unlinked(unlink, 64 * 1024 * 1024)]
#[case::full(nothing, 20_000)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_and_spool_no_data_leaves(#[case] spoil: Spoil, #[case] max_bytes: u64) {
    let (hurt, spool) = (Hurt::in_memory().await, scratch_on_disk("spool"));
    let (app, tenant) = start_with(&hurt, &spool, max_bytes).await;
    let hung = hurt.hang();
    let mut ids = Vec::new();
    for _ in 0..10 {
        let reply = tenant.app.ask("question 1").await.expect(200);
        ids.push(reply.header("x-audit-id").unwrap().to_owned());
    }
    spoil(&spool);
    let mut refused = 0;
    for _ in 0..100 {
        let reply = tenant.app.ask("question 1").await;
        if reply.status == 200 {
            assert_eq!((refused, max_bytes), (0, 20_000), "data left without a record");
            ids.push(reply.header("x-audit-id").unwrap().to_owned());
        } else {
            assert_eq!(reply.expect(503).problem(), "audit-unavailable");
            refused += 1;
        }
    }
    let asked = std::time::Instant::now();
    app.client.get("/health/ready").await.expect(503);
    let red = asked.elapsed();
    app.client.get("/health").await.expect(200);
    drop(hung);
    wait_until("data flows again", || async {
        let reply = tenant.app.ask("question 1").await;
        (reply.status == 200 && !is_spooled(&reply)).then_some(())
    })
    .await;
    app.client.get("/health/ready").await.expect(200);
    wait_until("the spool is drained", || async {
        let metrics = app.client.get("/api/metrics").await.text;
        metrics.contains("ai_cache_audit_spool_bytes 0").then_some(())
    })
    .await;
    let (replies, records) = (ids.len(), hurt.records(&ids).await);
    println!("{replies} replies with data, {records} records; {refused} refused, red in {red:?}");
    assert_eq!(records, replies);
    assert!(refused > 0 && red.as_millis() < 2_000);
    app.stop().await;
    hurt.stop().await;
}

/// A batch whose writing was cut off: the beginning of the one before it.
fn tear(segment: &Path) {
    let mut bytes = fs::read(segment).unwrap();
    bytes.extend_from_within(..20);
    fs::write(segment, bytes).unwrap();
}

/// A file that the system had made longer before it crashed.
fn lengthen(segment: &Path) {
    let bytes = fs::read(segment).unwrap();
    fs::write(segment, [bytes, vec![0; 4_096]].concat()).unwrap();
}

/// Issue 3: what a process left in its spool is adopted by the next, in the same folder, whole or with
/// a torn end that nobody was answered for.
#[rstest]
#[case::whole(nothing)]
#[case::torn(tear)]
#[case::lengthened(lengthen)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stopped_process_left_in_the_spool_is_adopted(#[case] crash: Spoil) {
    let (mut hurt, spool) = (Hurt::in_memory().await, scratch_on_disk("spool"));
    let (app, tenant) = start(&hurt, &spool).await;
    hurt.kill();
    let mut ids = Vec::new();
    for _ in 0..20 {
        let reply = tenant.app.ask("question 1").await.expect(200);
        assert!(is_spooled(&reply));
        ids.push(reply.header("x-audit-id").unwrap().to_owned());
    }
    app.stop().await;
    let left = segments(&spool);
    assert_eq!(left.len(), 1);
    crash(&left[0]);
    hurt.bring_back().await;
    let again = builder(&hurt, &spool).start().await;
    emptied(&spool).await;
    println!("{} replies, {} records", ids.len(), hurt.records(&ids).await);
    assert_eq!(hurt.records(&ids).await, ids.len());
    again.stop().await;
    assert_eq!(fs::read_dir(&spool).unwrap().count(), 0, "nothing is left behind");
    hurt.stop().await;
}

/// Architecture §5: in an outage, tokens and keys known before stay usable beyond their minute, as long
/// as records may wait; what is not known is a 503, never a 401.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_known_before_an_outage_stays_usable_for_its_length() {
    let (mut hurt, spool) = (Hurt::in_memory().await, scratch_on_disk("spool"));
    let clock = Arc::new(TestClock::default());
    let app = builder(&hurt, &spool).clock(Arc::clone(&clock) as _).start().await;
    let tenant = app.tenant("acme").await;
    let mine = json!({ "query": "mine", "subjectId": "couple-4711" });
    tenant.app.query(&mine).await.expect(200);
    let unseen = app.client.with_token(&app.token(tenant.id, &[Role::App]).await);
    hurt.kill();
    clock.advance(TimeDelta::seconds(90));
    for _ in 0..3 {
        let reply = tenant.app.query(&mine).await.expect(200);
        assert_eq!((&reply.body["cacheSource"], is_spooled(&reply)), (&json!("hot"), true));
    }
    assert_eq!(unseen.ask("anything").await.expect(503).problem(), "auth-unavailable");
    let stranger = json!({ "query": "mine", "subjectId": "never named before" });
    assert_eq!(tenant.app.query(&stranger).await.expect(503).problem(), "storage-unavailable");
    clock.advance(TimeDelta::minutes(15));
    let late = tenant.app.query(&mine).await.expect(503);
    assert!(["audit-unavailable", "auth-unavailable"].contains(&late.problem()), "{}", late.text);
    hurt.bring_back().await;
    wait_until("data flows again", || async {
        let reply = tenant.app.query(&mine).await;
        (reply.status == 200 && !is_spooled(&reply)).then_some(())
    })
    .await;
    app.stop().await;
    hurt.stop().await;
}

/// Spoils some of a segment's bytes.
type Damage = fn(&mut [u8]);

/// A byte of the first batch's records.
fn flip_record(bytes: &mut [u8]) {
    bytes[100] ^= 1;
}

/// The first batch's length, which then reaches beyond the end.
fn lengthen_batch(bytes: &mut [u8]) {
    bytes[3] ^= 0x40;
}

/// The first batch's length, which then ends within it.
fn shorten_batch(bytes: &mut [u8]) {
    bytes[1] = 0;
}

/// A hole where the first batch begins.
fn blank(bytes: &mut [u8]) {
    bytes[..64].fill(0);
}

/// A byte of the last batch's records, which nobody can tell from one that was never whole.
fn flip_last(bytes: &mut [u8]) {
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
}

/// A batch that the disk spoilt: the others are drained, the file is kept for a person to look at.
#[rstest]
#[case::record(flip_record)]
#[case::longer(lengthen_batch)]
#[case::shorter(shorten_batch)]
#[case::hole(blank)]
#[case::last(flip_last)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spoilt_batch_takes_no_other_with_it_and_is_kept(#[case] damage: Damage) {
    let (mut hurt, spool) = (Hurt::in_memory().await, scratch_on_disk("spool"));
    let (app, tenant) = start(&hurt, &spool).await;
    hurt.kill();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let reply = tenant.app.ask("question 1").await.expect(200);
        ids.push(reply.header("x-audit-id").unwrap().to_owned());
    }
    app.stop().await;
    let segment = segments(&spool).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    damage(&mut bytes);
    fs::write(&segment, bytes).unwrap();
    hurt.bring_back().await;
    let again = builder(&hurt, &spool).start().await;
    emptied(&spool).await;
    println!("5 batches, 1 spoilt, {} records", hurt.records(&ids).await);
    assert_eq!(hurt.records(&ids).await, 4);
    assert!(segment.with_extension("damaged").exists());
    let metrics = again.client.get("/api/metrics").await.text;
    assert!(metrics.contains("ai_cache_audit_spool_torn_total 1"), "{metrics}");
    again.stop().await;
    hurt.stop().await;
}

/// Looks, as replicas do that start, for folders of dead processes that left nothing, and removes
/// them under their lock.
fn clean(dir: &Path) {
    for folder in fs::read_dir(dir).unwrap().flatten() {
        let (lock, mut options) = (folder.path().join("lock"), File::options());
        let Ok(file) = options.write(true).create(true).open(&lock) else { continue };
        if file.try_lock().is_ok() {
            // A start that comes between makes it anew.
            let _kept = fs::remove_file(&lock).and_then(|()| fs::remove_dir(folder.path()));
        }
    }
}

/// Replicas that share a folder start while others look for what dead ones left: each finds its own
/// place and leaves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_start_in_a_folder_that_others_clean() {
    let (db, spool) = (TestDb::new().await, scratch_on_disk("spool"));
    let over = Arc::new(AtomicBool::new(false));
    let (dir, until) = (spool.clone(), Arc::clone(&over));
    let cleaning = tokio::task::spawn_blocking(move || {
        while !until.load(Ordering::SeqCst) && Arc::strong_count(&until) > 1 {
            clean(&dir);
        }
    });
    for number in 0..rounds(8, 50) {
        // A process that dies before its folder has a name leaves this.
        let left = format!(".00000000-0000-7000-8000-{number:012}");
        fs::create_dir_all(spool.join(left)).unwrap();
        let dir = spool.clone();
        let builder = TestApp::builder().db(&db);
        let builder = builder.spool(|spool| spool.dir = dir);
        builder.start().await.stop().await;
    }
    over.store(true, Ordering::SeqCst);
    cleaning.await.unwrap();
    clean(&spool);
    assert_eq!(fs::read_dir(&spool).unwrap().count(), 0);
}
