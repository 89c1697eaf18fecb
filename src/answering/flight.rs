//! Single flight: a missing answer is fetched once for all callers who ask for it meanwhile. The fetch
//! runs in a task of its own, so that a caller who hangs up takes nothing from the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::coherence::{PROOF, TenantView};
use crate::domain::candidate::{Candidate, LabelPrefixes};
use crate::domain::entry::Place;
use crate::domain::selector::Position;

use super::plan::FlightKind;

/// The question and the kind of a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FlightKey {
    place: Place,
    kind: FlightKind,
}

impl FlightKind {
    /// The kinds of flights whose end serves a caller of this kind as well.
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
    /// The caller started the flight.
    Leader,
    /// The caller joined the flight.
    Follower,
}

/// A watch channel has one writer and many readers, and a reader gets the end also after the flight's
/// task is gone.
type EndReceiver<End> = watch::Receiver<Option<Arc<End>>>;

/// A flight under way.
struct Flight<End> {
    /// The process's position when the flight began: nobody joins once it is overtaken.
    position: Position,
    began: Instant,
    /// The labels that the answer is stored with. A caller who joins may have asked with other tags.
    labels: LabelPrefixes,
    end: EndReceiver<End>,
}

type FlightList<End> = HashMap<FlightKey, Flight<End>>;

/// The flights under way. `End` is the type of their ends.
pub(super) struct Flights<End> {
    /// The lock is held for a few map operations, never across an await; only misses take it.
    under_way: Arc<Mutex<FlightList<End>>>,
}

impl<End> Default for Flights<End> {
    fn default() -> Self {
        Self { under_way: Arc::default() }
    }
}

impl<End> Flights<End> {
    /// Joins the flight of a question, or begins one: `start` must spawn a task that runs it. Returns
    /// `None` when the flight's task ended early.
    pub(super) async fn join(
        &self,
        kind: FlightKind,
        candidate: Candidate<'_>,
        view: &TenantView,
        position: Position,
        start: impl FnOnce(NewFlight<End>),
    ) -> Option<(Seat, Arc<End>)> {
        let key = FlightKey { place: *candidate.place, kind };
        // Without a proof, an invalidation that this process has not heard of may have overtaken the
        // flight. A proof lasts for `PROOF`, so a younger flight can be joined without one.
        let admitted = |flight: &Flight<End>| {
            (view.is_proven() || flight.began.elapsed() < PROOF)
                && view.admits(&Candidate { labels: &flight.labels, ..candidate }, flight.position)
        };
        let (seat, mut end) = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            let joined = kind.joins().iter().find_map(|kind| {
                under_way.get(&FlightKey { kind: *kind, ..key }).filter(|flight| admitted(flight))
            });
            if let Some(flight) = joined {
                (Seat::Follower, flight.end.clone())
            } else {
                let (sender, end) = watch::channel(None);
                let (labels, began) = (candidate.labels.clone(), Instant::now());
                under_way.insert(key, Flight { position, began, labels, end: end.clone() });
                let under_way = Arc::clone(&self.under_way);
                start(NewFlight { listed: Listing { under_way, key, end: end.clone() }, sender });
                (Seat::Leader, end)
            }
        };
        let ended = end.wait_for(Option::is_some).await.ok()?;
        ended.as_ref().map(|end| (seat, Arc::clone(end)))
    }
}

/// A flight that was begun and is not running yet.
pub(super) struct NewFlight<End> {
    listed: Listing<End>,
    sender: watch::Sender<Option<Arc<End>>>,
}

impl<End> NewFlight<End> {
    /// Runs the flight, and hands its end to every caller that waits.
    pub(super) async fn run(self, work: impl Future<Output = End>) {
        let end = work.await;
        drop(self.listed);
        self.sender.send_replace(Some(Arc::new(end)));
    }
}

/// Keeps the flight on the list. Dropping it takes the flight off the list, unless another flight took
/// its place there.
struct Listing<End> {
    under_way: Arc<Mutex<FlightList<End>>>,
    key: FlightKey,
    end: EndReceiver<End>,
}

impl<End> Drop for Listing<End> {
    fn drop(&mut self) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way.get(&self.key).is_some_and(|flight| flight.end.same_channel(&self.end)) {
            under_way.remove(&self.key);
        }
    }
}
