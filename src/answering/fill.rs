//! Fetching an answer and storing it. Runs in the flight's task: nobody's hanging up stops it
//! half-way, and what an invalidation overtook is handed out but not stored.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::coherence::TenantView;
use crate::crypto::Sealed;
use crate::domain::audit_record::{AuditRecord, Outcome};
use crate::domain::entry::{EntryMeta, SealedField, jittered};
use crate::domain::ids::{EntryId, TenantId};
use crate::domain::money::Usage;
use crate::domain::prompt::Prompt;
use crate::domain::query::QueryRequest;
use crate::store::entries::NewEntry;
use crate::store::keys::{self, Standing};
use crate::store::{self, Ending, entries, invalidations};
use crate::telemetry::UpstreamOutcome;
use crate::tiers::{Found, StoredAnswer, Wanted};
use crate::upstream::{Answer, UpstreamError};

use super::Answering;
use super::flight::FlightKind;
use super::lease::Turn;
use super::question::{Fetch, Fetched, Landing, Lookup, Withheld};
use crate::call::ServiceError;
use crate::call::{Labels, Question};

/// Longest time a reply waits for its answer to be stored.
const FILL_LIMIT: Duration = Duration::from_secs(2);

/// An entry's sealed fields.
struct SealedEntry {
    answer: Sealed,
    question: Sealed,
    labels: Sealed,
}

impl Answering {
    /// Flies one flight: the lower tiers, then, in turn with other replicas, the upstream and the
    /// fill.
    pub(super) async fn land(
        self: Arc<Self>,
        job: Fetch,
        kind: FlightKind,
        view: &TenantView,
    ) -> Landing {
        let lookup = &job.lookup;
        let (stack, wanted) = (&self.parts.stack, (lookup.warm_name(), &lookup.wanted));
        let found = match kind {
            FlightKind::LookUp | FlightKind::Revalidate => {
                stack.find_below(wanted, view, lookup.position).await
            }
            FlightKind::LookUpCold => stack.find_cold(wanted, view, lookup.position).await,
            FlightKind::Refresh | FlightKind::Alone => None,
        };
        if let Some(found) = found {
            return Landing::Found(found);
        }
        let lease = match self.turn(lookup, kind, view).await {
            Turn::Own(lease) => lease,
            Turn::Others(found) => return Landing::Found(found),
        };
        if let Err(error) = self.check_recordable() {
            return Landing::Unrecordable(error);
        }
        let prompt = Prompt::of(&lookup.request, &lookup.model);
        let tenant = lookup.wanted.place.tenant;
        match self.ask(tenant, &lookup.request, &prompt).await {
            Ok(answer) => {
                let kept = self.keep(&job, answer).await;
                drop(lease);
                match kept {
                    Ok(fetched) => Landing::Fetched(fetched),
                    Err(ServiceError::Restricted) => Landing::Withheld(Withheld::Restricted),
                    Err(_) => Landing::Withheld(Withheld::Erased),
                }
            }
            Err(UpstreamError::NotConfigured) => {
                Landing::Failed { error: UpstreamError::NotConfigured, stale: None }
            }
            Err(error) => {
                drop(lease);
                let stale = self.find_stale(lookup, view).await;
                Landing::Failed { error, stale }
            }
        }
    }

    /// What may be served although its time is over, now that the upstream failed. Its age is for
    /// each caller to judge.
    async fn find_stale(&self, lookup: &Lookup, view: &TenantView) -> Option<Found> {
        let stale_for = self.parts.stale.if_error;
        if stale_for.is_zero() {
            return None;
        }
        let position = self.parts.coherence.position();
        let (now, made_since) = (self.parts.clock.now(), DateTime::<Utc>::MIN_UTC);
        let wanted = Wanted { now, made_since, stale_for, ..lookup.wanted };
        let stack = &self.parts.stack;
        match stack.find_hot(&wanted, view) {
            Some(found) => Some(found),
            None => stack.find_below((lookup.warm_name(), &wanted), view, position).await,
        }
    }

    /// Asks the upstream and counts it.
    pub(super) async fn ask(
        &self,
        tenant: TenantId,
        request: &QueryRequest,
        prompt: &Prompt,
    ) -> Result<Answer, UpstreamError> {
        let answer = self.parts.upstream.complete(prompt).await;
        if !matches!(answer, Err(UpstreamError::NotConfigured)) {
            self.parts.calls.stats.tenant(tenant).operation(request.operation).upstream_call();
            self.parts.metrics.upstream_call(match &answer {
                Ok(_) => UpstreamOutcome::Ok,
                Err(UpstreamError::TimedOut) => UpstreamOutcome::Timeout,
                Err(_) => UpstreamOutcome::Error,
            });
        }
        answer
    }

    /// Stores an answer when it may be stored; hands it out either way, but for one about a person
    /// who was erased or restricted meanwhile.
    async fn keep(&self, job: &Fetch, answer: Answer) -> Result<Fetched, ServiceError> {
        let lookup = &job.lookup;
        let place = lookup.wanted.place;
        let created_at = self.parts.clock.now();
        let Answer { data, usage, cost, storable } = answer;
        let meta = self.meta_of(lookup, created_at, usage, cost);
        let mut fetched =
            Fetched { entry: meta.id, place, answer: data, created_at, expires_at: None, cost };
        // A fill's record is in its own transaction: without Postgres there is none to make.
        let same_era = lookup.era == self.parts.coherence.era();
        if !storable || !same_era || !self.parts.audit.takes_postgres() {
            return Ok(fetched);
        }
        let fill = self.fill(job, &meta, &fetched);
        match tokio::time::timeout(FILL_LIMIT, fill).await {
            Ok(Ok(Some(answer))) => {
                fetched.expires_at = Some(meta.expires_at);
                self.parts.metrics.stored();
                let (labels, position) = (job.indexes.prefixes(), lookup.position);
                let stored = StoredAnswer { place, meta, labels, answer, position };
                self.parts.stack.insert(lookup.warm_name(), stored);
            }
            Ok(Ok(None)) => {
                tracing::debug!("an answer was overtaken, or may replace none, and is not stored");
            }
            Ok(Err(error @ (ServiceError::Erased | ServiceError::Restricted))) => {
                return Err(error);
            }
            Ok(Err(error)) => tracing::warn!(%error, "an answer could not be stored"),
            Err(_) => tracing::warn!("an answer could not be stored in time"),
        }
        Ok(fetched)
    }

    fn meta_of(
        &self,
        lookup: &Lookup,
        created_at: DateTime<Utc>,
        usage: Usage,
        cost: crate::domain::money::Usd,
    ) -> EntryMeta {
        let operation = lookup.request.operation;
        let ttl = lookup.request.directives.ttl;
        let ttl = ttl.unwrap_or_else(|| operation.ttl(self.parts.default_ttl));
        let id = EntryId::fresh(&*self.parts.ids, created_at);
        EntryMeta {
            id,
            operation,
            subject_key: lookup.key.subject(),
            key_version: lookup.key.version(),
            created_at,
            expires_at: created_at + jittered(ttl, id.0.as_bytes()[15]),
            usage,
            cost,
        }
    }

    fn seal(
        lookup: &Lookup,
        meta: &EntryMeta,
        fetched: &Fetched,
    ) -> Result<SealedEntry, ServiceError> {
        let Lookup { request, key, .. } = lookup;
        let place = &fetched.place;
        let seal = |field, value: Result<Vec<u8>, serde_json::Error>| {
            let text = zeroize::Zeroizing::new(value.map_err(|_| ServiceError::Malformed)?);
            Ok::<_, ServiceError>(key.seal(place, meta, field, &text)?)
        };
        Ok(SealedEntry {
            answer: key.seal_answer(place, meta, &fetched.answer)?,
            question: seal(SealedField::Question, serde_json::to_vec(&Question::of(request)))?,
            labels: seal(SealedField::Labels, serde_json::to_vec(&Labels::of(request)))?,
        })
    }

    /// Stores an entry with its record, unless it was overtaken meanwhile by an invalidation or by
    /// the destruction of its person's key, or the one in its place is kept.
    async fn fill(
        &self,
        Fetch { lookup, indexes, fill_record }: &Fetch,
        meta: &EntryMeta,
        fetched: &Fetched,
    ) -> Result<Option<Sealed>, ServiceError> {
        let place = fetched.place;
        let sealed = Self::seal(lookup, meta, fetched)?;
        let record = self.parts.audit.stamp(AuditRecord {
            outcome: Outcome::Stored,
            entry: Some(meta.id),
            count: 1,
            cost: meta.cost,
            ..fill_record.clone()
        });
        let new = NewEntry {
            place,
            meta,
            answer: &sealed.answer,
            question: &sealed.question,
            labels: &sealed.labels,
            indexes,
        };
        let store = &self.parts.store;
        let stored = store.change("store an answer", place.tenant, async |mut tx| {
            let generation = invalidations::lock_for_fill(&mut tx).await?;
            if let Some(id) = meta.subject_key {
                match keys::hold_subject_key(&mut tx, id).await? {
                    Standing::Active => {}
                    Standing::Restricted => return Err(ServiceError::Restricted),
                    Standing::Destroyed => return Err(ServiceError::Erased),
                }
            }
            if generation != place.generation
                || invalidations::is_invalidated_since(&mut tx, &new, lookup.position).await?
            {
                return Ok(Ending::RollBack(false));
            }
            if !entries::upsert(&mut tx, &new, meta.created_at).await? {
                return Ok(Ending::RollBack(false));
            }
            let recorded = store::audit::insert(&mut tx, &record).await?;
            Ok(Ending::Commit(recorded, true))
        });
        Ok(stored.await?.then_some(sealed.answer))
    }
}
