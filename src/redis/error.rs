//! The failures of Redis. They have no text of the driver, because drivers repeat commands.

use deadpool_redis::redis::{self, ErrorKind, ServerErrorKind};

/// The reason why Redis did not do a command. It names no key and no value.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RedisError {
    /// A URL is not one of Redis, or several URLs are not of one cluster.
    #[error("AI_CACHE_REDIS_URL holds a malformed URL, or nodes that differ in more than address")]
    InvalidUrl,
    /// Redis gave no answer within the limit.
    #[error("Redis did not answer within its limit")]
    TimedOut,
    /// Redis is not reachable, or the connection broke.
    #[error("Redis is out of reach")]
    Unreachable,
    /// The certificate of Redis is not trusted for that name.
    #[error("the certificate of Redis is not trusted")]
    Untrusted,
    /// Redis failed too often a moment ago and is left alone.
    #[error("Redis is left alone after failures")]
    Open,
    /// Redis cannot serve just now: it loads, the key's part of the cluster has no master, or the
    /// key is on another node or on its way there.
    #[error("Redis cannot serve just now ({code})")]
    NotReady {
        /// The first word of the error: LOADING, CLUSTERDOWN…
        code: String,
    },
    /// Redis answered with an error of its own.
    #[error("Redis refused the command ({code})")]
    Refused {
        /// The first word of the error: READONLY, OOM…
        code: String,
    },
    /// Redis gave an answer that the command does not have.
    #[error("Redis answered something else than was asked for")]
    Unintelligible,
    /// The position is outside the range that a floor can have.
    #[error("the position is out of range")]
    PositionOutOfRange,
}

impl RedisError {
    /// Maps an error of the library to a kind of failure.
    pub(super) fn of(error: &redis::RedisError) -> Self {
        use ServerErrorKind::{Ask, BusyLoading, ClusterDown, MasterDown, Moved, TryAgain};
        if error.is_timeout() {
            return Self::TimedOut;
        }
        let code = || error.code().unwrap_or("ERR").to_owned();
        match error.kind() {
            ErrorKind::Server(Ask | BusyLoading | ClusterDown | MasterDown | Moved | TryAgain) => {
                Self::NotReady { code: code() }
            }
            ErrorKind::Server(_) | ErrorKind::Extension => Self::Refused { code: code() },
            ErrorKind::UnexpectedReturnType => Self::Unintelligible,
            // The library keeps the cause to itself, so its words are looked at and dropped.
            _ if error.to_string().contains("certificate") => Self::Untrusted,
            _ => Self::Unreachable,
        }
    }

    /// Returns whether Redis did not serve at all, rather than refuse the command.
    pub(super) const fn is_failure(&self) -> bool {
        match self {
            Self::TimedOut | Self::Unreachable | Self::Untrusted | Self::NotReady { .. } => true,
            Self::InvalidUrl
            | Self::Open
            | Self::Refused { .. }
            | Self::Unintelligible
            | Self::PositionOutOfRange => false,
        }
    }
}
