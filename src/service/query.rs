//! A question: answered from memory, Redis or Postgres when known, else once from the upstream.
//! The order is that of architecture §5: enabled, look up, receipt, still admitted, open, reply.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::audit::AuditError;
use crate::crypto::Secret;
use crate::domain::audit_record::{AuditRecord, Outcome};
use crate::domain::cache_key::KeyParts;
use crate::domain::directives::Mode;
use crate::domain::entry::{EntryMeta, Place, SealedField, Tier};
use crate::domain::ids::EntryId;
use crate::domain::money::{Usage, Usd};
use crate::domain::prompt::Prompt;
use crate::domain::query::QueryRequest;
use crate::domain::selector::Position;
use crate::keyring::{self, EntryKey, KeyringError, Plaintext};
use crate::store::StoreError;
use crate::tiers::{Found, Wanted};
use crate::upstream::UpstreamError;

use super::flight::{FlightKey, FlightKind, Seat};
use super::{Call, Service, ServiceError, Switch};

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A tier.
    Tier(Tier),
    /// The upstream.
    Upstream {
        /// Whether the answer is in the cache now.
        stored: bool,
        /// Whether another caller's question was answered with it.
        collapsed: bool,
        /// Whether the cache was left alone.
        bypassed: bool,
    },
    /// Nowhere: nothing is cached and there is no upstream.
    Nowhere,
}

/// An answered question.
pub struct Answered {
    /// Answer, model and usage as JSON; `None` when there is none.
    pub data: Option<Plaintext>,
    /// Where it came from.
    pub source: Source,
    /// The upstream's configured name.
    pub upstream: String,
    /// The entry, when there is one.
    pub entry: Option<EntryId>,
    /// Whole seconds since the answer was made.
    pub age_seconds: i64,
    /// Whole seconds the answer is still good; 0 when it is not stored.
    pub expires_in_seconds: i64,
    /// What this reply saved.
    pub cost_saved: Usd,
    /// Tokens this reply saved.
    pub tokens_saved: u64,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Something of the service failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The upstream failed.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// Only a cached answer was acceptable and there is none.
    #[error("nothing is cached")]
    NotCached,
}

impl From<AuditError> for QueryError {
    fn from(error: AuditError) -> Self {
        Self::Service(error.into())
    }
}

impl From<KeyringError> for QueryError {
    fn from(error: KeyringError) -> Self {
        Self::Service(error.into())
    }
}

impl From<StoreError> for QueryError {
    fn from(error: StoreError) -> Self {
        Self::Service(error.into())
    }
}

/// How a flight ended. Shared by all who wait for it.
pub(super) enum Landing {
    /// In a lower tier.
    Found(Found),
    /// The upstream answered.
    Fetched(Fetched),
    /// The upstream did not.
    Failed(UpstreamError),
    /// Records cannot be made, so the upstream was not asked.
    Unrecordable(AuditError),
}

/// An upstream's answer that nobody has read yet.
pub(super) struct Fetched {
    pub(super) entry: EntryId,
    pub(super) place: Place,
    pub(super) answer: Secret,
    pub(super) created_at: DateTime<Utc>,
    /// `None`: not stored.
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) cost: Usd,
}

/// A question as it is looked up and fetched.
#[derive(Clone)]
pub(super) struct Lookup {
    pub(super) request: Arc<QueryRequest>,
    pub(super) key: EntryKey,
    pub(super) wanted: Wanted,
    pub(super) model: String,
    pub(super) position: Position,
    /// The record of the fill, but for what the answer tells.
    pub(super) fill_record: AuditRecord,
}

impl Service {
    /// Answers a question.
    pub async fn query(
        self: &Arc<Self>,
        call: &mut Call,
        mut request: QueryRequest,
    ) -> Result<Answered, QueryError> {
        if self.parts.switch == Switch::PassThrough {
            request.directives.mode = Mode::Bypass;
        }
        let operation = request.operation;
        call.note(|record| record.operation = Some(operation));
        let answered = self.answer(call, request).await;
        let elapsed_us = call.elapsed_us();
        self.count(call.caller.tenant, operation, &answered, elapsed_us);
        answered
    }

    async fn answer(
        self: &Arc<Self>,
        call: &mut Call,
        request: QueryRequest,
    ) -> Result<Answered, QueryError> {
        let mode = request.directives.mode;
        let Some(key) = self.entry_key(call, &request).await? else {
            return Err(QueryError::NotCached);
        };
        let subject_key = key.subject();
        call.note(|record| record.subject_key = subject_key);
        if mode == Mode::Bypass {
            return self.bypass(call, &request).await;
        }
        let lookup = self.lookup(call, Arc::new(request), key);
        if mode.reads() {
            if let Some(found) = self.parts.stack.find_hot(&lookup.wanted, &call.view)
                && let Some(answered) = self.serve_found(call, &lookup, &found).await?
            {
                return Ok(answered);
            }
            if mode == Mode::OnlyIfCached {
                return self.only_if_cached(call, &lookup).await;
            }
        }
        let first = if mode.reads() {
            FlightKind::LookUp
        } else {
            FlightKind::Refresh
        };
        if let Some(answered) = self.fly(call, &lookup, first).await? {
            return Ok(answered);
        }
        // What the flight found was not acceptable to this caller, or did not open.
        let answered = self.fly(call, &lookup, FlightKind::Refresh).await?;
        answered.ok_or(QueryError::Service(ServiceError::TaskLost))
    }

    /// The key the answer is sealed under. `None`: the question names a person never named before
    /// and must not make a key for them.
    async fn entry_key(
        &self,
        call: &Call,
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
            Mode::OnlyIfCached | Mode::Bypass => keyring.find_subject_key(&keys, subject).await?,
        };
        if found.is_none() && request.directives.mode == Mode::OnlyIfCached {
            return Ok(None);
        }
        Ok(Some(EntryKey::new(keys, found)))
    }

    fn lookup(&self, call: &Call, request: Arc<QueryRequest>, key: EntryKey) -> Lookup {
        let upstream = &self.parts.upstream;
        let model = self.model(&request);
        let position = self.parts.coherence.position();
        let parts = KeyParts::of(&request, key.subject(), upstream.name(), &model);
        let cache_key = key.tenant().cache_key(&parts);
        let now = self.parts.clock.now();
        let wanted = Wanted {
            place: call.view.place(cache_key),
            redis_key: key.tenant().redis_key(&cache_key),
            now,
            made_since: request.directives.made_since(now),
        };
        let action = crate::domain::audit_record::Action::Fill;
        let fill_record = call.change(call.caller.tenant, action);
        Lookup {
            request,
            key,
            wanted,
            model,
            position,
            fill_record,
        }
    }

    fn model(&self, request: &QueryRequest) -> String {
        request
            .model
            .clone()
            .unwrap_or_else(|| self.parts.upstream.default_model().to_owned())
    }

    /// Serves what a tier holds; `None` when it is not true any more or does not open.
    async fn serve_found(
        &self,
        call: &mut Call,
        lookup: &Lookup,
        found: &Found,
    ) -> Result<Option<Answered>, QueryError> {
        let stored = &found.entry.stored;
        let EntryMeta {
            id, cost, usage, ..
        } = stored.meta;
        let receipt = call
            .settle(|record| {
                record.outcome = Outcome::Hit;
                record.tier = Some(found.tier);
                record.entry = Some(id);
                record.count = 1;
                record.status = 200;
                record.cost = cost;
            })
            .await?;
        if !call.view.admits(&stored.place, stored.position) {
            call.unsettle();
            return Ok(None);
        }
        let answer = (SealedField::Answer, &stored.answer);
        let data = match lookup
            .key
            .open(receipt, &lookup.wanted.place, &stored.meta, answer)
        {
            Ok(data) => data,
            Err(error) => {
                self.distrust(call, lookup, found, &error).await?;
                return Ok(None);
            }
        };
        let now = self.parts.clock.now();
        self.parts.stack.hot.count_use(&found.entry, now);
        Ok(Some(Answered {
            data: Some(data),
            source: Source::Tier(found.tier),
            upstream: self.parts.upstream.name().to_owned(),
            entry: Some(id),
            age_seconds: stored.meta.age(now).num_seconds(),
            expires_in_seconds: stored.meta.time_left(now).num_seconds(),
            cost_saved: cost,
            tokens_saved: tokens(usage),
        }))
    }

    /// A value that does not open is a miss with a record of its own, and is not found again.
    async fn distrust(
        &self,
        call: &mut Call,
        lookup: &Lookup,
        found: &Found,
        error: &KeyringError,
    ) -> Result<(), QueryError> {
        let (tier, entry) = (found.tier, found.entry.stored.meta.id);
        tracing::error!(tenant = %call.caller.tenant, %entry, tier = tier.name(), %error, "a stored value does not open");
        self.parts.metrics.integrity_failure();
        let receipt = call
            .settle(|record| {
                record.outcome = Outcome::IntegrityFailure;
                record.tier = Some(tier);
                record.entry = Some(entry);
            })
            .await?;
        drop(receipt);
        call.unsettle();
        self.parts.stack.discard(&lookup.wanted).await;
        Ok(())
    }

    async fn only_if_cached(
        &self,
        call: &mut Call,
        lookup: &Lookup,
    ) -> Result<Answered, QueryError> {
        let found = self
            .parts
            .stack
            .find_below(&lookup.wanted, &call.view, lookup.position)
            .await;
        let answered = match found {
            Some(found) => self.serve_found(call, lookup, &found).await?,
            None => None,
        };
        answered.ok_or(QueryError::NotCached)
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
        let source = Source::Upstream {
            stored: false,
            collapsed: false,
            bypassed: true,
        };
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

    /// Waits for the flight of this question; `None` when what it found is not for this caller.
    async fn fly(
        self: &Arc<Self>,
        call: &mut Call,
        lookup: &Lookup,
        kind: FlightKind,
    ) -> Result<Option<Answered>, QueryError> {
        let key = FlightKey {
            place: lookup.wanted.place,
            kind,
        };
        let at = (&*call.view, lookup.position);
        let service = Arc::clone(self);
        let job = lookup.clone();
        let view = Arc::clone(&call.view);
        let boarded = self
            .flights
            .board(key, at, &self.parts.lifecycle, || async move {
                service.land(job, kind, &view).await
            })
            .await;
        let (seat, landing) = boarded.ok_or(ServiceError::TaskLost)?;
        match &*landing {
            Landing::Found(found) => {
                let meta = &found.entry.stored.meta;
                if !meta.is_fresh(lookup.wanted.now, lookup.wanted.made_since) {
                    return Ok(None);
                }
                self.serve_found(call, lookup, found).await
            }
            Landing::Fetched(fetched) => self.serve_fetched(call, fetched, seat).await.map(Some),
            Landing::Failed(UpstreamError::NotConfigured) => self.nowhere(call).await.map(Some),
            Landing::Failed(error) => Err(error.clone().into()),
            Landing::Unrecordable(error) => Err((*error).into()),
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
        let cost = if collapsed {
            Usd::default()
        } else {
            fetched.cost
        };
        let receipt = call
            .settle(|record| {
                record.outcome = if stored {
                    Outcome::Stored
                } else {
                    Outcome::Miss
                };
                record.entry = Some(fetched.entry);
                record.count = 1;
                record.status = 200;
                record.cost = cost;
            })
            .await?;
        let tenant = fetched.place.tenant;
        let data = keyring::release(receipt, tenant, fetched.entry, &fetched.answer)?;
        let source = Source::Upstream {
            stored,
            collapsed,
            bypassed: false,
        };
        let now = self.parts.clock.now();
        let left = fetched
            .expires_at
            .map_or(0, |end| (end - now).num_seconds().max(0));
        let mut answered = self.fetched_answer(data, source, stored.then_some(fetched.entry), left);
        answered.age_seconds = (now - fetched.created_at).num_seconds().max(0);
        Ok(answered)
    }

    /// No upstream is paid for an answer that could not be handed out.
    pub(super) fn check_recordable(&self) -> Result<(), AuditError> {
        if self.parts.audit.is_available() {
            Ok(())
        } else {
            Err(AuditError::Unavailable)
        }
    }
}

/// Tokens of an answer, together.
const fn tokens(usage: Usage) -> u64 {
    usage.prompt_tokens as u64 + usage.completion_tokens as u64
}
