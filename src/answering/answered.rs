//! Every way in which a question may end. Shapes only.

use crate::audit::AuditError;
use crate::call::ServiceError;
use crate::domain::entry::Tier;
use crate::domain::ids::EntryId;
use crate::domain::money::Usd;
use crate::keyring::{KeyringError, Plaintext};
use crate::store::StoreError;
use crate::upstream::UpstreamError;

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerSource {
    /// A tier.
    Tier(Tier),
    /// A tier, after the answer's time was over.
    Stale {
        /// The tier.
        tier: Tier,
        /// Whether the upstream is asked behind the reply, or was asked before it.
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
    /// Answer, model and usage as JSON. `None`: there is no answer.
    pub data: Option<Plaintext>,
    /// Where the answer came from.
    pub source: AnswerSource,
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
