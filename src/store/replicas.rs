//! The processes that serve, and how far each has followed the invalidation stream. `follow` renews
//! their leases.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

use crate::domain::selector::Position;

use super::{StoreError, SystemTx};

/// The numbers of replicas that have not applied a step, and of those that have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Laggards {
    /// Those that have not, and whose lease still runs.
    pub live: i64,
    /// Those that have not, and whose lease ran out.
    pub silent: i64,
    /// Those among the silent ones that may serve what Redis proves.
    pub with_floor: i64,
    /// Those that have applied it, and whose lease still runs.
    pub followed: i64,
}

/// The time for which a replica counts after its last sign of life.
#[derive(Debug, Clone, Copy)]
pub struct ReplicaLeases {
    /// It counts as live for this long.
    pub live: Duration,
    /// It counts as silent for this long.
    pub silent: Duration,
}

/// Counts the replicas that have not applied the step at `position`, and those that have.
pub async fn count_laggards(
    tx: &mut SystemTx,
    position: Position,
    leases: ReplicaLeases,
) -> Result<Laggards, StoreError> {
    let row = sqlx::query!(
        r#"SELECT count(*) FILTER (WHERE behind AND alive) AS "live!",
                  count(*) FILTER (WHERE behind AND NOT alive) AS "silent!",
                  count(*) FILTER (WHERE behind AND NOT alive AND has_floor) AS "with_floor!",
                  count(*) FILTER (WHERE NOT behind AND alive) AS "followed!"
           FROM (SELECT applied_position < $1 AS behind, seen_at > now() - $2::interval AS alive,
                        has_floor
                 FROM replicas WHERE seen_at > now() - $3::interval) r"#,
        position.0,
        interval(leases.live),
        interval(leases.silent)
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(Laggards {
        live: row.live,
        silent: row.silent,
        with_floor: row.with_floor,
        followed: row.followed,
    })
}

/// Removes replicas that have ended, and those that have been silent for a day.
pub async fn delete(tx: &mut SystemTx, ended: &[Uuid]) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE FROM replicas WHERE replica_id = ANY ($1) OR seen_at < now() - interval '1 day'",
        ended
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Converts a duration to Postgres' form.
pub(super) fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}
