//! Evictions: entries are removed to make room, or because nobody could be given them any more.
//! What a legal hold or a restriction keeps stays. All rows are found by an index, and cache keys
//! are spread evenly, so any part of them is a sample.

use chrono::{DateTime, Utc};
use sqlx::Executor;

use crate::domain::cache_key::CacheKey;
use crate::domain::ids::TenantId;
use crate::domain::selector::Generation;

use super::{StoreError, SystemTx, WriteTx, invalidations};

/// The parts of the keys of which one is counted, where not all are.
const PARTS: u8 = 16;

/// The most entries that are counted as a whole.
const WHOLE: u64 = 1_000_000;

/// The largest limit of a tenant whose entries are counted as a whole, however many other tenants
/// have.
const SMALL: i64 = 100_000;

/// A bound behind the last key.
const END: [u8; 33] = [u8::MAX; 33];

/// The number of a tenant's entries, good or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// The tenant.
    pub tenant: TenantId,
    /// The number of its entries.
    pub entries: u64,
    /// The most that it may have. 0 means that it has no limit of its own.
    pub most: u64,
}

/// A tenant with entries that nobody can be given any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unusable {
    /// The tenant.
    pub tenant: TenantId,
    /// The present generation. Entries of older ones are gone.
    pub generation: Generation,
}

/// Takes the one replica's turn until the transaction ends. Returns whether it was free. From then
/// on no statement reads all of a table, whatever the planner thinks of its size.
pub async fn take_turn(tx: &mut SystemTx) -> Result<bool, StoreError> {
    tx.connection()?.execute("SET LOCAL enable_seqscan = off").await?;
    let locked = sqlx::query_scalar!(
        r#"SELECT pg_try_advisory_xact_lock(hashtext('ai-cache eviction')) AS "locked!""#
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(locked)
}

/// Lists tenants with entries that expired before `expired`, are of an older generation or are
/// withdrawn, and that nothing keeps.
pub async fn list_unusable(
    tx: &mut SystemTx,
    expired: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Vec<Unusable>, StoreError> {
    let rows = sqlx::query!(
        "SELECT s.tenant_id, s.generation FROM invalidation_state s
         LEFT JOIN LATERAL (SELECT 1 AS one FROM ai_cache_entries e
             WHERE e.tenant_id = s.tenant_id AND e.expires_at < $1
               AND NOT is_kept(e.tenant_id, e.subject_key_id, $2) LIMIT 1) expired ON true
         LEFT JOIN LATERAL (SELECT 1 AS one FROM ai_cache_entries e
             WHERE e.tenant_id = s.tenant_id AND e.generation < s.generation
               AND NOT is_kept(e.tenant_id, e.subject_key_id, $2) LIMIT 1) older ON true
         LEFT JOIN LATERAL (SELECT 1 AS one FROM ai_cache_entries e
             WHERE e.tenant_id = s.tenant_id AND e.withdrawn_at IS NOT NULL
               AND NOT is_kept(e.tenant_id, e.subject_key_id, $2) LIMIT 1) withdrawn ON true
         WHERE NOT is_held(s.tenant_id, NULL, $2)
           AND (expired.one IS NOT NULL OR older.one IS NOT NULL OR withdrawn.one IS NOT NULL)",
        expired,
        now
    )
    .fetch_all(tx.connection()?)
    .await?;
    let unusable = rows.into_iter().map(|row| Unusable {
        tenant: TenantId(row.tenant_id),
        generation: Generation(row.generation),
    });
    Ok(unusable.collect())
}

/// Counts the entries of each tenant. It is exact up to a million in all, and for tenants with a
/// limit of up to 100,000. Beyond, it counts a sixteenth of the keys, that of `random`: with a
/// million entries 5 σ are 2 %, with ten million 0.6 %.
pub async fn count(tx: &mut SystemTx, random: u8) -> Result<Vec<Counted>, StoreError> {
    let width = u8::MAX / PARTS + 1;
    let part = random % PARTS;
    let (from, to) = (vec![part * width], part.checked_add(1).filter(|next| *next < PARTS));
    let to = to.map_or_else(|| END.to_vec(), |next| vec![next * width]);
    let sampled = count_between(tx, &from, &to, SMALL).await?;
    if sampled.iter().map(|tenant| tenant.entries).sum::<u64>() > WHOLE {
        return Ok(sampled);
    }
    count_between(tx, &[], &END, SMALL).await
}

async fn count_between(
    tx: &mut SystemTx,
    from: &[u8],
    to: &[u8],
    small: i64,
) -> Result<Vec<Counted>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT t.tenant_id, t.max_entries, w.whole AS "whole!", c.entries AS "entries!"
           FROM tenants t
           CROSS JOIN LATERAL (SELECT t.max_entries BETWEEN 1 AND $3 AS whole) w
           CROSS JOIN LATERAL (
               SELECT count(*) AS entries FROM ai_cache_entries e
               WHERE e.tenant_id = t.tenant_id
                 AND e.cache_key >= CASE WHEN w.whole THEN ''::bytea ELSE $1::bytea END
                 AND e.cache_key < CASE WHEN w.whole THEN $4::bytea ELSE $2::bytea END) c"#,
        from,
        to,
        small,
        &END[..]
    )
    .fetch_all(tx.connection()?)
    .await?;
    let parts = if from.is_empty() { 1 } else { u64::from(PARTS) };
    let counted = rows.into_iter().map(|row| Counted {
        tenant: TenantId(row.tenant_id),
        entries: u64::try_from(row.entries).unwrap_or(0) * if row.whole { 1 } else { parts },
        most: u64::try_from(row.max_entries).unwrap_or(0),
    });
    Ok(counted.collect())
}

/// Begins a batch. Invalidations of the transaction's tenant wait until the end, because they lock
/// many entries in an order of their own. Fills do not wait.
async fn begin(tx: &mut WriteTx) -> Result<(), StoreError> {
    tx.keep_to_indexes().await?;
    invalidations::lock_shared(tx).await?;
    Ok(())
}

/// The bounds of unusable entries.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// They expired before this time.
    pub expired: DateTime<Utc>,
    /// They are of an older generation than this.
    pub generation: Generation,
    /// Nothing keeps them at this time.
    pub now: DateTime<Utc>,
}

/// One statement of [`delete_unusable`]. It removes up to this many entries that meet a condition.
macro_rules! delete_where {
    ($tx:expr, $condition:literal, $bound:expr, $most:expr, $now:expr) => {{
        let tenant = $tx.tenant().0;
        sqlx::query!(
            "WITH gone AS MATERIALIZED (
                 SELECT cache_key FROM ai_cache_entries WHERE tenant_id = $1 AND "
                + $condition
                + " LIMIT $3 FOR UPDATE SKIP LOCKED)
             DELETE FROM ai_cache_entries
             WHERE tenant_id = $1 AND cache_key = ANY (ARRAY(SELECT cache_key FROM gone))",
            tenant,
            $bound,
            $most,
            $now
        )
        .execute($tx.connection()?)
        .await?
        .rows_affected()
    }};
}

/// Removes up to `most` unusable entries of the transaction's tenant that nothing keeps. Returns
/// their number.
pub async fn delete_unusable(
    tx: &mut WriteTx,
    bounds: Bounds,
    most: i64,
) -> Result<u64, StoreError> {
    begin(tx).await?;
    let Bounds { expired, generation, now } = bounds;
    let expired = delete_where!(
        tx,
        "expires_at < $2 AND NOT is_held($1, NULL, $4)
                     AND NOT is_kept(tenant_id, subject_key_id, $4) ORDER BY expires_at",
        expired,
        most,
        now
    );
    let left = |gone: u64| most.saturating_sub(i64::try_from(gone).unwrap_or(most));
    let older = delete_where!(
        tx,
        "generation < $2 AND NOT is_held($1, NULL, $4)
                     AND NOT is_kept(tenant_id, subject_key_id, $4) ORDER BY generation",
        generation.0,
        left(expired),
        now
    );
    let withdrawn = delete_where!(
        tx,
        "withdrawn_at <= $2 AND NOT is_held($1, NULL, $4)
                     AND NOT is_kept(tenant_id, subject_key_id, $4) ORDER BY withdrawn_at",
        now,
        left(expired + older),
        now
    );
    Ok(expired + older + withdrawn)
}

/// The sample in which idle entries are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The first key.
    pub from: CacheKey,
    /// The number of keys from there on.
    pub size: i64,
    /// The share of them that may go, 0 to 1.
    pub share: f64,
}

/// Removes up to `most` of the least recently used entries in a sample of the transaction's tenant
/// that nothing keeps. Returns their number. An entry that was never used counts as used when it
/// was made.
pub async fn delete_idle(
    tx: &mut WriteTx,
    sample: Sample,
    most: i64,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    begin(tx).await?;
    let tenant = tx.tenant().0;
    let done = sqlx::query!(
        "WITH sample AS MATERIALIZED (
             SELECT cache_key, coalesce(last_accessed_at, created_at) AS used_at
             FROM ai_cache_entries
             WHERE tenant_id = $1 AND cache_key >= $2 AND NOT is_held($1, NULL, $6)
               AND NOT is_kept(tenant_id, subject_key_id, $6)
             ORDER BY cache_key LIMIT $3),
         idle AS MATERIALIZED (
             SELECT cache_key FROM sample ORDER BY used_at
             LIMIT least($5, (SELECT ceil(count(*) * $4::float8) FROM sample)::bigint)),
         gone AS MATERIALIZED (
             SELECT cache_key FROM ai_cache_entries
             WHERE tenant_id = $1 AND cache_key = ANY (ARRAY(SELECT cache_key FROM idle))
             FOR UPDATE SKIP LOCKED)
         DELETE FROM ai_cache_entries
         WHERE tenant_id = $1 AND cache_key = ANY (ARRAY(SELECT cache_key FROM gone))",
        tenant,
        &sample.from.0,
        sample.size,
        sample.share,
        most,
        now
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected())
}
