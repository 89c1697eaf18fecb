//! A question that memory does not answer. The plan says which flight is tried next; each flight
//! looks in the lower tiers and asks the upstream, once for all callers who ask at the same time.

use std::sync::Arc;

use crate::call::{Call, ServiceError};
use crate::domain::audit_record::Outcome;
use crate::domain::candidate::LabelPrefixes;
use crate::domain::directives::Mode;
use crate::domain::entry::Tier;
use crate::domain::ids::EntryId;
use crate::domain::money::Usd;
use crate::domain::query::QueryRequest;
use crate::keyring;
use crate::upstream::UpstreamError;

use super::Answering;
use super::answered::{AnswerSource, Answered, QueryError};
use super::fetch::{AskError, FlightEnd};
use super::fill::{FetchJob, Fetched};
use super::flight::Seat;
use super::lookup::Lookup;
use super::plan::{FlightKind, Plan, Unfit};

/// What a flight brought to one caller.
enum Brought {
    Answer(Box<Answered>),
    /// An answer that is not for this caller, or does not open.
    Unfit(Tier),
}

impl Answering {
    /// Answers a question whose keys are not in memory, or are not to be trusted.
    pub(super) async fn answer_with_loaded_keys(
        &self,
        call: &mut Call,
        request: Arc<QueryRequest>,
    ) -> Result<Answered, QueryError> {
        let mode = request.directives.mode;
        if mode == Mode::Unanswerable {
            return Err(QueryError::NotCached);
        }
        let Some(lookup) = self.loaded_lookup(call, &request).await? else {
            return Err(QueryError::NotCached);
        };
        if mode == Mode::Bypass {
            return self.bypass(call, &lookup).await;
        }
        if mode.reads()
            && let Some(found) = self.parts.stack.find_hot(&lookup.wanted, &call.view)
            && let Some(answered) = self.serve_found(call, &lookup, &found).await?
        {
            return Ok(answered);
        }
        self.answer_miss(call, lookup).await
    }

    /// Answers a question for which memory has nothing.
    pub(super) async fn answer_miss(
        &self,
        call: &mut Call,
        mut lookup: Lookup,
    ) -> Result<Answered, QueryError> {
        let mode = lookup.request.directives.mode;
        if mode == Mode::OnlyIfCached {
            return self.only_if_cached(call, &lookup).await;
        }
        let mut plan = Plan::of(mode);
        loop {
            let tier = match self.try_flight(call, &lookup, plan.kind()).await? {
                Brought::Answer(answered) => return Ok(*answered),
                Brought::Unfit(tier) => tier,
            };
            // The found entry may have other tags than the question, so any label counts.
            let candidate = lookup.candidate(&LabelPrefixes::Unknown);
            let overtaken = !call.view.admits(&candidate, lookup.position);
            if !plan.go_on(Unfit { tier, overtaken }) {
                return Err(ServiceError::TaskLost.into());
            }
            let Lookup { request, key, .. } = lookup;
            lookup = self.lookup(call, &request, key);
        }
    }

    /// Answers from the lower tiers, without a flight: nobody is asked and nothing is made.
    async fn only_if_cached(
        &self,
        call: &mut Call,
        lookup: &Lookup,
    ) -> Result<Answered, QueryError> {
        let (stack, view) = (&self.parts.stack, Arc::clone(&call.view));
        let mut next = stack.find_below(lookup.search(&view)).await;
        while let Some(found) = next {
            if let Some(answered) = self.serve_found(call, lookup, &found).await? {
                return Ok(answered);
            }
            next = match found.tier {
                Tier::Warm => stack.find_cold(lookup.search(&view)).await,
                Tier::Hot | Tier::Cold => None,
            };
        }
        Err(QueryError::NotCached)
    }

    /// Waits for the flight of this question, and serves what the flight brought.
    async fn try_flight(
        &self,
        call: &mut Call,
        lookup: &Lookup,
        kind: FlightKind,
    ) -> Result<Brought, QueryError> {
        let job = FetchJob::of(call, lookup);
        let joined = self.fetcher.join(job, kind, &call.view).await;
        let (seat, end) = joined.ok_or(ServiceError::TaskLost)?;
        let answer = |answered| Brought::Answer(Box::new(answered));
        match &*end {
            FlightEnd::Found(found) => {
                if !is_current(seat, call) || !lookup.wanted.accepts(&found.entry.stored.meta) {
                    return Ok(Brought::Unfit(found.tier));
                }
                let served = self.serve_found(call, lookup, found).await?;
                Ok(served.map_or(Brought::Unfit(found.tier), answer))
            }
            FlightEnd::Fetched(fetched) => {
                self.serve_fetched(call, fetched, seat).await.map(answer)
            }
            FlightEnd::Failed { error: UpstreamError::NotConfigured, .. } => {
                self.nowhere(call).await.map(answer)
            }
            FlightEnd::Failed { error, stale } => {
                let served = match stale.as_ref().filter(|_| is_current(seat, call)) {
                    Some(found) => self.serve_instead(call, lookup, found).await?,
                    None => None,
                };
                served.map(answer).ok_or_else(|| error.clone().into())
            }
            FlightEnd::Unrecordable(error) => Err((*error).into()),
            FlightEnd::Withheld(withheld) => Err((*withheld).into()),
        }
    }

    async fn serve_fetched(
        &self,
        call: &mut Call,
        fetched: &Fetched,
        seat: Seat,
    ) -> Result<Answered, QueryError> {
        let stored = fetched.expires_at.is_some();
        let collapsed = seat == Seat::Follower;
        let cost = if collapsed { Usd::default() } else { fetched.cost };
        let receipt = call
            .settle(|record| {
                record.outcome = if stored { Outcome::Stored } else { Outcome::Miss };
                record.entry = Some(fetched.entry);
                record.count = 1;
                record.status = 200;
                record.cost = cost;
            })
            .await?;
        let tenant = fetched.place.tenant;
        let data = keyring::release(receipt, tenant, fetched.entry, &fetched.answer)?;
        let now = self.parts.clock.now();
        let source = AnswerSource::Upstream { stored, collapsed, bypassed: false };
        Ok(Answered {
            data: Some(data),
            entry: stored.then_some(fetched.entry),
            age_seconds: (now - fetched.created_at).num_seconds().max(0),
            expires_in_seconds: fetched
                .expires_at
                .map_or(0, |end| (end - now).num_seconds().max(0)),
            ..self.without_data(source)
        })
    }

    /// Asks the upstream and leaves the cache alone.
    async fn bypass(&self, call: &mut Call, lookup: &Lookup) -> Result<Answered, QueryError> {
        let answer = match self.fetcher.ask(lookup).await {
            Err(AskError::Upstream(UpstreamError::NotConfigured)) => {
                return self.nowhere(call).await;
            }
            other => other?,
        };
        let now = self.parts.clock.now();
        let entry = EntryId::fresh(&*self.parts.ids, now);
        let cost = answer.cost;
        let receipt = call
            .settle(|record| {
                record.outcome = Outcome::Bypass;
                record.entry = Some(entry);
                record.count = 1;
                record.status = 200;
                record.cost = cost;
            })
            .await?;
        let data = keyring::release(receipt, call.caller.tenant, entry, &answer.data)?;
        let source = AnswerSource::Upstream { stored: false, collapsed: false, bypassed: true };
        Ok(Answered { data: Some(data), ..self.without_data(source) })
    }

    /// Records that there is no upstream and nothing to give.
    async fn nowhere(&self, call: &mut Call) -> Result<Answered, QueryError> {
        let receipt = call
            .settle(|record| {
                record.outcome = Outcome::NotCached;
                record.status = 200;
            })
            .await?;
        drop(receipt);
        Ok(self.without_data(AnswerSource::Nowhere))
    }

    fn without_data(&self, source: AnswerSource) -> Answered {
        Answered {
            data: None,
            source,
            upstream: self.parts.upstream.name().to_owned(),
            entry: None,
            age_seconds: 0,
            expires_in_seconds: 0,
            cost_saved: Usd::default(),
            tokens_saved: 0,
        }
    }
}

/// Whether what a flight found was there when this request arrived: it may have been read before.
fn is_current(seat: Seat, call: &Call) -> bool {
    seat == Seat::Leader || call.view.is_proven()
}
