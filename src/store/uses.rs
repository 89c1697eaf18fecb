//! The counts of how often entries were served, written behind the replies in batches. They are
//! statistics: each read has its own audit record, so the counts need none, and their transaction
//! is of a kind of its own.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Executor;
use uuid::Uuid;

use crate::domain::ids::EntryId;

use super::{StoreError, SystemTx, UseTx, invalidations};

/// The time after which nobody repeats a batch any more.
const KEPT: TimeDelta = TimeDelta::days(1);

/// Uses of one entry since they were last written.
#[derive(Debug, Clone, Copy)]
pub struct EntryUses {
    /// The entry.
    pub entry: EntryId,
    /// The number of uses.
    pub count: i64,
    /// The time of the last use.
    pub last: DateTime<Utc>,
}

/// The name of a batch: its process and its number. Numbers ascend, and a batch has the uses of one
/// tenant.
#[derive(Debug, Clone, Copy)]
pub struct UseBatch {
    /// The process that writes.
    pub writer: Uuid,
    /// The number, ascending from 1.
    pub number: i64,
    /// The time of the writing.
    pub at: DateTime<Utc>,
}

/// Adds uses to entries of the transaction's tenant, once however often a batch is given. Entries
/// that are gone are passed over, and an entry may be named once only. Invalidations wait until the
/// end, because they lock many entries in an order of their own.
pub async fn add(tx: &mut UseTx, batch: UseBatch, uses: &[EntryUses]) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    let ids: Vec<Uuid> = uses.iter().map(|uses| uses.entry.0).collect();
    let counts: Vec<i64> = uses.iter().map(|uses| uses.count).collect();
    let lasts: Vec<DateTime<Utc>> = uses.iter().map(|uses| uses.last).collect();
    invalidations::lock_shared(tx).await?;
    if !take_turn(tx, batch).await? {
        return Ok(());
    }
    // The rows are locked in order, so that two processes that write of the same entries take
    // turns.
    sqlx::query!(
        "WITH locked AS MATERIALIZED (
             SELECT entry_id FROM ai_cache_entries WHERE tenant_id = $1 AND entry_id = ANY ($2)
             ORDER BY entry_id FOR NO KEY UPDATE)
         UPDATE ai_cache_entries e
         SET access_count = e.access_count + u.count,
             last_accessed_at = greatest(e.last_accessed_at, u.last)
         FROM unnest($2::uuid[], $3::bigint[], $4::timestamptz[]) AS u (id, count, last)
         JOIN locked ON locked.entry_id = u.id
         WHERE e.tenant_id = $1 AND e.entry_id = u.id",
        tenant,
        &ids,
        &counts,
        &lasts
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Returns whether the batch is not written yet. It waits for a former try that is still under way.
async fn take_turn(tx: &mut UseTx, batch: UseBatch) -> Result<bool, StoreError> {
    tx.connection()?.execute("SET LOCAL ROLE ai_cache_system").await?;
    let done = sqlx::query!(
        "INSERT INTO use_writers (writer_id, batch, written_at) VALUES ($1, $2, $3)
         ON CONFLICT ON CONSTRAINT use_writers_pk DO UPDATE
         SET batch = EXCLUDED.batch, written_at = EXCLUDED.written_at
         WHERE use_writers.batch < EXCLUDED.batch",
        batch.writer,
        batch.number,
        batch.at
    )
    .execute(tx.connection()?)
    .await?;
    tx.connection()?.execute("SET LOCAL ROLE NONE").await?;
    Ok(done.rows_affected() == 1)
}

/// Forgets a writer that ends, and the writers that were killed long ago.
pub async fn delete_writer(
    tx: &mut SystemTx,
    writer: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE FROM use_writers WHERE writer_id = $1 OR written_at < $2",
        writer,
        now - KEPT
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}
