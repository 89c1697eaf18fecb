//! Frees the memory of invalidated answers. One task walks through the hot tier once for all steps
//! that came meanwhile. Answers that the walk has not reached yet are not admitted anyway.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::coherence::{Coherence, Event};
use crate::domain::selector::{Change, Position, Selector, Step};
use crate::lifecycle::Lifecycle;
use crate::telemetry::Metrics;

use super::Hot;

/// The pause between two walks, so that a stream of invalidations does not keep a core walking.
const PAUSE: Duration = Duration::from_millis(500);

/// The sweeper of a hot tier. It holds no steps, because the views of the tenants know them.
pub struct Sweeper {
    hot: Arc<Hot>,
    metrics: Arc<Metrics>,
    /// The wish for a walk. Many wishes make one walk.
    wanted: Notify,
    /// The position up to which removed answers are not looked for again.
    walked_to: AtomicI64,
}

impl Sweeper {
    /// Makes the sweeper of this hot tier.
    pub const fn new(hot: Arc<Hot>, metrics: Arc<Metrics>) -> Self {
        Self { hot, metrics, wanted: Notify::const_new(), walked_to: AtomicI64::new(0) }
    }

    /// Hears of a step after the views know it. It never walks itself, so that the follower of the
    /// stream does not wait.
    pub fn hear(&self, event: Event<'_>) {
        match event {
            Event::Step(Step { tenant, change: Change::Entries(selector), .. }) => match selector {
                Selector::Entry { key: Some(key), .. } => self.hot.remove(*tenant, key),
                Selector::Entry { key: None, .. } => {}
                Selector::Before(_) | Selector::Group(_) => self.wanted.notify_one(),
            },
            Event::Step(_) | Event::Tenant(_) => {}
            Event::Lost => {
                // Positions may count in another history now.
                self.walked_to.store(0, Ordering::Release);
                self.hot.clear();
            }
        }
    }

    /// Walks whenever a walk is wished for, until `lifecycle` stops.
    pub async fn run(self: Arc<Self>, coherence: Arc<Coherence>, lifecycle: Lifecycle) {
        loop {
            tokio::select! {
                () = lifecycle.stopping() => return,
                () = self.wanted.notified() => {}
            }
            let (sweeper, coherence) = (Arc::clone(&self), Arc::clone(&coherence));
            let walk = lifecycle.spawn_blocking(move || sweeper.walk(&coherence));
            if walk.await.is_err() {
                tracing::error!("a walk through the hot tier ended early");
            }
            tokio::select! {
                () = lifecycle.stopping() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    fn walk(&self, coherence: &Coherence) {
        // The order matters: every step up to the position is in the views by now.
        let from = self.walked_to.load(Ordering::Acquire);
        let to = coherence.position();
        let views = coherence.views();
        self.hot.retain(|stored| {
            views.get(&stored.place.tenant).is_none_or(|view| {
                !view.has_removed(&stored.candidate(), stored.position, Position(from))
            })
        });
        // The position stays 0 if another history began meanwhile.
        let _begun =
            self.walked_to.compare_exchange(from, to.0, Ordering::AcqRel, Ordering::Acquire);
        self.metrics.hot_sweep();
    }
}
