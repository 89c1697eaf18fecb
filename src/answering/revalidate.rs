//! Revalidation: a stale answer is fetched anew behind the replies, once for all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use crate::call::Call;
use crate::domain::clock::Clock;
use crate::domain::entry::Place;
use crate::tiers::Wanted;

use super::Answering;
use super::fetch::FlightEnd;
use super::fill::FetchJob;
use super::lookup::Lookup;
use super::plan::FlightKind;

/// The pause after a revalidation that brought nothing to store, so that not each of the stale replies
/// meanwhile costs another call.
const PAUSE: TimeDelta = TimeDelta::seconds(5);

/// The most questions that are kept track of. Further ones wait until some of these are done.
const MOST: usize = 16_384;

/// The questions that are revalidated now, or were revalidated in vain a moment ago.
pub(super) struct Revalidations {
    clock: Arc<dyn Clock>,
    /// The time before which each is left alone; `MAX_UTC` while it is revalidated. The lock is held
    /// for a few map operations, never across an await; only stale replies take it.
    not_before: Mutex<HashMap<Place, DateTime<Utc>>>,
}

/// The permission to revalidate one answer. Dropping it ends the revalidation and begins the pause.
struct Permit {
    all: Arc<Revalidations>,
    place: Place,
    /// The pause in which nobody gets a permission after this one.
    pause: TimeDelta,
}

/// What a stale reply finds when it asks for a permission.
enum Asked {
    /// The reply is the first to ask, and has the permission.
    Begun(Permit),
    /// The answer is being revalidated.
    UnderWay,
    /// A revalidation was in vain a moment ago.
    Paused,
}

impl Revalidations {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, not_before: Mutex::default() })
    }

    fn ask(self: &Arc<Self>, place: Place) -> Asked {
        let now = self.clock.now();
        let mut not_before = self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        match not_before.get(&place) {
            Some(time) if *time == DateTime::<Utc>::MAX_UTC => return Asked::UnderWay,
            Some(time) if now < *time => return Asked::Paused,
            _ => {}
        }
        if not_before.len() >= MOST {
            not_before.retain(|_, time| now < *time);
            if not_before.len() >= MOST {
                return Asked::Paused;
            }
        }
        not_before.insert(place, DateTime::<Utc>::MAX_UTC);
        Asked::Begun(Permit { all: Arc::clone(self), place, pause: PAUSE })
    }
}

impl Permit {
    fn succeed(mut self) {
        self.pause = TimeDelta::zero();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let next = self.all.clock.now() + self.pause;
        let mut not_before = self.all.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        if self.pause.is_zero() {
            not_before.remove(&self.place);
        } else {
            not_before.insert(self.place, next);
        }
    }
}

impl Answering {
    /// Has a stale answer fetched anew, unless that is under way already. Returns whether a new answer
    /// is on its way. Never waits.
    pub(super) fn revalidate(&self, call: &Call, lookup: &Lookup) -> bool {
        // An answer that cannot be stored would be paid for and thrown away.
        if self.parts.upstream.limit().is_zero() || !self.parts.audit.takes_postgres() {
            return false;
        }
        let permit = match self.revalidations.ask(lookup.wanted.place) {
            Asked::Begun(permit) => permit,
            Asked::UnderWay => return true,
            Asked::Paused => return false,
        };
        let wanted = Wanted { stale_for: TimeDelta::zero(), ..lookup.wanted };
        let job = FetchJob::of(call, &Lookup { wanted, ..lookup.clone() });
        let (fetcher, view) = (Arc::clone(&self.fetcher), Arc::clone(&call.view));
        // The task ends with the flight, which the limits of the upstream and of a fill bound.
        self.parts.lifecycle.spawn(async move {
            let joined = fetcher.join(job, FlightKind::Revalidate, &view).await;
            let is_fresh = joined.is_some_and(|(_, end)| match &*end {
                FlightEnd::Found(_) => true,
                FlightEnd::Fetched(fetched) => fetched.expires_at.is_some(),
                FlightEnd::Failed { .. } | FlightEnd::Unrecordable(_) | FlightEnd::Withheld(_) => {
                    false
                }
            });
            if is_fresh {
                permit.succeed();
            }
        });
        true
    }
}
