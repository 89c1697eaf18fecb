//! Postgres, the system of record. This module is the only user of sqlx, and rows of a tenant are
//! reached only through the transactions of `tx`. It never handles plaintext and never logs a
//! driver's details.

pub mod audit;
pub mod audit_parts;
pub mod audit_rows;
mod ending;
pub mod entries;
pub mod erasures;
pub mod evictions;
pub mod follow;
pub mod gdpr;
pub mod guard;
pub mod holds;
pub mod invalidations;
pub mod keys;
pub mod ledgers;
pub mod migrate;
mod open_tx;
pub mod removals;
pub mod replicas;
pub mod retention;
pub mod seals;
pub mod tenants;
pub mod tokens;
pub mod trail;
pub mod tx;
pub mod uses;
pub mod verifications;
pub mod wrapping;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgPool};

use crate::telemetry::Metrics;

pub use ending::{Ending, Recorded};
pub use tx::{Reading, Snapshot, SystemTx, TenantTx, UseTx, WorkError, WriteTx};

/// The reason why Postgres did not do what was asked. It tells nothing of rows.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres is not reachable, or the connection broke.
    #[error("Postgres is out of reach")]
    Unreachable(#[source] sqlx::Error),
    /// The server does not know the role, its password or the database.
    #[error(
        "Postgres refused the connection (SQLSTATE {code}): check role, password and database of \
         DATABASE_URL"
    )]
    Refused {
        /// The SQLSTATE.
        code: String,
        /// The error of the server.
        #[source]
        source: sqlx::Error,
    },
    /// Postgres did not answer within the limit.
    #[error("Postgres did not answer within its limit")]
    TimedOut,
    /// A hand-named constraint refused the change.
    #[error("the constraint {0} refused the change")]
    Constraint(String),
    /// Another transaction was in the way. The work may be tried again.
    #[error("another transaction was in the way")]
    Contended(#[source] sqlx::Error),
    /// A row holds a value that this release does not know.
    #[error("a row holds an unknown {0}")]
    UnknownValue(&'static str),
    /// A commit was asked for with the record of another transaction.
    #[error("the record given belongs to another transaction")]
    ForeignRecord,
    /// Any other failure of a statement.
    #[error("a statement failed (SQLSTATE {code})")]
    Statement {
        /// The SQLSTATE, or `none`.
        code: String,
        /// The driver's error. Its text may hold row values: never print it.
        #[source]
        source: sqlx::Error,
    },
}

impl StoreError {
    /// Returns whether the database as a whole is not usable just now.
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Refused { .. } | Self::TimedOut)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                if let Some(name) = database.constraint() {
                    return Self::Constraint(name.to_owned());
                }
                let code = database.code().unwrap_or_default().into_owned();
                match code.get(..2) {
                    Some("08" | "57" | "53") => Self::Unreachable(error),
                    Some("28" | "3D") => Self::Refused { code, source: error },
                    Some("40" | "55") => Self::Contended(error),
                    _ => Self::Statement { code, source: error },
                }
            }
            sqlx::Error::PoolTimedOut => Self::TimedOut,
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unreachable(error),
            _ => Self::Statement { code: "none".to_owned(), source: error },
        }
    }
}

/// The longest time for work that may read a whole tenant.
const LONG_LIMIT: Duration = Duration::from_secs(12);

/// The settings to reach Postgres.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The connections that are kept for requests. The audit writer has one of its own besides.
    pub pool_size: u32,
    /// The longest time for one unit of work.
    pub limit: Duration,
}

/// Connections to Postgres as the service's role.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    options: Arc<PgConnectOptions>,
    limit: Duration,
    metrics: Arc<Metrics>,
}

impl Store {
    /// Prepares a pool. It connects when it is first used.
    ///
    /// # Errors
    /// The URL is not one of Postgres.
    pub fn new(
        url: &str,
        settings: &StoreSettings,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url.parse()?;
        let options = options.application_name("ai-cache").disable_statement_logging().options([
            ("synchronous_commit", "on"),
            ("statement_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "15s"),
            ("lock_timeout", "5s"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(settings.pool_size)
            .acquire_timeout(settings.limit)
            .test_before_acquire(false)
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options: Arc::new(options), limit: settings.limit, metrics })
    }

    /// Returns the same connections for work that may read a whole tenant. Its statements end by
    /// themselves after 10 s.
    #[must_use]
    pub fn long(&self) -> Self {
        self.within(LONG_LIMIT)
    }

    /// Returns the same connections for work that may take as long as `limit`.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// Waits for `work`, at most as long as the store's limit.
    async fn in_time<T, E: From<StoreError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        in_time(self.limit, work).await
    }

    /// Checks that Postgres answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.in_time(async {
            sqlx::query!("SELECT 1 AS one").fetch_one(&self.pool).await?;
            Ok(())
        })
        .await
    }

    /// Closes every connection. Those that do not close in time are dropped.
    pub async fn close(&self) {
        let _closed = tokio::time::timeout(self.limit, self.pool.close()).await;
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("limit", &self.limit).finish_non_exhaustive()
    }
}

async fn in_time<T, E: From<StoreError>>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::TimedOut.into()),
    }
}
