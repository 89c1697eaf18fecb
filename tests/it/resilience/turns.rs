//! Turns (issue 4): transactions that share a tenant's lock do not starve an invalidation, and one
//! replica counts the entries of all.

use std::sync::Arc;
use std::time::Duration;

use ai_cache::administration::Evicted;
use ai_cache::domain::cache_key::CacheKey;
use ai_cache::domain::clock::{Clock, SystemClock};
use ai_cache::domain::ids::{Ids, SystemIds, TenantId};
use ai_cache::domain::selector::Generation;
use ai_cache::store::evictions::{Bounds, Sample, delete_idle, delete_unusable};
use ai_cache::store::uses::{self, UseBatch};
use ai_cache::store::{Ending, Store, StoreError, UseTx, WriteTx, invalidations};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::support::{TestApp, TestDb, wait_until};

/// The transactions that take the tenant's lock in common with others of their kind.
#[derive(Debug, Clone, Copy)]
enum Sharer {
    Fill,
    Unusable,
    Idle,
    Uses,
}

impl Sharer {
    /// Begins its transaction and takes the lock, which it holds until the set is dropped.
    async fn begin(self, store: &Store, tenant: TenantId) -> JoinSet<()> {
        let taken = Arc::new(Notify::new());
        let (store, ready) = (store.within(Duration::from_mins(1)), Arc::clone(&taken));
        let mut held = JoinSet::new();
        held.spawn(async move {
            let ended = if let Self::Uses = self {
                store.count_uses(tenant, async |mut tx| hold_uses(&mut tx, &ready).await).await
            } else {
                let hold = async |mut tx: WriteTx| self.hold(&mut tx, &ready).await;
                store.change("hold a lock in a test", tenant, hold).await
            };
            ended.unwrap();
        });
        taken.notified().await;
        held
    }

    async fn hold(self, tx: &mut WriteTx, taken: &Notify) -> Result<Ending<()>, StoreError> {
        let now = SystemClock.now();
        match self {
            Self::Unusable => {
                let bounds = Bounds { expired: now, generation: Generation(0), now };
                delete_unusable(tx, bounds, 0).await?;
            }
            Self::Idle => {
                let sample = Sample { from: CacheKey([0; 32]), size: 0, share: 0.0 };
                delete_idle(tx, sample, 0, now).await?;
            }
            Self::Fill | Self::Uses => {
                invalidations::lock_for_fill(tx).await?;
            }
        }
        taken.notify_one();
        std::future::pending::<()>().await;
        Ok(Ending::RollBack(()))
    }
}

async fn hold_uses(tx: &mut UseTx, taken: &Notify) -> Result<(), StoreError> {
    let now = SystemClock.now();
    let batch = UseBatch { writer: SystemIds.next(now), number: 1, at: now };
    uses::add(tx, batch, &[]).await?;
    taken.notify_one();
    std::future::pending().await
}

/// Returns whether this many transactions wait for a lock.
async fn are_waiting(db: &TestDb, many: i64) -> Option<()> {
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    (db.count(waiting).await == many).then_some(())
}

/// There is always one at it, and one more begins before it ends; the invalidation waits for those that
/// began before it alone.
#[rstest]
#[case::fills(Sharer::Fill, json!({ "invalidateAll": true }))]
#[case::fills(Sharer::Fill, json!({ "operation": "chat" }))]
#[case::evictions(Sharer::Unusable, json!({ "invalidateAll": true }))]
#[case::evictions(Sharer::Idle, json!({ "invalidateAll": true }))]
#[case::use_counts(Sharer::Uses, json!({ "invalidateAll": true }))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_overlaps_without_end_does_not_starve_an_invalidation(
    #[case] sharer: Sharer,
    #[case] what: Value,
) {
    const MOST: usize = 20;
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let store = app.rooms().store().clone();
    let begin = || sharer.begin(&store, tenant.id);
    // They do not wait for each other.
    let first = begin().await;
    let mut held = begin().await;
    drop(first);
    let overlapping = async {
        wait_until("the invalidation waits", || are_waiting(&app.db, 1)).await;
        let mut before = 0;
        while before < MOST {
            let next = begin();
            tokio::pin!(next);
            tokio::select! {
                next = &mut next => {
                    held = next;
                    before += 1;
                }
                () = wait_until("the next waits too", || are_waiting(&app.db, 2)) => {
                    drop(held);
                    next.await;
                    return before;
                }
            }
        }
        drop(held);
        before
    };
    let invalidating = tenant.admin.post("/api/ai-cache/invalidate", &what);
    let (reply, before) = tokio::join!(invalidating, overlapping);
    println!("{sharer:?}, {what}: {before} began after the invalidation and came before it");
    reply.expect(200);
    assert_eq!(before, 0);
    app.stop().await;
}

/// A fill that waited is told the generation that the invalidation it waited for began, though its
/// statement was sent before: it would store what is gone otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_that_waited_for_an_invalidation_knows_of_it() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let store = app.rooms().store().clone();
    let held = Sharer::Fill.begin(&store, tenant.id).await;
    let what = json!({ "invalidateAll": true });
    let waiting = async {
        wait_until("the invalidation waits", || are_waiting(&app.db, 1)).await;
        let release = async {
            wait_until("the fill waits for it", || are_waiting(&app.db, 2)).await;
            drop(held);
        };
        let filling = store.change("begin a fill in a test", tenant.id, async |mut tx| {
            let generation = invalidations::lock_for_fill(&mut tx).await?;
            Ok::<_, StoreError>(Ending::RollBack(generation))
        });
        tokio::join!(filling, release).0.unwrap()
    };
    let invalidating = tenant.admin.post("/api/ai-cache/invalidate", &what);
    let (reply, generation) = tokio::join!(invalidating, waiting);
    reply.expect(200);
    println!("the fill waited from generation 0 to {}", generation.0);
    assert_eq!(generation, Generation(1));
    app.stop().await;
}

/// One of many replicas counts at a time, and the next eldest one after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_counts_entries_for_all_and_another_takes_over() {
    let first = TestApp::start().await;
    let mut apps = vec![TestApp::builder().db(&first.db).start().await];
    apps.push(TestApp::builder().db(&first.db).start().await);
    apps.insert(0, first);
    let mut turns = Vec::new();
    while !apps.is_empty() {
        wait_until("the eldest of those that are left counts", || async {
            apps[0].rooms().administration.evict_if_eldest().await.unwrap()
        })
        .await;
        let mut of_all = Vec::new();
        for app in &apps {
            of_all.push(app.rooms().administration.evict_if_eldest().await.unwrap());
        }
        assert_eq!(of_all[0], Some(Evicted::default()));
        turns.push(of_all.into_iter().flatten().count());
        apps.remove(0).stop().await;
    }
    println!("3, 2 and 1 replicas: {turns:?} of them counted");
    assert_eq!(turns, [1, 1, 1]);
}
