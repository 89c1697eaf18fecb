//! A replica's own connection to Postgres. On it the replica keeps its lease and follows the
//! invalidation stream, so that requests that take every connection of the pool keep it from
//! neither.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{ConnectOptions, Executor, PgConnection};
use uuid::Uuid;

use crate::domain::ids::TenantId;
use crate::domain::selector::{Position, Step};

use super::invalidations::{self, CHANNEL};
use super::replicas::interval;
use super::tenants::{self, TenantRow};
use super::{Store, StoreError, SystemTx, in_time};

/// The longest time of one statement, with connecting: a poll and its floor come before the last
/// proof ends.
const LIMIT: Duration = Duration::from_millis(1_200);

/// A query of which `here` is a part: the history that the server is on.
macro_rules! query_here {
    ($query:literal $(, $argument:expr)*) => {
        sqlx::query!(
            r#"WITH here AS (
                   SELECT format('%s-%s-%s', s.system_identifier,
                                 left(pg_walfile_name(pg_current_wal_lsn()), 8),
                                 (SELECT max(ledger_id::text) FROM audit_ledgers)) AS history
                   FROM pg_control_system() s)
               "# + $query
            $(, $argument)*
        )
    };
}

/// The history that the stream's positions belong to. A restored or promoted Postgres has another
/// history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    name: String,
}

impl History {
    /// Returns the name, which differs from every other history's.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The state of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The newest position.
    pub position: Position,
    /// The position up to which steps are no longer kept.
    pub trimmed_to: Position,
    /// The history of the positions.
    pub history: History,
    /// The time of the step at the asker's position, if it is kept. Another time there means
    /// another history.
    pub at_position: Option<DateTime<Utc>>,
    /// The replicas whose lease runs. This one is perhaps not counted.
    pub live_replicas: u32,
    /// Whether no replica whose lease runs is older than the asker.
    pub is_eldest: bool,
}

/// The replica that follows.
#[derive(Debug, Clone, Copy)]
pub struct Follower {
    /// The time for which a replica counts as live after its last sign of life.
    pub lease: Duration,
    /// Whether it may prove its position by a floor.
    pub floor: bool,
    /// The id of the process.
    pub replica: Uuid,
    /// The time since when it runs.
    pub started_at: DateTime<Utc>,
}

/// The connection. It is made when it is used, and anew after each failure.
#[derive(Debug)]
pub struct FollowConnection {
    store: Store,
    connection: Option<PgConnection>,
}

impl FollowConnection {
    /// Makes a follower that is not connected yet.
    pub const fn new(store: Store) -> Self {
        Self { store, connection: None }
    }

    /// Gives the connection up, because it belongs to the runtime that made it.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Renews the lease of a replica that has applied everything up to `applied`, and returns the
    /// state of the stream. It is one statement, which sees everything that was committed before it
    /// was sent.
    pub async fn poll(
        &mut self,
        follower: &Follower,
        applied: Position,
        history: Option<&History>,
    ) -> Result<Tail, StoreError> {
        self.bounded(async |connection| {
            let row = query_here!(
                r#", renewed AS (
                       INSERT INTO replicas AS r
                           (replica_id, started_at, seen_at, applied_position, has_floor)
                       SELECT $1, $2, now(), CASE WHEN here.history = $5 THEN $3::bigint ELSE 0 END, $6
                       FROM here
                       ON CONFLICT ON CONSTRAINT replicas_pk
                       DO UPDATE SET seen_at = greatest(r.seen_at, EXCLUDED.seen_at),
                                     applied_position = EXCLUDED.applied_position)
                   SELECT t.position, t.trimmed_to, here.history AS "history!",
                          (SELECT at FROM invalidations i WHERE i.position = $3) AS at_position,
                          (SELECT count(*) FROM replicas WHERE seen_at > now() - $4::interval)
                              AS "live!",
                          NOT EXISTS (SELECT FROM replicas
                                      WHERE seen_at > now() - $4::interval
                                        AND (started_at, replica_id) < ($2, $1)) AS "is_eldest!"
                   FROM stream_tail t, here"#,
                follower.replica,
                follower.started_at,
                applied.0,
                interval(follower.lease),
                history.map(History::name),
                follower.floor
            )
            .fetch_one(connection)
            .await?;
            Ok(Tail {
                position: Position(row.position),
                trimmed_to: Position(row.trimmed_to),
                history: History { name: row.history },
                at_position: row.at_position,
                live_replicas: u32::try_from(row.live).unwrap_or(u32::MAX),
                is_eldest: row.is_eldest,
            })
        })
        .await
    }

    /// Lists at most `limit` steps after `position`, in order, each with its time.
    pub async fn list_after(
        &mut self,
        position: Position,
        limit: i64,
    ) -> Result<Vec<(Step, DateTime<Utc>)>, StoreError> {
        self.bounded(async |connection| {
            invalidations::list_after(connection, position, limit).await
        })
        .await
    }

    /// Lists these tenants.
    pub async fn list_tenants(&mut self, ids: &[TenantId]) -> Result<Vec<TenantRow>, StoreError> {
        self.bounded(async |connection| tenants::list_by_ids(connection, ids).await).await
    }

    /// Runs a statement within the limit. A connection whose statement failed, or did not end in
    /// time, is not used again.
    async fn bounded<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let kept = self.connection.take();
        let store = &self.store;
        let (connection, value) = in_time(LIMIT, async {
            let mut connection = match kept {
                Some(connection) => connection,
                None => connect(store).await?,
            };
            let value = work(&mut connection).await?;
            Ok::<_, StoreError>((connection, value))
        })
        .await?;
        self.connection = Some(connection);
        Ok(value)
    }
}

async fn connect(store: &Store) -> Result<PgConnection, StoreError> {
    let mut connection = store.options.connect().await?;
    connection.execute("SET ROLE ai_cache_system").await?;
    Ok(connection)
}

/// Reads the history that the stream is of.
pub async fn read_history(tx: &mut SystemTx) -> Result<History, StoreError> {
    let row = query_here!(r#"SELECT history AS "history!" FROM here"#)
        .fetch_one(tx.connection()?)
        .await?;
    Ok(History { name: row.history })
}

/// Hears of each step when it is committed. It may miss some, so its listener must poll as well.
#[derive(Debug)]
pub struct StreamListener(PgListener);

impl StreamListener {
    /// Resolves at the next step. Returns false if the connection was lost meanwhile.
    pub async fn heard(&mut self) -> Result<bool, StoreError> {
        Ok(Box::pin(self.0.try_recv()).await?.is_some())
    }
}

impl Store {
    /// Listens to the stream on a connection of its own.
    pub async fn listen(&self) -> Result<StreamListener, StoreError> {
        self.in_time(async {
            let pool = PgPoolOptions::new()
                .max_connections(1)
                .acquire_timeout(self.limit)
                .connect_lazy_with((*self.options).clone());
            // It is boxed, as is the future that connects again: each takes 40 KB.
            let mut listener = Box::pin(PgListener::connect_with(&pool)).await?;
            Box::pin(listener.listen(CHANNEL)).await?;
            Ok(StreamListener(listener))
        })
        .await
    }
}
