//! Fetching a missing answer: a flight looks in the lower tiers, then, in turn with other replicas,
//! asks the upstream and stores the answer. It runs in a task of its own and knows no caller.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::audit::AuditError;
use crate::coherence::TenantView;
use crate::domain::prompt::Prompt;
use crate::telemetry::UpstreamOutcome;
use crate::tiers::{Found, Wanted};
use crate::upstream::{Answer, UpstreamError};

use super::AnsweringParts;
use super::answered::QueryError;
use super::fill::{self, FetchJob, Fetched, Withheld};
use super::flight::{Flights, Seat};
use super::lease::{self, Turn};
use super::lookup::Lookup;
use super::plan::FlightKind;

/// How a flight ended. It is shared by all callers who wait for the flight.
pub(super) enum FlightEnd {
    /// The answer was in a lower tier.
    Found(Found),
    /// The upstream answered.
    Fetched(Fetched),
    /// The upstream did not answer.
    Failed {
        error: UpstreamError,
        /// What may be served instead, to callers who accept its age.
        stale: Option<Found>,
    },
    /// The upstream was not asked, because no records can be made.
    Unrecordable(AuditError),
    /// The upstream answered about a person of whom nothing is told any more.
    Withheld(Withheld),
}

/// Why the upstream gave no answer.
pub(super) enum AskError {
    /// The upstream was not asked, because no records can be made: nobody pays for an answer that
    /// could not be handed out.
    Unrecordable(AuditError),
    /// The upstream failed.
    Upstream(UpstreamError),
}

impl From<AskError> for QueryError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Unrecordable(error) => error.into(),
            AskError::Upstream(error) => error.into(),
        }
    }
}

/// Fetches missing answers, each once for all callers in this process who ask for it meanwhile.
pub(super) struct Fetcher {
    parts: Arc<AnsweringParts>,
    flights: Flights<FlightEnd>,
}

impl Fetcher {
    pub(super) fn new(parts: Arc<AnsweringParts>) -> Arc<Self> {
        Arc::new(Self { parts, flights: Flights::default() })
    }

    /// Waits for the flight of a job: one that is under way, or a new one. Returns `None` when the
    /// flight's task ended early.
    pub(super) async fn join(
        self: &Arc<Self>,
        job: FetchJob,
        kind: FlightKind,
        view: &Arc<TenantView>,
    ) -> Option<(Seat, Arc<FlightEnd>)> {
        let (lookup, labels) = (job.lookup.clone(), job.indexes.prefixes());
        let candidate = lookup.candidate(&labels);
        let joined = self.flights.join(kind, candidate, view, lookup.position, |flight| {
            let (fetcher, view) = (Arc::clone(self), Arc::clone(view));
            self.parts
                .lifecycle
                .spawn(flight.run(async move { fetcher.fetch(job, kind, &view).await }));
        });
        joined.await
    }

    async fn fetch(&self, job: FetchJob, kind: FlightKind, view: &TenantView) -> FlightEnd {
        let lookup = &job.lookup;
        if let Some(found) = self.find_below(lookup, kind, view).await {
            return FlightEnd::Found(found);
        }
        let lease = match lease::take_turn(&self.parts, lookup, kind, view).await {
            Turn::Fetch(lease) => lease,
            Turn::Found(found) => return FlightEnd::Found(found),
        };
        let asked = self.ask(lookup).await;
        let stored = match asked {
            Ok(answer) => Ok(fill::store(&self.parts, &job, answer).await),
            Err(error) => Err(error),
        };
        // Other replicas go on now: the answer is stored, or there is none.
        drop(lease);
        match stored {
            Ok(Ok(fetched)) => FlightEnd::Fetched(fetched),
            Ok(Err(withheld)) => FlightEnd::Withheld(withheld),
            Err(AskError::Unrecordable(error)) => FlightEnd::Unrecordable(error),
            Err(AskError::Upstream(error)) => {
                let stale = match error {
                    UpstreamError::NotConfigured => None,
                    _ => self.find_stale(lookup, view).await,
                };
                FlightEnd::Failed { error, stale }
            }
        }
    }

    async fn find_below(
        &self,
        lookup: &Lookup,
        kind: FlightKind,
        view: &TenantView,
    ) -> Option<Found> {
        let (stack, search) = (&self.parts.stack, lookup.search(view));
        match kind {
            FlightKind::LookUp | FlightKind::Revalidate => stack.find_below(search).await,
            FlightKind::LookUpCold => stack.find_cold(search).await,
            FlightKind::Refresh | FlightKind::Alone => None,
        }
    }

    /// The answer that may be served although its time is over, now that the upstream failed. Each
    /// caller decides whether its age is acceptable.
    async fn find_stale(&self, lookup: &Lookup, view: &TenantView) -> Option<Found> {
        let stale_for = self.parts.stale.if_error;
        if stale_for.is_zero() {
            return None;
        }
        let (now, made_since) = (self.parts.clock.now(), DateTime::<Utc>::MIN_UTC);
        let wanted = Wanted { now, made_since, stale_for, ..lookup.wanted };
        let position = self.parts.coherence.position();
        let lookup = Lookup { wanted, position, ..lookup.clone() };
        let stack = &self.parts.stack;
        match stack.find_hot(&lookup.wanted, view) {
            Some(found) => Some(found),
            None => stack.find_below(lookup.search(view)).await,
        }
    }

    /// Asks the upstream, and counts the call.
    pub(super) async fn ask(&self, lookup: &Lookup) -> Result<Answer, AskError> {
        if !self.parts.audit.is_available() {
            return Err(AskError::Unrecordable(AuditError::Unavailable));
        }
        let Lookup { request, model, wanted, .. } = lookup;
        let answer = self.parts.upstream.complete(&Prompt::of(request, model)).await;
        if !matches!(answer, Err(UpstreamError::NotConfigured)) {
            let stats = self.parts.calls.stats.tenant(wanted.place.tenant);
            stats.operation(request.operation).upstream_call();
            self.parts.metrics.upstream_call(match &answer {
                Ok(_) => UpstreamOutcome::Ok,
                Err(UpstreamError::TimedOut) => UpstreamOutcome::Timeout,
                Err(_) => UpstreamOutcome::Error,
            });
        }
        answer.map_err(AskError::Upstream)
    }
}
