//! What a question is looked up by, and every way it may end. Shapes only: `query`, `miss` and
//! `fill` give them life.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::audit::AuditError;
use crate::crypto::Secret;
use crate::domain::audit_record::AuditRecord;
use crate::domain::candidate::{Candidate, LabelIndexes, LabelPrefixes};
use crate::domain::entry::{Place, Tier};
use crate::domain::ids::EntryId;
use crate::domain::money::Usd;
use crate::domain::query::QueryRequest;
use crate::domain::selector::Position;
use crate::keyring::{EntryKey, KeyringError, Plaintext};
use crate::store::StoreError;
use crate::tiers::{Found, Wanted, WarmName};
use crate::upstream::UpstreamError;

use crate::call::ServiceError;

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A tier.
    Tier(Tier),
    /// A tier, beyond the answer's time.
    Stale {
        /// Which.
        tier: Tier,
        /// Whether the upstream is asked behind the reply, or was before it.
        asked: bool,
    },
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
    /// Whole seconds the answer is still good; 0 when it is not stored, negative when it is stale.
    pub expires_in_seconds: i64,
    /// What this reply saved: nothing when stale, since the answer is being paid for again.
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

/// A question as it is looked up and fetched.
#[derive(Clone)]
pub(super) struct Lookup {
    pub(super) request: Arc<QueryRequest>,
    pub(super) key: EntryKey,
    pub(super) wanted: Wanted,
    pub(super) model: Arc<str>,
    pub(super) position: Position,
    /// The history the position is of.
    pub(super) era: u64,
}

impl Lookup {
    /// What selectors are held against while nothing is found.
    pub(super) fn candidate<'a>(&'a self, labels: &'a LabelPrefixes) -> Candidate<'a> {
        Candidate {
            place: &self.wanted.place,
            entry: None,
            operation: self.request.operation,
            subject_key: self.key.subject(),
            labels,
        }
    }

    /// The entry's name in Redis.
    pub(super) fn warm_name(&self) -> WarmName<'_> {
        let keys = self.key.tenant();
        let key = keys.redis_key(&self.wanted.place.key);
        WarmName::new(key, keys.redis_value(), self.era)
    }
}

/// How a flight ended. Shared by all who wait for it.
pub(super) enum Landing {
    /// In a lower tier.
    Found(Found),
    /// The upstream answered.
    Fetched(Fetched),
    /// The upstream did not.
    Failed {
        error: UpstreamError,
        /// What may be served instead, to those who accept its age.
        stale: Option<Found>,
    },
    /// Records cannot be made, so the upstream was not asked.
    Unrecordable(AuditError),
    /// The upstream answered about a person of whom nothing is told any more.
    Withheld(Withheld),
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

/// What a flight fetches and stores.
pub(super) struct Fetch {
    pub(super) lookup: Lookup,
    /// Of the labels it is stored with.
    pub(super) indexes: LabelIndexes,
    /// The record of the fill, but for what the answer tells.
    pub(super) fill_record: AuditRecord,
}
