//! The reasons why the service does not start.

use crate::audit::{AuditStartError, LedgerError, LineFileError};
use crate::auth::HasherError;
use crate::call::ServiceError;
use crate::compliance::RestoreError;
use crate::crypto::CryptoError;
use crate::http::ServerError;
use crate::redis::RedisError;
use crate::store::StoreError;
use crate::store::guard::GuardError;
use crate::telemetry::MetricsError;

/// The reason why the service does not start, in one line.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The database is not fit to serve from.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Redis is configured wrongly.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The metrics cannot be made.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// There are no random bytes.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The pool that hashes tokens cannot be made.
    #[error(transparent)]
    Hasher(#[from] HasherError),
    /// The HTTP server cannot be started.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The audit trail cannot be started.
    #[error(transparent)]
    Audit(#[from] AuditStartError),
    /// The checkpoint file or the erasure ledger cannot be used.
    #[error(transparent)]
    Outside(#[from] LineFileError),
    /// A use case failed.
    #[error(transparent)]
    Service(ServiceError),
}

impl From<LedgerError> for AppError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Store(error) => error.into(),
            LedgerError::Checkpoint(error) => error.into(),
        }
    }
}

impl From<RestoreError> for AppError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Service(ServiceError::Store(error)) => error.into(),
            RestoreError::Service(error) => Self::Service(error),
            RestoreError::File(error) => error.into(),
            RestoreError::Missing => Self::Service(ServiceError::Malformed),
        }
    }
}
