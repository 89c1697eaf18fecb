//! Entries that invalidations remove, with exact counts of those that were good until then.

use chrono::{DateTime, Utc};
use sqlx::{Executor, Postgres, QueryBuilder};

use crate::domain::cache_key::{BlindIndex, CacheKey};
use crate::domain::ids::EntryId;
use crate::domain::selector::{Generation, Group};

use super::entries::parse_key;
use super::{StoreError, TenantTx, WriteTx};

/// Keys of removed entries that are told; a larger group's others are counted only.
const MOST_KEYS: i64 = 1_000;

/// An entry that was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// The key it was under.
    pub key: CacheKey,
    /// Whether it was good until now: neither expired nor of an older generation.
    pub was_good: bool,
}

/// Removes one entry of the transaction's tenant, good or not.
pub async fn delete(
    tx: &mut WriteTx,
    id: EntryId,
    generation: Generation,
    now: DateTime<Utc>,
) -> Result<Option<Removed>, StoreError> {
    let tenant = tx.tenant().0;
    let row = sqlx::query!(
        r#"DELETE FROM ai_cache_entries WHERE tenant_id = $1 AND entry_id = $2
           RETURNING cache_key, (generation = $3 AND expires_at > $4) AS "was_good!""#,
        tenant,
        id.0,
        generation.0,
        now
    )
    .fetch_optional(tx.connection()?)
    .await?;
    row.map(|row| Ok(Removed { key: parse_key(row.cache_key)?, was_good: row.was_good }))
        .transpose()
}

/// A group that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedGroup {
    /// How many were good until now.
    pub count: u64,
    /// Keys of some, good or not.
    pub keys: Vec<CacheKey>,
}

/// Removes a group of the transaction's tenant, good or not. The tenant's fills must be barred.
pub async fn delete_group(
    tx: &mut WriteTx,
    group: &Group,
    generation: Generation,
    now: DateTime<Utc>,
) -> Result<RemovedGroup, StoreError> {
    let mut query =
        QueryBuilder::new("WITH gone AS (DELETE FROM ai_cache_entries WHERE tenant_id = ");
    query.push_bind(tx.tenant().0);
    push_group(tx, &mut query, group).await?;
    query.push(" RETURNING cache_key, (generation = ").push_bind(generation.0);
    query.push(" AND expires_at > ").push_bind(now);
    query.push(
        ") AS was_good)
         SELECT count(*) FILTER (WHERE was_good), ARRAY(SELECT cache_key FROM gone LIMIT ",
    );
    query.push_bind(MOST_KEYS).push(") FROM gone");
    let (count, keys): (i64, Vec<Vec<u8>>) =
        query.build_query_as().fetch_one(tx.connection()?).await?;
    let keys = keys.into_iter().map(parse_key).collect::<Result<_, _>>()?;
    Ok(RemovedGroup { count: u64::try_from(count).unwrap_or(0), keys })
}

/// How many entries of a group of the transaction's tenant are good at `now`.
pub async fn count_group(
    tx: &mut TenantTx,
    group: &Group,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let tenant = tx.tenant().0;
    let mut query = QueryBuilder::new(
        "SELECT count(*) FROM ai_cache_entries WHERE generation =
             (SELECT generation FROM invalidation_state WHERE tenant_id = ",
    );
    query.push_bind(tenant).push(") AND expires_at > ").push_bind(now);
    query.push(" AND tenant_id = ").push_bind(tenant);
    push_group(tx, &mut query, group).await?;
    let count: i64 = query.build_query_scalar().fetch_one(tx.connection()?).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

async fn push_group(
    tx: &mut TenantTx,
    query: &mut QueryBuilder<Postgres>,
    group: &Group,
) -> Result<(), StoreError> {
    match group {
        Group::Operation(operation) => {
            query.push(" AND operation = ").push_bind(operation.name());
        }
        Group::Subject(id) => {
            query.push(" AND subject_key_id = ").push_bind(id.0);
        }
        Group::Label(index) => {
            let keys = list_labelled(tx, index).await?;
            query.push(" AND cache_key = ANY (").push_bind(keys).push(")");
        }
    }
    Ok(())
}

/// Keys of the transaction's tenant's entries with a label. Searched as the role without row-level
/// security: under it Postgres would not use an index on arrays, whose operators are not leakproof,
/// but read every entry of the tenant. What is done with the keys is done under it again.
async fn list_labelled(tx: &mut TenantTx, label: &BlindIndex) -> Result<Vec<Vec<u8>>, StoreError> {
    let (tenant, label) = (tx.tenant().0, label.0.to_vec());
    tx.connection()?.execute("SET LOCAL ROLE ai_cache_system").await?;
    let keys = sqlx::query_scalar!(
        "SELECT cache_key FROM ai_cache_entries
         WHERE tenant_id = $1 AND (location_index = $2 OR vendor_type_indexes @> ARRAY[$2]
                                   OR tag_indexes @> ARRAY[$2])",
        tenant,
        label
    )
    .fetch_all(tx.connection()?)
    .await?;
    tx.connection()?.execute("SET LOCAL ROLE NONE").await?;
    Ok(keys)
}
