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
use crate::tiers::{Found, Wanted};
use crate::upstream::UpstreamError;

use super::ServiceError;

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

/// A question as it is looked up and fetched.
#[derive(Clone)]
pub(super) struct Lookup {
    pub(super) request: Arc<QueryRequest>,
    pub(super) key: EntryKey,
    pub(super) wanted: Wanted,
    pub(super) model: Arc<str>,
    pub(super) position: Position,
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
    pub(super) fn redis_key(&self) -> [u8; 32] {
        self.key.tenant().redis_key(&self.wanted.place.key)
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

/// What a flight fetches and stores.
pub(super) struct Fetch {
    pub(super) lookup: Lookup,
    /// Of the labels it is stored with.
    pub(super) indexes: LabelIndexes,
    /// The record of the fill, but for what the answer tells.
    pub(super) fill_record: AuditRecord,
}
