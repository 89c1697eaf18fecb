//! Which processes serve, and how far each has followed the invalidation stream.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::selector::Position;

use super::{StoreError, SystemTx};

/// Says that a replica lives and what it has applied.
pub async fn upsert(
    tx: &mut SystemTx,
    replica: Uuid,
    started_at: DateTime<Utc>,
    applied: Position,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO replicas (replica_id, started_at, seen_at, applied_position)
         VALUES ($1, $2, now(), $3)
         ON CONFLICT ON CONSTRAINT replicas_pk
         DO UPDATE SET seen_at = now(), applied_position = EXCLUDED.applied_position",
        replica,
        started_at,
        applied.0
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Removes a replica that stops, and the ones that have been silent for a day.
pub async fn delete(tx: &mut SystemTx, replica: Uuid) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE FROM replicas WHERE replica_id = $1 OR seen_at < now() - interval '1 day'",
        replica
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}
