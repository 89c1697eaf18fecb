//! Turns each error of the service into the problem of a reply. A problem must hold nothing that a
//! client may not know, above all no message of a database driver.

use crate::administration::{EntriesError, TenantError, TokenError};
use crate::answering::QueryError;
use crate::audit::AuditError;
use crate::auth::{AuthError, HasherError};
use crate::call::ServiceError;
use crate::compliance::{GdprError, ProofError, PurgeError};
use crate::domain::fields::FieldError;
use crate::domain::json::JsonError;
use crate::keyring::KeyringError;
use crate::store::StoreError;
use crate::upstream::UpstreamError;

use super::problem::{Problem, ProblemKind};

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Self {
        let kind = match &error {
            JsonError::NotUtf8 { .. } => ProblemKind::NotUtf8,
            JsonError::Syntax { .. } | JsonError::NumberOutOfRange { .. } => {
                ProblemKind::MalformedBody
            }
            JsonError::DuplicateKey { .. } => ProblemKind::DuplicateKey,
            JsonError::TooDeep => ProblemKind::TooDeep,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<Vec<FieldError>> for Problem {
    fn from(errors: Vec<FieldError>) -> Self {
        Self::invalid(errors)
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Malformed | AuthError::Refused => Self::unauthenticated(),
            AuthError::Limited { retry_after } => Self {
                retry_after: Some(retry_after.as_secs() + 1),
                ..Self::new(ProblemKind::TooManyRequests, "too many tokens to verify")
            },
            AuthError::Overloaded => {
                Self::new(ProblemKind::Overloaded, "too many tokens wait to be verified")
            }
            AuthError::Unavailable(_) => {
                Self::new(ProblemKind::AuthUnavailable, "the token cannot be looked up now")
            }
            AuthError::Hasher(error) => Self::internal(&error),
        }
    }
}

impl Problem {
    /// Makes the problem for every token that is not accepted. It never tells the reason.
    pub fn unauthenticated() -> Self {
        Self::new(ProblemKind::Unauthenticated, "the bearer token is missing or not accepted")
    }

    /// Logs the error once and tells the caller nothing about it. The log holds no message of a
    /// driver, because such a message may hold values of rows.
    fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(ProblemKind::Internal, "the failure was logged under the request's id")
    }
}

impl From<AuditError> for Problem {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::QueueFull | AuditError::Unavailable => {
                Self::new(ProblemKind::AuditUnavailable, "no data is given without its record")
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        use StoreError as E;
        match error {
            E::Unreachable(_) | E::Refused { .. } | E::TimedOut | E::Contended(_) => {
                tracing::warn!(%error, "a request needed Postgres");
                Self::new(ProblemKind::StorageUnavailable, "the storage cannot be reached now")
            }
            E::Constraint(_) | E::UnknownValue(_) | E::ForeignRecord | E::Statement { .. } => {
                Self::internal(&error)
            }
        }
    }
}

impl From<ProofError> for Problem {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::Audit(error) => error.into(),
            ProofError::Store(error) => error.into(),
            ProofError::Checkpoint(error) => Self::internal(&error),
        }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Audit(error) => error.into(),
            ServiceError::Store(error) | ServiceError::Keyring(KeyringError::Store(error)) => {
                error.into()
            }
            ServiceError::NotPropagated(_) => {
                Self::new(ProblemKind::NotPropagated, "it is committed; repeating it is safe")
            }
            ServiceError::Revoked => Self::unauthenticated(),
            ServiceError::Erased => Self::new(ProblemKind::Conflict, error.to_string()),
            ServiceError::Restricted => {
                Self::new(ProblemKind::Restricted, "they are only kept, neither served nor changed")
            }
            ServiceError::Keyring(_)
            | ServiceError::Malformed
            | ServiceError::Package(_)
            | ServiceError::TaskLost => Self::internal(&error),
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Service(error) => error.into(),
            QueryError::Upstream(error) => error.into(),
            QueryError::NotCached => {
                Self::new(ProblemKind::NotCached, "the question is not cached and was not fetched")
            }
        }
    }
}

impl From<UpstreamError> for Problem {
    fn from(error: UpstreamError) -> Self {
        let kind = match &error {
            UpstreamError::TimedOut => ProblemKind::UpstreamTimeout,
            UpstreamError::Unreachable
            | UpstreamError::Refused { .. }
            | UpstreamError::Failed { .. }
            | UpstreamError::RateLimited { .. }
            | UpstreamError::BadAnswer { .. }
            | UpstreamError::CircuitOpen { .. }
            | UpstreamError::NotConfigured => ProblemKind::UpstreamFailed,
        };
        let retry_after = match &error {
            UpstreamError::RateLimited { retry_after } => retry_after.map(|pause| pause.as_secs()),
            UpstreamError::CircuitOpen { retry_after } => Some(retry_after.as_secs()),
            _ => None,
        };
        Self { retry_after, ..Self::new(kind, error.to_string()) }
    }
}

impl From<EntriesError> for Problem {
    fn from(error: EntriesError) -> Self {
        match error {
            EntriesError::Service(error) => error.into(),
            EntriesError::NotFound => Self::not_found(),
        }
    }
}

impl From<GdprError> for Problem {
    fn from(error: GdprError) -> Self {
        let kind = match &error {
            GdprError::NotFound => return Self::not_found(),
            GdprError::OtherFiling => ProblemKind::InvalidField,
            GdprError::SameHands => ProblemKind::Forbidden,
            GdprError::Gone => ProblemKind::Gone,
            GdprError::State(..)
            | GdprError::ExtendedBefore
            | GdprError::LiftedBefore
            | GdprError::PastDue
            | GdprError::NotExecuted(_) => ProblemKind::Conflict,
            GdprError::Service(_) => ProblemKind::Internal,
        };
        match error {
            GdprError::Service(error) => error.into(),
            other => Self::new(kind, other.to_string()),
        }
    }
}

impl From<PurgeError> for Problem {
    fn from(error: PurgeError) -> Self {
        match error {
            PurgeError::Service(error) => error.into(),
            PurgeError::UnderWay => Self::new(ProblemKind::Conflict, error.to_string()),
        }
    }
}

impl From<TenantError> for Problem {
    fn from(error: TenantError) -> Self {
        match error {
            TenantError::Service(error) => error.into(),
            TenantError::SlugTaken | TenantError::Installation => {
                Self::new(ProblemKind::Conflict, error.to_string())
            }
            TenantError::NotFound => Self::not_found(),
        }
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Service(error) => error.into(),
            TokenError::MayNotGrant => Self::new(ProblemKind::Forbidden, error.to_string()),
            TokenError::NotFound => Self::not_found(),
            TokenError::Hasher(HasherError::Busy) => {
                Self::new(ProblemKind::Overloaded, "too many tokens wait to be hashed")
            }
            TokenError::Hasher(_) | TokenError::Crypto(_) => Self::internal(&error),
        }
    }
}
