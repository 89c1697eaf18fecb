//! Reads the audit trail's rows as they lie there, in the order they are sealed in.

use chrono::{DateTime, Utc};
use futures_util::{Stream, TryStreamExt as _};
use sqlx::postgres::types::Oid;

use crate::domain::audit_row::AuditRow;

use super::audit_rows::RawRow;
use super::{StoreError, SystemTx};

/// A row of the trail and where it lies.
#[derive(Debug, Clone)]
pub struct TrailRow {
    /// The partition, by its object id.
    pub part: u32,
    /// The row.
    pub row: AuditRow,
}

#[derive(sqlx::FromRow)]
struct Located {
    part: Oid,
    #[sqlx(flatten)]
    raw: RawRow,
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

/// The rows of transactions from `from_tx` up to, not including, `to_tx`, by transaction and id.
pub fn stream(
    tx: &mut SystemTx,
    (from_tx, to_tx): (i64, i64),
) -> Result<impl Stream<Item = Result<TrailRow, StoreError>>, StoreError> {
    let rows = sqlx::query_as::<_, Located>(
        "SELECT tableoid AS part, retention_class, tenant_id, id,
                LEAST(GREATEST(occurred_at, '1970-01-01Z'), '9999-12-31Z') AS occurred_at, request_id,
                actor_kind, actor_token_id, actor_roles, actor_network, action, outcome,
                operation, tier, entry_id, subject_key_id, object_id, status, item_count,
                duration_us, cost_picousd, ledger_id, writer_id, writer_seq, tx_id, row_hash,
                row_mac, mac_key_id
         FROM ai_cache_audit_logs
         WHERE tx_id >= $1 AND tx_id < $2
         ORDER BY tx_id, id",
    )
    .bind(from_tx)
    .bind(to_tx)
    .fetch(tx.connection()?);
    let located = |found: Located| TrailRow { part: found.part.0, row: found.raw.into() };
    Ok(rows.map_ok(located).map_err(StoreError::from))
}

/// The trail's partitions that hold rows, by object id.
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

/// Whether a month's partition was dropped by a purge, and was due by `now`: its own name says when
/// all its rows were past their class.
pub async fn is_purged(
    tx: &mut SystemTx,
    part: &str,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let purged = sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM audit_purges,
                      regexp_match($1, '^audit_logs_y([0-9]+)_([0-9]{4}_[0-9]{2})$') AS m
               WHERE part_name = $1 AND purged_at <= $2
                 AND to_date(m[2], 'YYYY_MM')
                     + make_interval(years => m[1]::integer, months => 1) <= purged_at
           ) AS "purged!""#,
        part,
        now
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(purged)
}

/// How many rows lie in partitions that are there for rows without a month's own.
pub async fn count_default_rows(tx: &mut SystemTx) -> Result<i64, StoreError> {
    let rows = sqlx::query_scalar!(r#"SELECT count_audit_default_rows() AS "rows!""#)
        .fetch_one(tx.connection()?)
        .await?;
    Ok(rows)
}
