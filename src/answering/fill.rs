//! Storing a fetched answer, with its record in one transaction. An answer that an invalidation
//! overtook is handed on but not stored.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::call::{Call, Labels, Question, ServiceError};
use crate::crypto::{Sealed, Secret};
use crate::domain::action::Action;
use crate::domain::audit_record::{AuditRecord, Outcome};
use crate::domain::candidate::LabelIndexes;
use crate::domain::entry::{EntryMeta, Place, SealedField, jittered};
use crate::domain::ids::EntryId;
use crate::domain::money::Usd;
use crate::store::entries::NewEntry;
use crate::store::keys::{self, SubjectStanding};
use crate::store::{self, Ending, entries, invalidations};
use crate::tiers::StoredAnswer;
use crate::upstream::Answer;

use super::AnsweringParts;
use super::answered::QueryError;
use super::lookup::Lookup;

/// The longest time that a reply waits for its answer to be stored.
const FILL_LIMIT: Duration = Duration::from_secs(2);

/// An entry's sealed fields.
struct SealedEntry {
    answer: Sealed,
    question: Sealed,
    labels: Sealed,
}

/// What a flight fetches and stores.
pub(super) struct FetchJob {
    pub(super) lookup: Lookup,
    /// The blind indexes of the labels that the answer is stored with.
    pub(super) indexes: LabelIndexes,
    /// The record of the fill, but for what the answer tells.
    pub(super) fill_record: AuditRecord,
}

impl FetchJob {
    /// The job of a call's look-up.
    pub(super) fn of(call: &Call, lookup: &Lookup) -> Self {
        Self {
            lookup: lookup.clone(),
            indexes: Labels::of(&lookup.request).indexes(lookup.key.tenant()),
            fill_record: call.change(call.caller.tenant, Action::Fill),
        }
    }
}

/// An upstream's answer that nobody has read yet.
pub(super) struct Fetched {
    pub(super) entry: EntryId,
    pub(super) place: Place,
    pub(super) answer: Secret,
    pub(super) created_at: DateTime<Utc>,
    /// `None`: the answer is not stored.
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) cost: Usd,
}

/// Why an answer is told to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Withheld {
    /// The person was erased meanwhile.
    Erased,
    /// The person's data were restricted meanwhile.
    Restricted,
}

impl From<Withheld> for QueryError {
    fn from(withheld: Withheld) -> Self {
        Self::Service(match withheld {
            Withheld::Erased => ServiceError::Erased,
            Withheld::Restricted => ServiceError::Restricted,
        })
    }
}

/// Stores an answer when it may be stored, and hands it on either way. Withholds an answer about a
/// person who was erased or restricted meanwhile.
pub(super) async fn store(
    parts: &AnsweringParts,
    job: &FetchJob,
    answer: Answer,
) -> Result<Fetched, Withheld> {
    let lookup = &job.lookup;
    let place = lookup.wanted.place;
    let created_at = parts.clock.now();
    let meta = meta_of(parts, lookup, created_at, &answer);
    let Answer { data, cost, storable, .. } = answer;
    let mut fetched =
        Fetched { entry: meta.id, place, answer: data, created_at, expires_at: None, cost };
    // The record of a fill is in the fill's own transaction, so without Postgres there is neither.
    let same_era = lookup.era == parts.coherence.era();
    if !storable || !same_era || !parts.audit.takes_postgres() {
        return Ok(fetched);
    }
    let fill = fill(parts, job, &meta, &fetched);
    match tokio::time::timeout(FILL_LIMIT, fill).await {
        Ok(Ok(Some(answer))) => {
            fetched.expires_at = Some(meta.expires_at);
            parts.metrics.stored();
            let (labels, position) = (job.indexes.prefixes(), lookup.position);
            let stored = StoredAnswer { place, meta, labels, answer, position };
            parts.stack.insert(lookup.warm_name(), stored);
        }
        Ok(Ok(None)) => {
            tracing::debug!("an answer was overtaken, or may replace none, and is not stored");
        }
        Ok(Err(ServiceError::Erased)) => return Err(Withheld::Erased),
        Ok(Err(ServiceError::Restricted)) => return Err(Withheld::Restricted),
        Ok(Err(error)) => tracing::warn!(%error, "an answer could not be stored"),
        Err(_) => tracing::warn!("an answer could not be stored in time"),
    }
    Ok(fetched)
}

fn meta_of(
    parts: &AnsweringParts,
    lookup: &Lookup,
    created_at: DateTime<Utc>,
    answer: &Answer,
) -> EntryMeta {
    let operation = lookup.request.operation;
    let ttl = lookup.request.directives.ttl;
    let ttl = ttl.unwrap_or_else(|| operation.ttl(parts.default_ttl));
    let id = EntryId::fresh(&*parts.ids, created_at);
    EntryMeta {
        id,
        operation,
        subject_key: lookup.key.subject(),
        key_version: lookup.key.version(),
        created_at,
        expires_at: created_at + jittered(ttl, id.0.as_bytes()[15]),
        usage: answer.usage,
        cost: answer.cost,
    }
}

fn seal(lookup: &Lookup, meta: &EntryMeta, fetched: &Fetched) -> Result<SealedEntry, ServiceError> {
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

/// Stores an entry with its record, and returns the sealed answer. Returns `None` if an invalidation
/// overtook the entry, or if a legal hold or a restriction keeps the entry in its place. Fails if the
/// person was erased or restricted.
async fn fill(
    parts: &AnsweringParts,
    job: &FetchJob,
    meta: &EntryMeta,
    fetched: &Fetched,
) -> Result<Option<Sealed>, ServiceError> {
    let FetchJob { lookup, indexes, fill_record } = job;
    let place = fetched.place;
    let sealed = seal(lookup, meta, fetched)?;
    let record = parts.audit.stamp(AuditRecord {
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
    let store = &parts.store;
    let stored = store.change("store an answer", place.tenant, async |mut tx| {
        let generation = invalidations::lock_for_fill(&mut tx).await?;
        if let Some(id) = meta.subject_key {
            match keys::hold_subject_key(&mut tx, id).await? {
                SubjectStanding::Active => {}
                SubjectStanding::Restricted => return Err(ServiceError::Restricted),
                SubjectStanding::Destroyed => return Err(ServiceError::Erased),
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
