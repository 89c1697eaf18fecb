//! A question: answered from memory, Redis or Postgres when known, else once from the upstream.
//! The order is that of architecture §5: enabled, look up, receipt, still admitted, open, reply.

use std::sync::Arc;

use crate::auth::Standing;
use crate::domain::audit_record::Outcome;
use crate::domain::cache_key::KeyParts;
use crate::domain::directives::Mode;
use crate::domain::entry::{EntryMeta, SealedField, Tier};
use crate::domain::money::{Usage, Usd};
use crate::domain::query::QueryRequest;
use crate::keyring::{EntryKey, KeyringError};
use crate::tiers::{Found, Wanted};

use super::question::{Answered, Lookup, QueryError, Source};
use super::{Answering, Switch};
use crate::call::Call;

impl Answering {
    /// Answers a question. Everything that is not a hit is boxed, so that a hit's future stays
    /// small to move.
    pub async fn query(
        self: &Arc<Self>,
        call: &mut Call,
        mut request: QueryRequest,
    ) -> Result<Answered, QueryError> {
        if self.parts.switch == Switch::PassThrough || call.standing == Standing::Believed {
            request.directives.mode = request.directives.mode.passed_through();
        }
        let operation = request.operation;
        call.note(|record| record.operation = Some(operation));
        let request = Arc::new(request);
        let answered = match self.find_hot(call, &request) {
            Some((lookup, found)) => match self.serve_found(call, &lookup, &found).await {
                Ok(None) => Box::pin(self.query_below(call, request)).await,
                served => served.transpose().unwrap_or(Err(QueryError::NotCached)),
            },
            None => Box::pin(self.query_below(call, request)).await,
        };
        let elapsed_us = call.elapsed_us();
        self.count(call.caller.tenant, operation, &answered, elapsed_us);
        answered
    }

    /// What memory holds for the question, when its keys are in memory too.
    fn find_hot(&self, call: &mut Call, request: &Arc<QueryRequest>) -> Option<(Lookup, Found)> {
        if !request.directives.mode.reads() {
            return None;
        }
        let keyring = &self.parts.keyring;
        let keys = keyring.remembered_tenant_keys(call.caller.tenant)?;
        let subject = match &request.subject {
            None => None,
            Some(subject) => {
                let key = keyring.remembered_subject_key(&keys, subject)?;
                if key.restricted {
                    return None;
                }
                Some(key)
            }
        };
        let lookup = self.lookup(call, request, EntryKey::new(keys, subject));
        let found = self.parts.stack.find_hot(&lookup.wanted, &call.view)?;
        Some((lookup, found))
    }

    /// Names what is looked for and where.
    pub(super) fn lookup(
        &self,
        call: &mut Call,
        request: &Arc<QueryRequest>,
        key: EntryKey,
    ) -> Lookup {
        let subject_key = key.subject();
        call.note(|record| record.subject_key = subject_key);
        let upstream = &self.parts.upstream;
        let model = self.model(request);
        let (position, era) = (self.parts.coherence.position(), self.parts.coherence.era());
        let parts = KeyParts::of(request, subject_key, upstream.name(), &model);
        let cache_key = key.tenant().cache_key(&parts);
        let now = self.parts.clock.now();
        let wanted = Wanted {
            place: call.view.place(cache_key),
            now,
            made_since: request.directives.made_since(now),
            stale_for: request.directives.accepts_stale_for(self.parts.stale.while_revalidate),
        };
        Lookup { request: Arc::clone(request), key, wanted, model, position, era }
    }

    pub(super) fn model(&self, request: &QueryRequest) -> Arc<str> {
        match &request.model {
            Some(model) => model.as_str().into(),
            None => Arc::clone(&self.default_model),
        }
    }

    /// Serves what a tier holds; what is beyond its time is fetched anew behind the reply, unless
    /// the caller wants nobody asked. `None` when it is not true any more or does not open.
    pub(super) async fn serve_found(
        self: &Arc<Self>,
        call: &mut Call,
        lookup: &Lookup,
        found: &Found,
    ) -> Result<Option<Answered>, QueryError> {
        let tier = found.tier;
        let source = if found.entry.stored.meta.is_fresh(lookup.wanted.now) {
            Source::Tier(tier)
        } else {
            Source::Stale { tier, asked: false }
        };
        let mut answered = self.serve(call, lookup, found, source).await?;
        if let Some(Answered { source: Source::Stale { asked, .. }, .. }) = &mut answered {
            let may_ask = lookup.request.directives.mode != Mode::OnlyIfCached;
            *asked = may_ask && self.revalidate(call, lookup);
        }
        Ok(answered)
    }

    /// Serves what a tier holds as `source` says; `None` when it is not true any more or does not
    /// open.
    pub(super) async fn serve(
        &self,
        call: &mut Call,
        lookup: &Lookup,
        found: &Found,
        source: Source,
    ) -> Result<Option<Answered>, QueryError> {
        let stored = &found.entry.stored;
        let EntryMeta { id, cost, usage, .. } = stored.meta;
        let (outcome, cost, usage) = match source {
            Source::Stale { .. } => (Outcome::Stale, Usd::default(), Usage::default()),
            _ => (Outcome::Hit, cost, usage),
        };
        let receipt = call
            .settle(|record| {
                record.outcome = outcome;
                record.tier = Some(found.tier);
                record.entry = Some(id);
                record.count = 1;
                record.status = 200;
                record.cost = cost;
            })
            .await?;
        // What was read in Postgres for this very request needs no proof.
        let proven = found.tier == Tier::Cold || call.view.is_proven();
        if !proven || !call.view.admits(&stored.candidate(), stored.position) {
            call.unsettle();
            return Ok(None);
        }
        let answer = (SealedField::Answer, &stored.answer);
        let data = match lookup.key.open(receipt, &lookup.wanted.place, &stored.meta, answer) {
            Ok(data) => data,
            Err(error) => {
                Box::pin(self.distrust(call, lookup, found, &error)).await?;
                return Ok(None);
            }
        };
        let now = self.parts.clock.now();
        self.parts.stack.hot.count_use(&found.entry, now);
        Ok(Some(Answered {
            data: Some(data),
            source,
            upstream: self.parts.upstream.name().to_owned(),
            entry: Some(id),
            age_seconds: stored.meta.age(now).num_seconds(),
            expires_in_seconds: stored.meta.seconds_left(now),
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
        self.parts
            .calls
            .record_distrust(call, found.entry.stored.meta.id, found.tier, error)
            .await?;
        call.unsettle();
        self.parts.stack.discard(lookup.warm_name(), &lookup.wanted).await;
        Ok(())
    }
}

/// Tokens of an answer, together.
const fn tokens(usage: Usage) -> u64 {
    usage.prompt_tokens as u64 + usage.completion_tokens as u64
}
