//! Serving a stored answer: its receipt first, then the question whether it is still admitted, then
//! the opening. Nothing here looks for an answer.

use crate::call::Call;
use crate::domain::audit_record::Outcome;
use crate::domain::directives::Mode;
use crate::domain::entry::{EntryMeta, SealedField, Tier};
use crate::domain::money::{Usage, Usd};
use crate::keyring::KeyringError;
use crate::tiers::Found;

use super::Answering;
use super::answered::{AnswerSource, Answered, QueryError};
use super::lookup::Lookup;

impl Answering {
    /// Serves what a tier holds. An answer whose time is over is fetched anew behind the reply,
    /// unless the caller wants nobody asked. Returns `None` when the answer is no longer true or does
    /// not open.
    pub(super) async fn serve_found(
        &self,
        call: &mut Call,
        lookup: &Lookup,
        found: &Found,
    ) -> Result<Option<Answered>, QueryError> {
        let tier = found.tier;
        let source = if found.entry.stored.meta.is_fresh(lookup.wanted.now) {
            AnswerSource::Tier(tier)
        } else {
            AnswerSource::Stale { tier, asked: false }
        };
        let mut answered = self.serve(call, lookup, found, source).await?;
        if let Some(Answered { source: AnswerSource::Stale { asked, .. }, .. }) = &mut answered {
            let may_ask = lookup.request.directives.mode != Mode::OnlyIfCached;
            *asked = may_ask && self.revalidate(call, lookup);
        }
        Ok(answered)
    }

    /// Serves a stale answer where the upstream failed. Returns `None` when the caller does not accept
    /// its age, when it is no longer true, or when it does not open.
    pub(super) async fn serve_instead(
        &self,
        call: &mut Call,
        lookup: &Lookup,
        found: &Found,
    ) -> Result<Option<Answered>, QueryError> {
        let accepts_stale = lookup.request.directives.mode.reads()
            && found.entry.stored.meta.created_at >= lookup.wanted.made_since;
        if !accepts_stale {
            return Ok(None);
        }
        let source = AnswerSource::Stale { tier: found.tier, asked: true };
        self.serve(call, lookup, found, source).await
    }

    async fn serve(
        &self,
        call: &mut Call,
        lookup: &Lookup,
        found: &Found,
        source: AnswerSource,
    ) -> Result<Option<Answered>, QueryError> {
        let stored = &found.entry.stored;
        let EntryMeta { id, cost, usage, .. } = stored.meta;
        let (outcome, cost, usage) = match source {
            AnswerSource::Stale { .. } => (Outcome::Stale, Usd::default(), Usage::default()),
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
        let (place, answer) = (&lookup.wanted.place, &stored.answer);
        let data = match lookup.key.open(receipt, place, &stored.meta, SealedField::Answer, answer)
        {
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

    /// Records that a value does not open, and sees to it that the value is not found again.
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

/// The tokens of question and answer together.
const fn tokens(usage: Usage) -> u64 {
    usage.prompt_tokens as u64 + usage.completion_tokens as u64
}
