//! The rows that an erasure removes, and the erasure ledger, which outlives a restored backup.

use chrono::{DateTime, Utc};

use crate::domain::cache_key::{BlindIndex, CacheKey};
use crate::domain::ids::{GdprRequestId, HoldId, SubjectKeyId, TenantId};

use super::entries::parse_key;
use super::{StoreError, SystemTx, TenantTx, WriteTx};

/// Lists the legal holds that keep a person's data at that time, oldest first.
pub async fn list_holds(
    tx: &mut TenantTx,
    subject: BlindIndex,
    at: DateTime<Utc>,
) -> Result<Vec<HoldId>, StoreError> {
    let tenant = tx.tenant().0;
    let ids = sqlx::query_scalar!(
        "SELECT hold_id FROM legal_holds
         WHERE tenant_id = $1 AND (subject_blind IS NULL OR subject_blind = $2)
           AND lifted_at IS NULL AND (from_at <= $3 OR from_at <= set_at)
           AND (until_at IS NULL OR until_at > $3)
         ORDER BY hold_id",
        tenant,
        &subject.0,
        at
    )
    .fetch_all(tx.connection()?)
    .await?;
    Ok(ids.into_iter().map(HoldId).collect())
}

/// Removes every entry under a person's key, good or not. Returns their cache keys. The tenant's
/// fills must be barred.
pub async fn delete_entries(
    tx: &mut WriteTx,
    subject: SubjectKeyId,
) -> Result<Vec<CacheKey>, StoreError> {
    let tenant = tx.tenant().0;
    let keys = sqlx::query_scalar!(
        "DELETE FROM ai_cache_entries WHERE tenant_id = $1 AND subject_key_id = $2
         RETURNING cache_key",
        tenant,
        subject.0
    )
    .fetch_all(tx.connection()?)
    .await?;
    keys.into_iter().map(parse_key).collect()
}

/// Lists the cache keys of every entry under a person's key, good or not.
pub async fn list_cache_keys(
    tx: &mut TenantTx,
    subject: SubjectKeyId,
) -> Result<Vec<CacheKey>, StoreError> {
    let tenant = tx.tenant().0;
    let keys = sqlx::query_scalar!(
        "SELECT cache_key FROM ai_cache_entries WHERE tenant_id = $1 AND subject_key_id = $2",
        tenant,
        subject.0
    )
    .fetch_all(tx.connection()?)
    .await?;
    keys.into_iter().map(parse_key).collect()
}

/// Counts the entries under a person's key.
pub async fn count_entries(tx: &mut TenantTx, subject: SubjectKeyId) -> Result<i64, StoreError> {
    let tenant = tx.tenant().0;
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM ai_cache_entries
           WHERE tenant_id = $1 AND subject_key_id = $2"#,
        tenant,
        subject.0
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(count)
}

/// Removes the packages of a person's exports that are sealed under the person's key. Returns the
/// number of their requests.
pub async fn delete_packages(tx: &mut WriteTx, subject: SubjectKeyId) -> Result<u64, StoreError> {
    let tenant = tx.tenant().0;
    let count = sqlx::query_scalar!(
        r#"WITH gone AS (DELETE FROM gdpr_export_parts
                         WHERE tenant_id = $1 AND subject_key_id = $2 RETURNING request_id)
           SELECT count(DISTINCT request_id) AS "count!" FROM gone"#,
        tenant,
        subject.0
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Removes the packages of a person's exports, whatever key seals them. Returns the number of their
/// requests.
pub async fn delete_packages_of(tx: &mut WriteTx, person: BlindIndex) -> Result<u64, StoreError> {
    let tenant = tx.tenant().0;
    let count = sqlx::query_scalar!(
        r#"WITH gone AS (DELETE FROM gdpr_export_parts
                         WHERE tenant_id = $1 AND request_id IN
                             (SELECT request_id FROM ai_cache_gdpr_requests
                              WHERE tenant_id = $1 AND subject_blind = $2)
                         RETURNING request_id)
           SELECT count(DISTINCT request_id) AS "count!" FROM gone"#,
        tenant,
        &person.0
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Writes a destroyed key into the erasure ledger. Returns false if it was there already.
pub async fn insert(
    tx: &mut WriteTx,
    subject: SubjectKeyId,
    request: GdprRequestId,
    at: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let tenant = tx.tenant().0;
    let done = sqlx::query!(
        "INSERT INTO erasures (tenant_id, subject_key_id, request_id, erased_at)
         VALUES ($1, $2, $3, $4) ON CONFLICT ON CONSTRAINT erasures_pk DO NOTHING",
        tenant,
        subject.0,
        request.0,
        at
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// An erasure of the ledger.
#[derive(Debug, Clone, Copy)]
pub struct ErasureRow {
    /// The tenant.
    pub tenant: TenantId,
    /// The key that was destroyed.
    pub subject: SubjectKeyId,
    /// The request that destroyed it.
    pub request: GdprRequestId,
    /// The time.
    pub at: DateTime<Utc>,
}

/// Lists every erasure of the ledger.
pub async fn list(tx: &mut SystemTx) -> Result<Vec<ErasureRow>, StoreError> {
    let rows =
        sqlx::query!("SELECT tenant_id, subject_key_id, request_id, erased_at FROM erasures")
            .fetch_all(tx.connection()?)
            .await?;
    Ok(rows
        .into_iter()
        .map(|row| ErasureRow {
            tenant: TenantId(row.tenant_id),
            subject: SubjectKeyId(row.subject_key_id),
            request: GdprRequestId(row.request_id),
            at: row.erased_at,
        })
        .collect())
}

/// Counts the keys among these that are not in the ledger. It does not count those of requests that
/// are being executed here or have failed: these have written their line and not destroyed the key.
pub async fn count_missing(
    tx: &mut SystemTx,
    keys: impl Iterator<Item = (TenantId, SubjectKeyId, GdprRequestId)>,
) -> Result<i64, StoreError> {
    let (mut tenants, mut subjects, mut requests) = (Vec::new(), Vec::new(), Vec::new());
    for (tenant, subject, request) in keys {
        tenants.push(tenant.0);
        subjects.push(subject.0);
        requests.push(request.0);
    }
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!"
           FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS k (tenant, subject, request)
           WHERE NOT EXISTS (SELECT FROM erasures e
                             WHERE e.tenant_id = k.tenant AND e.subject_key_id = k.subject)
             AND NOT EXISTS (SELECT FROM ai_cache_gdpr_requests r
                             WHERE r.tenant_id = k.tenant AND r.request_id = k.request
                               AND r.state IN ('executing', 'failed'))"#,
        &tenants,
        &subjects,
        &requests
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(count)
}
