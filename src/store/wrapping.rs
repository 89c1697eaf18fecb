//! The keys that wrap persons' keys, and their change. The unwrapped keys never reach this module.

use chrono::{DateTime, Utc};

use crate::crypto::Sealed;
use crate::domain::ids::{SubjectKeyId, TenantId};

use super::keys::SubjectKeyRow;
use super::{StoreError, SystemTx, TenantTx, WriteTx};

/// The constraint that refuses a key wrapped under a retired one.
pub const NOT_RETIRED: &str = "subject_keys_wrapping_key_not_retired";

/// Retires these keys: from the commit on no person's key is stored under them any more, also by
/// processes that do not know it. It waits for processes that store one now, and must be alone in
/// its transaction.
pub async fn retire(
    tx: &mut SystemTx,
    keys: &[String],
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"SELECT pg_advisory_xact_lock(hashtext('ai-cache wrapping keys')) AS "locked: ()""#
    )
    .fetch_one(tx.connection()?)
    .await?;
    sqlx::query!(
        "INSERT INTO retired_wrapping_keys (key_id, retired_at) SELECT k, $2 FROM unnest($1::text[]) k
         ON CONFLICT ON CONSTRAINT retired_wrapping_keys_pk DO NOTHING",
        keys,
        at
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Returns whether nothing may be wrapped under a key any more.
pub async fn is_retired(tx: &mut SystemTx, key: &str) -> Result<bool, StoreError> {
    let retired = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM retired_wrapping_keys WHERE key_id = $1) AS "retired!""#,
        key
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(retired)
}

/// Counts the persons' keys under each key.
pub async fn count_by_key(tx: &mut SystemTx) -> Result<Vec<(String, i64)>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT master_key_id, count(*) AS "count!" FROM subject_keys
           WHERE state = 'active' GROUP BY master_key_id ORDER BY master_key_id"#
    )
    .fetch_all(tx.connection()?)
    .await?;
    Ok(rows.into_iter().map(|row| (row.master_key_id, row.count)).collect())
}

/// Lists every name that a wrapping key had. No name is used twice.
pub async fn list_names(tx: &mut SystemTx) -> Result<Vec<String>, StoreError> {
    let names = sqlx::query_scalar!(
        r#"SELECT master_key_id AS "name!" FROM subject_keys
           UNION SELECT key_id FROM retired_wrapping_keys"#
    )
    .fetch_all(tx.connection()?)
    .await?;
    Ok(names)
}

/// Lists the tenants with persons' keys under another key than this.
pub async fn list_tenants(tx: &mut SystemTx, target: &str) -> Result<Vec<TenantId>, StoreError> {
    let ids = sqlx::query_scalar!(
        "SELECT DISTINCT tenant_id FROM subject_keys
         WHERE state = 'active' AND master_key_id <> $1 ORDER BY tenant_id",
        target
    )
    .fetch_all(tx.connection()?)
    .await?;
    Ok(ids.into_iter().map(TenantId).collect())
}

/// Lists at most `limit` of the persons' keys of the transaction's tenant that are under another
/// key than this, by their ids behind `after`.
pub async fn list_under_others(
    tx: &mut TenantTx,
    target: &str,
    after: Option<SubjectKeyId>,
    limit: i64,
) -> Result<Vec<SubjectKeyRow>, StoreError> {
    let tenant = tx.tenant().0;
    let rows = sqlx::query!(
        r#"SELECT subject_key_id, wrapped AS "wrapped!", master_key_id,
                  restricted_at IS NOT NULL AS "restricted!" FROM subject_keys
           WHERE tenant_id = $1 AND state = 'active' AND master_key_id <> $2
             AND ($3::uuid IS NULL OR subject_key_id > $3)
           ORDER BY subject_key_id LIMIT $4"#,
        tenant,
        target,
        after.map(|id| id.0),
        limit
    )
    .fetch_all(tx.connection()?)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| SubjectKeyRow {
            id: SubjectKeyId(row.subject_key_id),
            wrapped: Sealed::from_bytes(row.wrapped),
            master_key_id: row.master_key_id,
            restricted: row.restricted,
        })
        .collect())
}

/// Stores keys of the transaction's tenant that are now wrapped under another key, where they still
/// are what was read. Returns their number.
pub async fn update_wrapped(
    tx: &mut WriteTx,
    target: &str,
    rewrapped: &[(SubjectKeyRow, Sealed)],
) -> Result<i64, StoreError> {
    let tenant = tx.tenant().0;
    let ids: Vec<_> = rewrapped.iter().map(|(row, _)| row.id.0).collect();
    let names: Vec<_> = rewrapped.iter().map(|(row, _)| row.master_key_id.clone()).collect();
    let before: Vec<_> = rewrapped.iter().map(|(row, _)| row.wrapped.as_bytes().to_vec()).collect();
    let after: Vec<_> = rewrapped.iter().map(|(_, now)| now.as_bytes().to_vec()).collect();
    let done = sqlx::query!(
        "UPDATE subject_keys s SET wrapped = r.after, master_key_id = $2
         FROM unnest($3::uuid[], $4::text[], $5::bytea[], $6::bytea[]) AS r (id, name, before, after)
         WHERE s.tenant_id = $1 AND s.subject_key_id = r.id AND s.state = 'active'
           AND s.master_key_id = r.name AND s.wrapped = r.before",
        tenant,
        target,
        &ids,
        &names,
        &before,
        &after
    )
    .execute(tx.connection()?)
    .await?;
    Ok(i64::try_from(done.rows_affected()).unwrap_or(i64::MAX))
}
