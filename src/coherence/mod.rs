//! What this process knows of invalidations: follows the stream by position and says whether a
//! value proven at some position may still be served. Whoever must react subscribes in `app`.

mod view;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::domain::ids::TenantId;
use crate::domain::selector::{Change, Position, Step};
use crate::lifecycle::Lifecycle;
use crate::store::{Store, StoreError, invalidations, replicas, tenants};

pub use view::TenantView;

/// How often the stream is polled.
const POLL: Duration = Duration::from_millis(500);

/// Steps read at a time.
const PAGE: i64 = 500;

/// Called for each step, in order, after the views know it.
pub type Subscriber = Box<dyn Fn(&Step) + Send + Sync>;

/// Follows the stream for one process.
pub struct Coherence {
    store: Store,
    replica: Uuid,
    started_at: DateTime<Utc>,
    applied: AtomicI64,
    /// Replaced whole when a tenant is first seen, which is rare; reading it never waits.
    views: ArcSwap<HashMap<TenantId, Arc<TenantView>>>,
    subscribers: Vec<Subscriber>,
    /// One catch-up at a time, so that steps are applied in order; held across the reading.
    following: Mutex<()>,
}

impl Coherence {
    /// Begins at the stream's present end.
    pub async fn start(
        store: Store,
        replica: Uuid,
        started_at: DateTime<Utc>,
        subscribers: Vec<Subscriber>,
    ) -> Result<Self, StoreError> {
        let tail = store
            .bounded(async {
                let mut tx = store.system("find the end of the invalidation stream").await?;
                let tail = invalidations::get_tail(&mut tx).await?;
                replicas::upsert(&mut tx, replica, started_at, tail).await?;
                tx.end().await?;
                Ok::<_, StoreError>(tail)
            })
            .await?;
        Ok(Self {
            store,
            replica,
            started_at,
            applied: AtomicI64::new(tail.0),
            views: ArcSwap::default(),
            subscribers,
            following: Mutex::new(()),
        })
    }

    /// Polls until `lifecycle` stops.
    pub async fn follow(self: Arc<Self>, lifecycle: Lifecycle) {
        loop {
            tokio::select! {
                () = lifecycle.stopping() => break,
                () = tokio::time::sleep(POLL) => {}
            }
            if let Err(error) = self.catch_up().await {
                tracing::warn!(%error, "the invalidation stream cannot be read");
            }
        }
        let leave = self.store.bounded(async {
            let mut tx = self.store.system("a replica leaves").await?;
            replicas::delete(&mut tx, self.replica).await?;
            tx.end().await
        });
        if let Err(error) = leave.await {
            tracing::warn!(%error, "the replica could not be signed off");
        }
    }

    /// Applies everything that is in the stream now.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.following.lock().await;
        loop {
            let applied = self.position();
            let steps = self
                .store
                .bounded(async {
                    let mut tx = self.store.system("follow the invalidation stream").await?;
                    let steps = invalidations::list_after(&mut tx, applied, PAGE).await?;
                    replicas::upsert(&mut tx, self.replica, self.started_at, applied).await?;
                    tx.end().await?;
                    Ok::<_, StoreError>(steps)
                })
                .await?;
            let last_page = steps.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
            for step in &steps {
                self.apply(step).await?;
            }
            if last_page {
                return Ok(());
            }
        }
    }

    async fn apply(&self, step: &Step) -> Result<(), StoreError> {
        let view = self.views.load().get(&step.tenant).map(Arc::clone);
        match (view, &step.change) {
            (Some(view), Change::Entries(selector)) => view.apply(step.position, selector),
            (Some(view), Change::Tenant) => {
                if let Some(row) = self.read_tenant(step.tenant).await? {
                    view.set_active(row.active);
                }
            }
            (_, Change::Token(_)) | (None, _) => {}
        }
        self.applied.store(step.position.0, Ordering::Release);
        for subscriber in &self.subscribers {
            subscriber(step);
        }
        Ok(())
    }

    async fn read_tenant(&self, id: TenantId) -> Result<Option<tenants::TenantRow>, StoreError> {
        self.store
            .bounded(async {
                let mut tx = self.store.system("read a tenant's state").await?;
                let row = tenants::find(&mut tx, id).await?;
                tx.end().await?;
                Ok(row)
            })
            .await
    }

    /// How far this process has followed the stream.
    pub fn position(&self) -> Position {
        Position(self.applied.load(Ordering::Acquire))
    }

    /// What this process knows of a tenant; `None` when there is no such tenant.
    pub async fn view(&self, id: TenantId) -> Result<Option<Arc<TenantView>>, StoreError> {
        if let Some(view) = self.views.load().get(&id) {
            return Ok(Some(Arc::clone(view)));
        }
        // Not while steps are applied: the row read and the position must belong together.
        let _no_steps_meanwhile = self.following.lock().await;
        if let Some(view) = self.views.load().get(&id) {
            return Ok(Some(Arc::clone(view)));
        }
        let Some(row) = self.read_tenant(id).await? else {
            return Ok(None);
        };
        // Read after the position was applied, so it may know more than that, never less.
        let view = Arc::new(TenantView::new(row, self.position()));
        self.views.rcu(|views| {
            let mut views = HashMap::clone(views);
            views.insert(id, Arc::clone(&view));
            views
        });
        Ok(Some(view))
    }
}
