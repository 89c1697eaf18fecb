//! What can go wrong with Redis, without a word of its own: drivers repeat commands.

use deadpool_redis::redis::{self, ErrorKind, ServerErrorKind};

/// Why Redis did not do what was asked. Names no key and no value.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RedisError {
    /// A URL is not one of Redis, or several are not of one cluster.
    #[error("AI_CACHE_REDIS_URL holds a malformed URL, or nodes that differ in more than address")]
    InvalidUrl,
    /// No answer within the limit.
    #[error("Redis did not answer within its limit")]
    TimedOut,
    /// Not reachable, or the connection broke.
    #[error("Redis is out of reach")]
    Unreachable,
    /// Its certificate is not one we trust for that name.
    #[error("the certificate of Redis is not trusted")]
    Untrusted,
    /// It failed too often a moment ago and is left alone.
    #[error("Redis is left alone after failures")]
    Open,
    /// It cannot serve just now: it loads, or the key's part of the cluster has no master.
    #[error("Redis cannot serve just now ({code})")]
    NotReady {
        /// The error's first word: LOADING, CLUSTERDOWN…
        code: String,
    },
    /// It answered with an error of its own.
    #[error("Redis refused the command ({code})")]
    Refused {
        /// The error's first word: READONLY, OOM…
        code: String,
    },
    /// It answered what the command does not answer.
    #[error("Redis answered something else than was asked for")]
    Unintelligible,
    /// A floor cannot be that far.
    #[error("the position is out of range")]
    PositionOutOfRange,
}

impl RedisError {
    /// What kind of failure an error of the library is.
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
            // The library keeps the cause to itself; its words are looked at and dropped.
            _ if error.to_string().contains("certificate") => Self::Untrusted,
            _ => Self::Unreachable,
        }
    }

    /// Whether Redis did not serve, rather than refuse what was asked.
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
