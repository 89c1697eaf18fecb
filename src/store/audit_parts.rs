//! Partitions of the audit trail that are past their class, and their end. A function of the
//! database drops them; it checks age, holds and the record of the drop.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Executor;
use uuid::Uuid;

use crate::domain::ids::{AuditId, LedgerId, WriterId};

use super::{StoreError, SystemTx, WriteTx};

/// The longest time for work that reads a month of the trail.
pub const LIMIT: Duration = Duration::from_mins(10);

/// A partition that holds rows.
#[derive(Debug, Clone)]
pub struct AuditPart {
    /// The name.
    pub name: String,
    /// The number of its rows. For a large partition that is not due it is an estimate.
    pub rows: u64,
    /// Whether every row it can hold is past its class.
    pub due: bool,
    /// Whether a legal hold keeps one of its rows.
    pub held: bool,
}

/// Lists the partitions of the trail at `now`.
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

/// Drops a partition and returns the number of its rows. Returns `None` if a legal hold keeps one
/// of them. The named record must be added before the commit. Fails with [`StoreError::Contended`]
/// if somebody reads the partition.
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

/// Returns the id that records name a partition by, whether it exists or not.
pub async fn find_object(tx: &mut WriteTx, name: &str) -> Result<Option<Uuid>, StoreError> {
    let object = sqlx::query_scalar!("SELECT audit_part_object($1)", name)
        .fetch_one(tx.connection()?)
        .await?;
    Ok(object)
}

/// The records of one writer that justified purges took.
#[derive(Debug, Clone, Copy)]
pub struct PurgedWriter {
    /// The ledger.
    pub ledger: LedgerId,
    /// The writer.
    pub writer: WriterId,
    /// The number of records.
    pub rows: i64,
    /// The greatest of their numbers.
    pub last: i64,
}

/// Lists what was purged of each writer, together with the partition it was in.
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
