//! Which processes serve, and how far each has followed the invalidation stream. Their leases are
//! renewed by `follow`.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

use crate::domain::selector::Position;

use super::{StoreError, SystemTx};

/// Replicas that have not applied a step, and those that have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Laggards {
    /// Those whose lease still runs.
    pub live: i64,
    /// Those whose lease ran out.
    pub silent: i64,
    /// Those of the silent who may serve what Redis proves.
    pub with_floor: i64,
    /// Those that have applied it and whose lease still runs.
    pub followed: i64,
}

/// How long a replica counts after its last sign of life.
#[derive(Debug, Clone, Copy)]
pub struct ReplicaLeases {
    /// As live.
    pub live: Duration,
    /// As silent.
    pub silent: Duration,
}

/// How many replicas have not applied the step at `position`, and how many have.
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

/// Removes replicas that have ended, and the ones that have been silent for a day.
pub async fn delete(tx: &mut SystemTx, ended: &[Uuid]) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE FROM replicas WHERE replica_id = ANY ($1) OR seen_at < now() - interval '1 day'",
        ended
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// A duration as Postgres counts it.
pub(super) fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}
