//! Reads the rows of the audit trail as they are stored, in the order in which they are sealed.

use chrono::{DateTime, Utc};
use futures_util::{Stream, TryStreamExt as _};
use sqlx::postgres::types::Oid;
use uuid::Uuid;

use super::seals::TxRange;
use crate::domain::audit_row::AuditRow;
use crate::domain::ids::LedgerId;

use super::audit_rows::{RawRow, row_columns};
use super::{StoreError, SystemTx};

/// A row of the trail, and the partition it lies in.
#[derive(Debug, Clone)]
pub struct TrailRow {
    /// The partition, by its object id.
    pub part: u32,
    /// Whether another transaction than the one that the row names put it there, as its server
    /// knows. A change to a row by SQL leaves that trace, and so does a copy.
    pub rewritten: bool,
    /// The row.
    pub row: AuditRow,
}

#[derive(sqlx::FromRow)]
struct Located {
    part: Oid,
    rewritten: bool,
    #[sqlx(flatten)]
    raw: RawRow,
}

impl From<Located> for TrailRow {
    fn from(found: Located) -> Self {
        Self { part: found.part.0, rewritten: found.rewritten, row: found.raw.into() }
    }
}

/// Selects rows with their partitions. The caller adds which rows, and their order.
macro_rules! select_located {
    ($which:literal) => {
        concat!(
            "SELECT a.tableoid AS part,
                    a.xmin::text::bigint IS DISTINCT FROM a.tx_id & 4294967295 AS rewritten, ",
            row_columns!(),
            " FROM ai_cache_audit_logs a WHERE ",
            $which
        )
    };
}

/// Lets this transaction read for as long as it takes, and through the index of transactions.
pub async fn read_long(tx: &mut SystemTx) -> Result<(), StoreError> {
    sqlx::query!(
        r#"SELECT set_config('statement_timeout', '0', true) AS timeout,
                  set_config('enable_seqscan', 'off', true) AS scan,
                  set_config('jit', 'off', true) AS jit"#
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(())
}

/// Streams the rows of a ledger whose transactions are in `range`, by transaction and id.
pub fn stream(
    tx: &mut SystemTx,
    ledger: LedgerId,
    range: TxRange,
) -> Result<impl Stream<Item = Result<TrailRow, StoreError>>, StoreError> {
    let rows = sqlx::query_as::<_, Located>(select_located!(
        "a.tx_id >= $2 AND a.tx_id < $3 AND a.ledger_id = $1 ORDER BY a.tx_id, a.id"
    ))
    .bind(ledger.0)
    .bind(range.from)
    .bind(range.to)
    .fetch(tx.connection()?);
    Ok(rows.map_ok(TrailRow::from).map_err(StoreError::from))
}

/// Streams the rows of none of these ledgers, and of transactions that cannot exist.
pub fn stream_strays(
    tx: &mut SystemTx,
    ledgers: &[LedgerId],
) -> Result<impl Stream<Item = Result<TrailRow, StoreError>>, StoreError> {
    let ledgers: Vec<Uuid> = ledgers.iter().map(|ledger| ledger.0).collect();
    let rows = sqlx::query_as::<_, Located>(select_located!(
        "a.tx_id IS NULL OR a.tx_id < 0 OR a.tx_id = 9223372036854775807
         OR a.ledger_id IS NULL OR a.ledger_id <> ALL ($1)"
    ))
    .bind(ledgers)
    .fetch(tx.connection()?);
    Ok(rows.map_ok(TrailRow::from).map_err(StoreError::from))
}

/// Lists the partitions of the trail that hold rows, by object id.
pub async fn list_partitions(tx: &mut SystemTx) -> Result<Vec<(u32, String)>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT t.relid AS "oid!: Oid", c.relname::text AS "name!"
           FROM pg_partition_tree('ai_cache_audit_logs') t JOIN pg_class c ON c.oid = t.relid
           WHERE t.isleaf"#
    )
    .fetch_all(tx.connection()?)
    .await?;
    Ok(rows.into_iter().map(|row| (row.oid.0, row.name)).collect())
}

/// Returns whether the partition of a month was dropped by a purge that was due by `now` and of
/// which the trail has a record. The name of the partition says when all its rows were past their
/// class. The record itself may be purged in its turn, after ten years.
pub async fn is_purged(
    tx: &mut SystemTx,
    part: &str,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let purged = sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM audit_purges p
               WHERE p.part_name = $1 AND p.purged_at <= $2 AND audit_part_due($1) <= p.purged_at
                 AND (is_audit_purge_recorded($1, p.record_id)
                      OR EXISTS (SELECT FROM audit_purges o
                                 WHERE audit_part_month(o.part_name) > audit_part_month($1)
                                   AND audit_part_class(o.part_name) = 10
                                   AND audit_part_due(o.part_name) <= o.purged_at
                                   AND o.purged_at <= $2
                                   AND p.record_id >= first_uuidv7_of(audit_part_month(o.part_name))
                                   AND p.record_id < first_uuidv7_of(
                                       audit_part_month(o.part_name) + interval '1 month')))
           ) AS "purged!""#,
        part,
        now
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(purged)
}

/// Counts the rows in the default partitions, which take rows whose month has no partition.
pub async fn count_default_rows(tx: &mut SystemTx) -> Result<i64, StoreError> {
    let rows = sqlx::query_scalar!(r#"SELECT count_audit_default_rows() AS "rows!""#)
        .fetch_one(tx.connection()?)
        .await?;
    Ok(rows)
}
