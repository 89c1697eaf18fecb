//! Fetching an answer and storing it. Runs in the flight's task: nobody's hanging up stops it
//! half-way, and what an invalidation overtook is handed out but not stored.

use std::sync::Arc;
use std::time::Duration;

use crate::coherence::TenantView;
use crate::crypto::Sealed;
use crate::domain::audit_record::{AuditRecord, Outcome};
use crate::domain::entry::{EntryMeta, SealedField, jittered};
use crate::domain::ids::{EntryId, TenantId};
use crate::domain::money::Usage;
use crate::domain::prompt::Prompt;
use crate::domain::query::QueryRequest;
use crate::store::entries::NewEntry;
use crate::store::{self, StoreError, entries, invalidations, keys};
use crate::telemetry::UpstreamOutcome;
use crate::tiers::StoredAnswer;
use crate::upstream::{Answer, UpstreamError};

use super::flight::FlightKind;
use super::labels::{Labels, Question};
use super::question::{Fetch, Fetched, Landing, Lookup};
use super::{Service, ServiceError};

/// Longest time a reply waits for its answer to be stored.
const FILL_LIMIT: Duration = Duration::from_secs(2);

/// An entry's sealed fields.
struct SealedEntry {
    answer: Sealed,
    question: Sealed,
    labels: Sealed,
}

impl Service {
    /// Flies one flight: the lower tiers, then the upstream, then the fill.
    pub(super) async fn land(
        self: Arc<Self>,
        job: Fetch,
        kind: FlightKind,
        view: &TenantView,
    ) -> Landing {
        let lookup = &job.lookup;
        let (stack, wanted) = (&self.parts.stack, (lookup.redis_key(), &lookup.wanted));
        let found = match kind {
            FlightKind::LookUp => stack.find_below(wanted, view, lookup.position).await,
            FlightKind::LookUpCold => stack.find_cold(wanted, view, lookup.position).await,
            FlightKind::Refresh => None,
        };
        if let Some(found) = found {
            return Landing::Found(found);
        }
        if let Err(error) = self.check_recordable() {
            return Landing::Unrecordable(error);
        }
        let prompt = Prompt::of(&lookup.request, &lookup.model);
        let tenant = lookup.wanted.place.tenant;
        match self.ask(tenant, &lookup.request, &prompt).await {
            Ok(answer) => Landing::Fetched(self.keep(job, answer).await),
            Err(error) => Landing::Failed(error),
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
            self.stats.tenant(tenant).operation(request.operation).upstream_call();
            self.parts.metrics.upstream_call(match &answer {
                Ok(_) => UpstreamOutcome::Ok,
                Err(UpstreamError::TimedOut) => UpstreamOutcome::Timeout,
                Err(_) => UpstreamOutcome::Error,
            });
        }
        answer
    }

    /// Stores an answer when it may be stored; hands it out either way.
    async fn keep(self: Arc<Self>, job: Fetch, answer: Answer) -> Fetched {
        let lookup = &job.lookup;
        let place = lookup.wanted.place;
        let created_at = self.parts.clock.now();
        let Answer { data, usage, cost, storable } = answer;
        let meta = self.meta_of(lookup, created_at, usage, cost);
        let mut fetched =
            Fetched { entry: meta.id, place, answer: data, created_at, expires_at: None, cost };
        // A fill's record is in its own transaction: without Postgres there is none to make.
        if !storable || !self.parts.audit.takes_postgres() {
            return fetched;
        }
        let fill = self.fill(&job, &meta, &fetched);
        match tokio::time::timeout(FILL_LIMIT, fill).await {
            Ok(Ok(Some(answer))) => {
                fetched.expires_at = Some(meta.expires_at);
                self.parts.metrics.stored();
                let (labels, position) = (job.indexes.prefixes(), lookup.position);
                let stored = StoredAnswer { place, meta, labels, answer, position };
                self.parts.stack.insert(lookup.redis_key(), stored);
            }
            Ok(Ok(None)) => tracing::debug!("an answer was overtaken and is not stored"),
            Ok(Err(error)) => tracing::warn!(%error, "an answer could not be stored"),
            Err(_) => tracing::warn!("an answer could not be stored in time"),
        }
        fetched
    }

    fn meta_of(
        &self,
        lookup: &Lookup,
        created_at: chrono::DateTime<chrono::Utc>,
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
    /// the destruction of its person's key.
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
        let stored = store
            .bounded(async {
                let mut tx = store.write(place.tenant).await?;
                let generation = invalidations::lock_for_fill(&mut tx).await?;
                if generation != place.generation
                    || invalidations::is_invalidated_since(&mut tx, &new, lookup.position).await?
                {
                    return Ok(false);
                }
                if let Some(id) = meta.subject_key
                    && !keys::hold_subject_key(&mut tx, id).await?
                {
                    return Ok(false);
                }
                entries::upsert(&mut tx, &new).await?;
                let recorded = store::audit::insert(&mut tx, &record).await?;
                tx.commit(recorded).await?;
                Ok::<_, StoreError>(true)
            })
            .await?;
        Ok(stored.then_some(sealed.answer))
    }
}
