//! Owns the knowledge of invalidations in this process. It follows the stream by position, proves
//! that it missed no step, and says whether a value that was proven at some position may still be
//! served. Parts that must react subscribe in `app`.

mod floor;
mod following;
mod proof;
mod propagation;
mod view;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, Notify};

use crate::domain::ids::TenantId;
use crate::domain::selector::{Change, Position, Step};
use crate::store::follow::{FollowConnection, Follower};
use crate::store::tenants::TenantRow;
use crate::store::{Store, StoreError};

pub use floor::FloorPlace;
pub use proof::PROOF;
pub use propagation::PropagationError;
pub use view::TenantView;

use following::Following;
use proof::Proof;

/// The time for which a replica counts on its lease, from the sending of the renewal on.
const OWN_LEASE: Duration = Duration::from_secs(3);

/// The time for which the others wait for a replica: a little longer, since clocks differ in speed.
pub const LEASE: Duration = Duration::from_millis(3_500);

/// An event that subscribers hear, in order. Steps and losses are told after the views know them.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A step was applied.
    Step(&'a Step),
    /// A tenant was first seen here, was changed by an operator, or was read anew.
    Tenant(&'a TenantRow),
    /// Steps were missed, or Postgres has another history. Nothing known so far is certain.
    Lost,
}

/// The function that a subscriber gives, called for each event.
pub type Subscriber = Box<dyn Fn(Event<'_>) + Send + Sync>;

/// Follows the stream of invalidations for one process.
pub struct Coherence {
    store: Store,
    follower: Follower,
    proof: Arc<Proof>,
    live_replicas: AtomicU32,
    is_eldest: AtomicBool,
    /// The map is replaced whole when a tenant is first seen, which is rare. Reading it never
    /// waits.
    views: ArcSwap<HashMap<TenantId, Arc<TenantView>>>,
    subscribers: Vec<Subscriber>,
    /// The lock lets one catch-up run at a time, so that steps are applied in order. It is held
    /// across the reading.
    following: Mutex<Following>,
    floor: FloorPlace,
    /// Wakes the task that follows the stream, when a step was heard of or made here.
    woken: Notify,
}

impl Coherence {
    /// Makes a `Coherence` that knows nothing and proves nothing until it first catches up.
    pub fn new(
        store: Store,
        follower: Follower,
        floor: FloorPlace,
        subscribers: Vec<Subscriber>,
    ) -> Self {
        Self {
            following: Mutex::new(Following::new(store.clone(), floor.clone())),
            store,
            follower,
            proof: Arc::new(Proof::new()),
            live_replicas: AtomicU32::new(1),
            is_eldest: AtomicBool::new(false),
            views: ArcSwap::default(),
            subscribers,
            floor,
            woken: Notify::new(),
        }
    }

    /// Returns whether this process knows that it missed nothing.
    pub fn is_proven(&self) -> bool {
        self.proof.holds()
    }

    /// Returns for how long this process has not known that it missed nothing. Returns `None` while
    /// it knows.
    pub fn unproven_for(&self) -> Option<Duration> {
        self.proof.unproven_for()
    }

    /// Returns how far this process has followed the stream.
    pub fn position(&self) -> Position {
        self.proof.position()
    }

    /// Returns the history in which positions count, as a number. A value that was proven in
    /// another history is worth nothing.
    pub fn era(&self) -> u64 {
        self.proof.era()
    }

    /// Returns how many replicas serve, this one among them.
    pub fn live_replicas(&self) -> u32 {
        self.live_replicas.load(Ordering::Relaxed)
    }

    /// Returns whether this replica does the work that one replica does for all: it is the eldest
    /// of the replicas that serve. For a moment there may be no eldest, or two.
    pub fn is_eldest(&self) -> bool {
        self.is_eldest.load(Ordering::Relaxed)
    }

    async fn apply(
        &self,
        connection: &mut FollowConnection,
        step: &Step,
    ) -> Result<(), StoreError> {
        let view = self.views.load().get(&step.tenant).map(Arc::clone);
        match (view, &step.change) {
            (Some(view), Change::Entries(selector)) => view.apply(step.position, selector),
            (view, Change::Tenant) => {
                for row in connection.list_tenants(&[step.tenant]).await? {
                    if let Some(view) = &view {
                        view.follow(&row);
                    }
                    self.tell(Event::Tenant(&row));
                }
            }
            (_, Change::Token(_)) | (None, _) => {}
        }
        self.proof.move_to(step.position);
        self.tell(Event::Step(step));
        Ok(())
    }

    /// Begins anew at `position`, because the known invalidations are of another history or lack
    /// some.
    async fn begin_anew(
        &self,
        connection: &mut FollowConnection,
        position: Position,
    ) -> Result<(), StoreError> {
        self.proof.end();
        let views = self.views.load_full();
        let ids: Vec<TenantId> = views.keys().copied().collect();
        let rows = connection.list_tenants(&ids).await?;
        let mut rows: HashMap<_, _> = rows.into_iter().map(|row| (row.id, row)).collect();
        for row in rows.values() {
            self.tell(Event::Tenant(row));
        }
        for (id, view) in views.iter() {
            view.begin_anew(rows.remove(id), position);
        }
        self.proof.move_to(position);
        self.tell(Event::Lost);
        Ok(())
    }

    fn tell(&self, event: Event<'_>) {
        for subscriber in &self.subscribers {
            subscriber(event);
        }
    }

    /// Returns the views of the tenants that this process has seen.
    pub fn views(&self) -> Arc<HashMap<TenantId, Arc<TenantView>>> {
        self.views.load_full()
    }

    /// Returns the view of a tenant. Returns `None` if there is no such tenant.
    pub async fn view(&self, id: TenantId) -> Result<Option<Arc<TenantView>>, StoreError> {
        if let Some(view) = self.views.load().get(&id) {
            return Ok(Some(Arc::clone(view)));
        }
        // No steps are applied while this lock is held: the row and the position must belong
        // together.
        let mut following = self.following.lock().await;
        if let Some(view) = self.views.load().get(&id) {
            return Ok(Some(Arc::clone(view)));
        }
        let mut rows = following.connection.list_tenants(&[id]).await?;
        let Some(row) = rows.pop() else {
            return Ok(None);
        };
        self.tell(Event::Tenant(&row));
        // The row was read after the position was applied, so it may know more than that, never
        // less.
        let view = Arc::new(TenantView::new(row, self.position(), Arc::clone(&self.proof)));
        self.views.rcu(|views| {
            let mut views = HashMap::clone(views);
            views.insert(id, Arc::clone(&view));
            views
        });
        Ok(Some(view))
    }
}
