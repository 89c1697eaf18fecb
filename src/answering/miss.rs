//! A question that memory does not answer: the lower tiers, then the upstream, once for all who
//! ask the same at the same time.

use std::sync::Arc;

use crate::audit::AuditError;
use crate::coherence::TenantView;
use crate::domain::audit_record::{Action, Outcome};
use crate::domain::candidate::LabelPrefixes;
use crate::domain::directives::Mode;
use crate::domain::entry::Tier;
use crate::domain::ids::EntryId;
use crate::domain::money::Usd;
use crate::domain::prompt::Prompt;
use crate::domain::query::QueryRequest;
use crate::keyring::{self, EntryKey, Plaintext};
use crate::tiers::Found;
use crate::upstream::UpstreamError;

use super::Answering;
use super::flight::{FlightKind, Seat};
use super::question::{Answered, Fetch, Fetched, Landing, Lookup, QueryError, Source};
use crate::call::Labels;
use crate::call::{Call, ServiceError};

/// What a flight brought a caller.
enum Flown {
    Answered(Box<Answered>),
    /// An answer of this tier that is not for this caller, or does not open.
    Unfit(Tier),
}

impl Flown {
    fn answered(answered: Answered) -> Self {
        Self::Answered(Box::new(answered))
    }
}

impl Answering {
    /// Answers what memory did not.
    pub(super) async fn query_below(
        self: &Arc<Self>,
        call: &mut Call,
        request: Arc<QueryRequest>,
    ) -> Result<Answered, QueryError> {
        let mode = request.directives.mode;
        if mode == Mode::Unanswerable {
            return Err(QueryError::NotCached);
        }
        let Some(key) = self.entry_key(call, &request).await? else {
            return Err(QueryError::NotCached);
        };
        let mut lookup = self.lookup(call, &request, key);
        if mode == Mode::Bypass {
            return self.bypass(call, &request).await;
        }
        if mode.reads()
            && let Some(found) = self.parts.stack.find_hot(&lookup.wanted, &call.view)
            && let Some(answered) = self.serve_found(call, &lookup, &found).await?
        {
            return Ok(answered);
        }
        if mode == Mode::OnlyIfCached {
            return self.only_if_cached(call, &lookup).await;
        }
        let mut kind = if mode.reads() { FlightKind::LookUp } else { FlightKind::Refresh };
        let mut overtaken = false;
        loop {
            let tier = match self.fly(call, &lookup, kind).await? {
                Flown::Answered(answered) => return Ok(*answered),
                Flown::Unfit(tier) => tier,
            };
            let again = !overtaken;
            // What was found may have other tags than the question: any label counts.
            let candidate = lookup.candidate(&LabelPrefixes::Unknown);
            overtaken |= !call.view.admits(&candidate, lookup.position);
            kind = match (kind, tier) {
                // An invalidation came between finding and answering. Others it came between may
                // have a new answer already: once more from the top.
                (FlightKind::LookUp | FlightKind::LookUpCold, _) if overtaken && again => {
                    FlightKind::LookUp
                }
                // What does not open in Redis may in Postgres; below that is only the upstream.
                (FlightKind::LookUp, Tier::Warm) => FlightKind::LookUpCold,
                (FlightKind::LookUp | FlightKind::LookUpCold, _) => FlightKind::Refresh,
                (FlightKind::Refresh, _) => FlightKind::Alone,
                (FlightKind::Revalidate | FlightKind::Alone, _) => {
                    return Err(ServiceError::TaskLost.into());
                }
            };
            lookup = self.lookup(call, &request, lookup.key.clone());
        }
    }

    /// The key the answer is sealed under. `None`: the question names a person never named before
    /// and must not make a key for them.
    async fn entry_key(
        &self,
        call: &mut Call,
        request: &QueryRequest,
    ) -> Result<Option<EntryKey>, QueryError> {
        let keyring = &self.parts.keyring;
        let keys = keyring.tenant_keys(call.caller.tenant).await?;
        let Some(subject) = &request.subject else {
            return Ok(Some(EntryKey::new(keys, None)));
        };
        let found = match request.directives.mode {
            Mode::Default | Mode::Refresh => {
                Some(keyring.subject_key(&keys, subject, call.request).await?)
            }
            Mode::OnlyIfCached | Mode::Bypass | Mode::Unanswerable => {
                keyring.find_subject_key(&keys, subject).await?
            }
        };
        if found.is_none() && request.directives.mode == Mode::OnlyIfCached {
            return Ok(None);
        }
        if let Some(key) = found.as_ref().filter(|key| key.restricted) {
            call.note(|record| record.subject_key = Some(key.id));
            return Err(ServiceError::Restricted.into());
        }
        Ok(Some(EntryKey::new(keys, found)))
    }

    async fn only_if_cached(
        self: &Arc<Self>,
        call: &mut Call,
        lookup: &Lookup,
    ) -> Result<Answered, QueryError> {
        let (stack, wanted) = (&self.parts.stack, (lookup.warm_name(), &lookup.wanted));
        let mut next = stack.find_below(wanted, &call.view, lookup.position).await;
        while let Some(found) = next {
            if let Some(answered) = self.serve_found(call, lookup, &found).await? {
                return Ok(answered);
            }
            next = match found.tier {
                Tier::Warm => stack.find_cold(wanted, &call.view, lookup.position).await,
                Tier::Hot | Tier::Cold => None,
            };
        }
        Err(QueryError::NotCached)
    }

    /// Asks the upstream and leaves the cache alone.
    async fn bypass(
        &self,
        call: &mut Call,
        request: &QueryRequest,
    ) -> Result<Answered, QueryError> {
        self.check_recordable()?;
        let prompt = Prompt::of(request, &self.model(request));
        let answer = match self.ask(call.caller.tenant, request, &prompt).await {
            Err(UpstreamError::NotConfigured) => return self.nowhere(call).await,
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
        let source = Source::Upstream { stored: false, collapsed: false, bypassed: true };
        Ok(self.fetched_answer(data, source, None, 0))
    }

    fn fetched_answer(
        &self,
        data: Plaintext,
        source: Source,
        entry: Option<EntryId>,
        expires_in_seconds: i64,
    ) -> Answered {
        Answered {
            data: Some(data),
            source,
            upstream: self.parts.upstream.name().to_owned(),
            entry,
            age_seconds: 0,
            expires_in_seconds,
            cost_saved: Usd::default(),
            tokens_saved: 0,
        }
    }

    /// There is no upstream: nothing to give, and it is recorded that nothing was.
    async fn nowhere(&self, call: &mut Call) -> Result<Answered, QueryError> {
        let receipt = call
            .settle(|record| {
                record.outcome = Outcome::NotCached;
                record.status = 200;
            })
            .await?;
        drop(receipt);
        Ok(Answered {
            data: None,
            source: Source::Nowhere,
            upstream: self.parts.upstream.name().to_owned(),
            entry: None,
            age_seconds: 0,
            expires_in_seconds: 0,
            cost_saved: Usd::default(),
            tokens_saved: 0,
        })
    }

    /// Waits for the flight of this question.
    async fn fly(
        self: &Arc<Self>,
        call: &mut Call,
        lookup: &Lookup,
        kind: FlightKind,
    ) -> Result<Flown, QueryError> {
        let boarded = self.board(Self::job(call, lookup), kind, &call.view).await;
        let (seat, landing) = boarded.ok_or(ServiceError::TaskLost)?;
        match &*landing {
            Landing::Found(found) => {
                if !is_current(seat, call) || !lookup.wanted.accepts(&found.entry.stored.meta) {
                    return Ok(Flown::Unfit(found.tier));
                }
                let served = self.serve_found(call, lookup, found).await?;
                Ok(served.map_or(Flown::Unfit(found.tier), Flown::answered))
            }
            Landing::Fetched(fetched) => {
                self.serve_fetched(call, fetched, seat).await.map(Flown::answered)
            }
            Landing::Failed { error: UpstreamError::NotConfigured, .. } => {
                self.nowhere(call).await.map(Flown::answered)
            }
            Landing::Failed { error, stale } => {
                let stale = stale.as_ref().filter(|_| is_current(seat, call));
                let answered = self.serve_instead(call, lookup, stale).await?;
                answered.map(Flown::answered).ok_or_else(|| error.clone().into())
            }
            Landing::Unrecordable(error) => Err((*error).into()),
            Landing::Withheld(withheld) => Err((*withheld).into()),
        }
    }

    /// Serves a stale answer, if the caller accepts it, where the upstream has none.
    async fn serve_instead(
        &self,
        call: &mut Call,
        lookup: &Lookup,
        stale: Option<&Found>,
    ) -> Result<Option<Answered>, QueryError> {
        let Some(found) = stale else {
            return Ok(None);
        };
        let accepts_stale = lookup.request.directives.mode.reads()
            && found.entry.stored.meta.created_at >= lookup.wanted.made_since;
        if !accepts_stale {
            return Ok(None);
        }
        self.serve(call, lookup, found, Source::Stale { tier: found.tier, asked: true }).await
    }

    /// What the flight of a question fetches and stores.
    pub(super) fn job(call: &Call, lookup: &Lookup) -> Fetch {
        Fetch {
            lookup: lookup.clone(),
            indexes: Labels::of(&lookup.request).indexes(lookup.key.tenant()),
            fill_record: call.change(call.caller.tenant, Action::Fill),
        }
    }

    /// Waits for the flight of a job, begun here or under way. `None`: it was lost.
    pub(super) async fn board(
        self: &Arc<Self>,
        job: Fetch,
        kind: FlightKind,
        view: &Arc<TenantView>,
    ) -> Option<(Seat, Arc<Landing>)> {
        let (lookup, labels) = (job.lookup.clone(), job.indexes.prefixes());
        let (candidate, at) = (lookup.candidate(&labels), (&**view, lookup.position));
        let (service, flown) = (Arc::clone(self), Arc::clone(view));
        self.flights
            .board((kind, candidate), at, &self.parts.lifecycle, || async move {
                service.land(job, kind, &flown).await
            })
            .await
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
        let source = Source::Upstream { stored, collapsed, bypassed: false };
        let now = self.parts.clock.now();
        let left = fetched.expires_at.map_or(0, |end| (end - now).num_seconds().max(0));
        let mut answered = self.fetched_answer(data, source, stored.then_some(fetched.entry), left);
        answered.age_seconds = (now - fetched.created_at).num_seconds().max(0);
        Ok(answered)
    }

    /// No upstream is paid for an answer that could not be handed out.
    pub(super) fn check_recordable(&self) -> Result<(), AuditError> {
        if self.parts.audit.is_available() { Ok(()) } else { Err(AuditError::Unavailable) }
    }
}

/// Whether what a flight found was there when this request arrived: it may have been read before.
fn is_current(seat: Seat, call: &Call) -> bool {
    seat == Seat::Leader || call.view.is_proven()
}
