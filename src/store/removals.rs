//! The removal of invalidated entries, with exact counts of those that were good until then. An
//! entry that a legal hold or a restriction keeps is withdrawn instead: its row stays, and nobody
//! is served it.

use chrono::{DateTime, Utc};
use sqlx::{Executor, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::domain::cache_key::{BlindIndex, CacheKey};
use crate::domain::ids::EntryId;
use crate::domain::selector::{Generation, Group};

use super::entries::parse_key;
use super::{StoreError, TenantTx, WriteTx};

/// The most entries of a group that one transaction removes, because fills of the tenant wait for
/// it.
const MOST_ENTRIES: i64 = 10_000;

/// The most entries where each must be asked whether something keeps it.
const MOST_ASKED: i64 = 2_000;

/// The most keys of removed entries that are told. Further removed entries are only counted.
const MOST_KEYS: i64 = 1_000;

/// An entry that was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovedEntry {
    /// The cache key that it was under.
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
) -> Result<Option<RemovedEntry>, StoreError> {
    let tenant = tx.tenant().0;
    let row = sqlx::query!(
        r#"WITH gone AS (
               DELETE FROM ai_cache_entries WHERE tenant_id = $1 AND entry_id = $2
                   AND NOT is_kept(tenant_id, subject_key_id, $4)
               RETURNING cache_key,
                   generation = $3 AND expires_at > $4 AND withdrawn_at IS NULL AS was_good),
           withdrawn AS (
               UPDATE ai_cache_entries SET withdrawn_at = $4
               WHERE tenant_id = $1 AND entry_id = $2 AND withdrawn_at IS NULL
                   AND is_kept(tenant_id, subject_key_id, $4)
               RETURNING cache_key, generation = $3 AND expires_at > $4 AS was_good)
           SELECT cache_key AS "cache_key!", was_good AS "was_good!" FROM gone
           UNION ALL SELECT cache_key, was_good FROM withdrawn"#,
        tenant,
        id.0,
        generation.0,
        now
    )
    .fetch_optional(tx.connection()?)
    .await?;
    row.map(|row| Ok(RemovedEntry { key: parse_key(row.cache_key)?, was_good: row.was_good }))
        .transpose()
}

/// The removed part of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedGroup {
    /// The number of entries that were good until now.
    pub count: u64,
    /// Keys of some removed entries, good or not.
    pub keys: Vec<CacheKey>,
    /// Whether nothing of the group is left.
    pub is_last: bool,
}

/// Removes a part of a group of the transaction's tenant, good or not. The tenant's fills must be
/// barred.
pub async fn delete_group(
    tx: &mut WriteTx,
    group: &Group,
    generation: Generation,
    now: DateTime<Utc>,
) -> Result<RemovedGroup, StoreError> {
    tx.keep_to_indexes().await?;
    let keeps = keeps_something(tx).await?;
    let most = if keeps { MOST_ASKED } else { MOST_ENTRIES };
    let (tenant, condition) = (tx.tenant().0, Condition::of(tx, group, most).await?);
    // They are found as if all were wanted: with a limit Postgres would rather read the tenant's
    // entries until it has met as many.
    let mut query = QueryBuilder::new(
        "WITH found AS MATERIALIZED (
             SELECT cache_key, subject_key_id FROM ai_cache_entries
             WHERE withdrawn_at IS NULL AND tenant_id = ",
    );
    query.push_bind(tenant);
    condition.push(&mut query);
    query.push("), chosen AS MATERIALIZED (SELECT cache_key, ");
    if keeps {
        query.push("is_kept(").push_bind(tenant).push(", subject_key_id, ");
        query.push_bind(now).push(")");
    } else {
        query.push("false");
    }
    query.push(" AS kept FROM found LIMIT ").push_bind(most);
    let tell = |query: &mut QueryBuilder<Postgres>, which: &str| {
        query.push(" WHERE tenant_id = ").push_bind(tenant);
        query.push(" AND cache_key = ANY (ARRAY(SELECT cache_key FROM chosen WHERE ").push(which);
        query.push(")) RETURNING cache_key, generation = ").push_bind(generation.0);
        query.push(" AND expires_at > ").push_bind(now).push(" AS was_good");
    };
    query.push("), gone AS (DELETE FROM ai_cache_entries");
    tell(&mut query, "NOT kept");
    query.push("), withdrawn AS (UPDATE ai_cache_entries SET withdrawn_at = ").push_bind(now);
    tell(&mut query, "kept");
    query.push(
        "), removed AS (SELECT * FROM gone UNION ALL SELECT * FROM withdrawn)
         SELECT count(*) FILTER (WHERE was_good), ARRAY(SELECT cache_key FROM removed LIMIT ",
    );
    query.push_bind(MOST_KEYS).push("), (SELECT count(*) FROM chosen) FROM removed");
    let (count, keys, chosen): (i64, Vec<Vec<u8>>, i64) =
        query.build_query_as().fetch_one(tx.connection()?).await?;
    let keys = keys.into_iter().map(parse_key).collect::<Result<_, _>>()?;
    let is_last = chosen < most;
    Ok(RemovedGroup { count: u64::try_from(count).unwrap_or(0), keys, is_last })
}

/// Returns whether there is anything that may keep entries of the transaction's tenant. Mostly
/// there is not, and then no entry needs to be asked about.
async fn keeps_something(tx: &mut TenantTx) -> Result<bool, StoreError> {
    let tenant = tx.tenant().0;
    let keeps = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM legal_holds WHERE tenant_id = $1 AND lifted_at IS NULL)
               OR EXISTS (SELECT FROM subject_keys
                          WHERE tenant_id = $1 AND restricted_at IS NOT NULL) AS "keeps!""#,
        tenant
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(keeps)
}

/// Counts the entries of a group of the transaction's tenant that are good at `now`.
pub async fn count_group(
    tx: &mut TenantTx,
    group: &Group,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    tx.keep_to_indexes().await?;
    let tenant = tx.tenant().0;
    let mut query = QueryBuilder::new(
        "SELECT count(*) FROM ai_cache_entries WHERE withdrawn_at IS NULL AND generation =
             (SELECT generation FROM invalidation_state WHERE tenant_id = ",
    );
    query.push_bind(tenant).push(") AND expires_at > ").push_bind(now);
    query.push(" AND tenant_id = ").push_bind(tenant);
    Condition::of(tx, group, i64::MAX).await?.push(&mut query);
    let count: i64 = query.build_query_scalar().fetch_one(tx.connection()?).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// The common property of a group's entries, as rows have it.
enum Condition {
    Operation(&'static str),
    Subject(Uuid),
    Keys(Vec<Vec<u8>>),
}

impl Condition {
    /// Makes the condition of a group. Of entries with a label it names up to `most`.
    async fn of(tx: &mut TenantTx, group: &Group, most: i64) -> Result<Self, StoreError> {
        Ok(match group {
            Group::Operation(operation) => Self::Operation(operation.name()),
            Group::Subject(id) => Self::Subject(id.0),
            Group::Label(index) => Self::Keys(list_labelled(tx, index, most).await?),
        })
    }

    fn push(&self, query: &mut QueryBuilder<Postgres>) {
        match self {
            Self::Operation(name) => query.push(" AND operation = ").push_bind(*name),
            Self::Subject(id) => query.push(" AND subject_key_id = ").push_bind(*id),
            Self::Keys(keys) => {
                query.push(" AND cache_key = ANY (").push_bind(keys.clone()).push(")")
            }
        };
    }
}

/// Lists the keys of up to `most` of the transaction's tenant's entries with a label that are not
/// withdrawn. It searches as the role without row-level security: under it Postgres would not use
/// an index on arrays, whose operators are not leakproof, but read every entry of the tenant. The
/// keys are then used under row-level security again.
async fn list_labelled(
    tx: &mut TenantTx,
    label: &BlindIndex,
    most: i64,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let (tenant, label) = (tx.tenant().0, label.0.to_vec());
    tx.connection()?.execute("SET LOCAL ROLE ai_cache_system").await?;
    let keys = sqlx::query_scalar!(
        r#"WITH labelled AS MATERIALIZED (
               SELECT cache_key FROM ai_cache_entries
               WHERE tenant_id = $1 AND withdrawn_at IS NULL
                 AND (location_index = $2 OR vendor_type_indexes @> ARRAY[$2]
                      OR tag_indexes @> ARRAY[$2]))
           SELECT cache_key AS "cache_key!" FROM labelled LIMIT $3"#,
        tenant,
        label,
        most
    )
    .fetch_all(tx.connection()?)
    .await?;
    tx.connection()?.execute("SET LOCAL ROLE NONE").await?;
    Ok(keys)
}
