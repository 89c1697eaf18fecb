//! Partitions of the audit trail: which are past their class, and their end. They are dropped by a
//! function of the database that checks age, holds and the record of it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Executor;
use uuid::Uuid;

use crate::domain::ids::{AuditId, LedgerId, WriterId};

use super::{StoreError, SystemTx, WriteTx};

/// Longest time for what reads a month of the trail.
pub const LIMIT: Duration = Duration::from_mins(10);

/// A partition that holds rows.
#[derive(Debug, Clone)]
pub struct AuditPart {
    /// Its name.
    pub name: String,
    /// Its rows; of a large one that is not due about as many.
    pub rows: u64,
    /// Whether every row it can hold is past its class.
    pub due: bool,
    /// Whether a legal hold keeps a row of it.
    pub held: bool,
}

/// The trail's partitions at `now`.
pub async fn list(tx: &mut SystemTx, now: DateTime<Utc>) -> Result<Vec<AuditPart>, StoreError> {
    tx.connection()?.execute("SET LOCAL statement_timeout = 0").await?;
    let rows = sqlx::query!(
        r#"SELECT part AS "name!", row_count AS "rows!", due AS "due!", held AS "held!"
           FROM list_audit_parts($1)"#,
        now
    )
    .fetch_all(tx.connection()?)
    .await?;
    let part = rows.into_iter().map(|row| AuditPart {
        name: row.name,
        rows: u64::try_from(row.rows).unwrap_or(0),
        due: row.due,
        held: row.held,
    });
    Ok(part.collect())
}

/// Drops a partition; returns how many rows went, `None`: a legal hold keeps one. The record named
/// must be added before the commit. [`StoreError::Contended`]: somebody reads it.
pub async fn delete(
    tx: &mut WriteTx,
    name: &str,
    now: DateTime<Utc>,
    record: AuditId,
) -> Result<Option<u64>, StoreError> {
    tx.connection()?.execute("SET LOCAL ROLE ai_cache_system").await?;
    tx.connection()?.execute("SET LOCAL statement_timeout = 0").await?;
    let rows = sqlx::query_scalar!(
        r#"SELECT purge_audit_part($1, $2, $3) AS "rows!""#,
        name,
        now,
        record.0
    )
    .fetch_one(tx.connection()?)
    .await?;
    tx.connection()?.execute("SET LOCAL ROLE NONE").await?;
    Ok(u64::try_from(rows).ok())
}

/// What records name a partition by, there or not.
pub async fn find_object(tx: &mut WriteTx, name: &str) -> Result<Option<Uuid>, StoreError> {
    let object = sqlx::query_scalar!("SELECT audit_part_object($1)", name)
        .fetch_one(tx.connection()?)
        .await?;
    Ok(object)
}

/// How many of a writer's records justified purges took.
#[derive(Debug, Clone, Copy)]
pub struct PurgedWriter {
    /// Of which history.
    pub ledger: LedgerId,
    /// The writer.
    pub writer: WriterId,
    /// How many.
    pub rows: i64,
    /// The greatest of their numbers.
    pub last: i64,
}

/// What was purged of each writer, together with the partition it was in.
pub async fn list_purged_writers(
    tx: &mut SystemTx,
) -> Result<Vec<(String, PurgedWriter)>, StoreError> {
    let rows = sqlx::query!(
        "SELECT part_name, ledger_id, writer_id, row_count, last_seq FROM audit_purged_writers"
    )
    .fetch_all(tx.connection()?)
    .await?;
    let purged = rows.into_iter().map(|row| {
        let (ledger, writer) = (LedgerId(row.ledger_id), WriterId(row.writer_id));
        (row.part_name, PurgedWriter { ledger, writer, rows: row.row_count, last: row.last_seq })
    });
    Ok(purged.collect())
}
