//! Single flight: however many ask for one missing answer, it is fetched once. The fetching runs in
//! a task of its own, so that a caller who hangs up takes nothing from the others.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::coherence::{PROOF, TenantView};
use crate::domain::candidate::{Candidate, LabelPrefixes};
use crate::domain::entry::Place;
use crate::domain::selector::Position;
use crate::lifecycle::Lifecycle;

use super::question::Landing;

/// What a flight is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FlightKey {
    place: Place,
    kind: FlightKind,
}

/// Where a flight looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum FlightKind {
    /// In the lower tiers first.
    LookUp,
    /// In Postgres first: what Redis held was not good.
    LookUpCold,
    /// In the lower tiers first, for an answer that is not stale.
    Revalidate,
    /// At the upstream, or what another replica fetches meanwhile.
    Refresh,
    /// At the upstream at once: what another replica fetched was not good.
    Alone,
}

impl FlightKind {
    /// The flights whose answer serves as well.
    const fn joins(self) -> &'static [Self] {
        match self {
            Self::LookUp => &[Self::LookUp, Self::Revalidate],
            Self::LookUpCold => &[Self::LookUpCold],
            Self::Revalidate => &[Self::Revalidate],
            Self::Refresh => &[Self::Refresh],
            Self::Alone => &[Self::Alone],
        }
    }
}

/// Whether a caller started the flight it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
    /// It did.
    Leader,
    /// It joined.
    Follower,
}

type Result = watch::Receiver<Option<Arc<Landing>>>;

struct Flight {
    /// The process's position when it began: nobody joins once it is overtaken.
    position: Position,
    began: Instant,
    /// Those it stores its answer with. Who joins may have asked with other tags.
    labels: LabelPrefixes,
    result: Result,
}

/// The flights under way.
#[derive(Clone, Default)]
pub(super) struct Flights {
    /// Held for a few map operations, never across an await; only misses come here.
    running: Arc<Mutex<HashMap<FlightKey, Flight>>>,
}

impl Flights {
    /// Joins the flight for a question, or starts one at `position`. `None`: the flight was lost.
    pub(super) async fn board<F>(
        &self,
        (kind, candidate): (FlightKind, Candidate<'_>),
        (view, position): (&TenantView, Position),
        lifecycle: &Lifecycle,
        fly: impl FnOnce() -> F,
    ) -> Option<(Seat, Arc<Landing>)>
    where
        F: Future<Output = Landing> + Send + 'static,
    {
        let key = FlightKey { place: *candidate.place, kind };
        // Without proof, an invalidation that nobody told of may have overtaken it; so may one that
        // is told of within that time.
        let admitted = |flight: &Flight| {
            (view.is_proven() || flight.began.elapsed() < PROOF)
                && view.admits(&Candidate { labels: &flight.labels, ..candidate }, flight.position)
        };
        let (seat, mut result) = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let joined = kind.joins().iter().find_map(|kind| {
                running.get(&FlightKey { kind: *kind, ..key }).filter(|flight| admitted(flight))
            });
            if let Some(flight) = joined {
                (Seat::Follower, flight.result.clone())
            } else {
                // One writer, many readers; readers hold the last value after it ended.
                let (sender, result) = watch::channel(None);
                let (labels, began) = (candidate.labels.clone(), Instant::now());
                running.insert(key, Flight { position, began, labels, result: result.clone() });
                let ticket = Ticket { flights: self.clone(), key, result: result.clone() };
                let flight = fly();
                lifecycle.spawn(async move {
                    let landing = flight.await;
                    drop(ticket);
                    sender.send_replace(Some(Arc::new(landing)));
                });
                (Seat::Leader, result)
            }
        };
        let landed = result.wait_for(Option::is_some).await.ok()?;
        landed.as_ref().map(|landing| (seat, Arc::clone(landing)))
    }
}

/// Takes the flight off the list when it ends, however it ends, unless another took its place.
struct Ticket {
    flights: Flights,
    key: FlightKey,
    result: Result,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut running = self.flights.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.get(&self.key).is_some_and(|flight| flight.result.same_channel(&self.result)) {
            running.remove(&self.key);
        }
    }
}
