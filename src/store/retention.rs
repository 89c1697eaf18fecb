//! Rows past their retention: their amounts by tenant, their removal in batches, and the runs that
//! remove them. What a legal hold or a restriction keeps is left.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Executor;
use uuid::Uuid;

use crate::domain::cache_key::CacheKey;
use crate::domain::ids::{EntryId, TenantId};

use super::entries::parse_key;
use super::{StoreError, SystemTx, WriteTx};

/// The seconds for which a run has its lease without a sign of life. Then another run may begin.
const LEASE_SECONDS: f64 = 120.0;

/// Begins a run. Returns false if one is under way or, with `since`, one came to its end since
/// then.
pub async fn claim(
    tx: &mut SystemTx,
    id: Uuid,
    now: DateTime<Utc>,
    since: Option<DateTime<Utc>>,
) -> Result<bool, StoreError> {
    sqlx::query!(r#"SELECT pg_advisory_xact_lock(hashtext('ai-cache purge')) AS "locked: ()""#)
        .fetch_one(tx.connection()?)
        .await?;
    let done = sqlx::query!(
        "INSERT INTO purge_runs (run_id, begun_at, state, lease_until)
         SELECT $1, $2, 'running', clock_timestamp() + make_interval(secs => $4)
         WHERE NOT EXISTS (SELECT FROM purge_runs
                           WHERE state = 'running' AND lease_until > clock_timestamp())
           AND NOT EXISTS (SELECT FROM purge_runs
                           WHERE state IN ('done', 'waiting') AND begun_at > $3)",
        id,
        now,
        since,
        LEASE_SECONDS
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Prolongs the lease of a run. Returns false if the lease had run out and another run has begun.
pub async fn prolong(tx: &mut SystemTx, id: Uuid) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE purge_runs SET lease_until = clock_timestamp() + make_interval(secs => $2)
         WHERE run_id = $1
           AND NOT EXISTS (SELECT FROM purge_runs o
                           WHERE o.run_id <> $1 AND o.state = 'running'
                             AND o.lease_until > clock_timestamp())",
        id,
        LEASE_SECONDS
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The clocks of Postgres and of the service.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// The time of Postgres now.
    pub server: DateTime<Utc>,
    /// The times of the service and of Postgres when the last run that came to its end began.
    pub last: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// Reads Postgres' clock, and both clocks of the last run.
pub async fn read_clocks(tx: &mut SystemTx) -> Result<Clocks, StoreError> {
    let last = sqlx::query!(
        "SELECT begun_at, server_at FROM purge_runs
         WHERE state = 'done' ORDER BY begun_at DESC LIMIT 1"
    )
    .fetch_optional(tx.connection()?)
    .await?;
    let server = sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#)
        .fetch_one(tx.connection()?)
        .await?;
    Ok(Clocks { server, last: last.map(|row| (row.begun_at, row.server_at)) })
}

/// The end of a run.
#[derive(Debug)]
pub struct RunEnd<'a> {
    /// The run.
    pub id: Uuid,
    /// When the run began.
    pub begun_at: DateTime<Utc>,
    /// When the run ended.
    pub ended_at: DateTime<Utc>,
    /// `done`, `waiting` or `dry-run`.
    pub state: &'static str,
    /// The reason why it waits.
    pub reason: Option<&'static str>,
    /// The report, as JSON.
    pub report: &'a str,
}

/// Keeps the end of a run. A dry run has not been begun before.
pub async fn end(tx: &mut SystemTx, end: &RunEnd<'_>) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO purge_runs (run_id, begun_at, state, ended_at, reason, report)
         VALUES ($1, $2, $3, $4, $5, $6::text::jsonb)
         ON CONFLICT ON CONSTRAINT purge_runs_pk DO UPDATE
         SET state = EXCLUDED.state, ended_at = EXCLUDED.ended_at, reason = EXCLUDED.reason,
             report = EXCLUDED.report, lease_until = NULL",
        end.id,
        end.begun_at,
        end.state,
        end.ended_at,
        end.reason,
        end.report
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Keeps the report of a run for one tenant, as JSON.
pub async fn insert_report(
    tx: &mut SystemTx,
    tenant: TenantId,
    run: Uuid,
    report: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO purge_reports (tenant_id, run_id, report) VALUES ($1, $2, $3::text::jsonb)",
        tenant.0,
        run,
        report
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// The amounts of a tenant that are past their retention.
#[derive(Debug, Clone)]
pub struct TenantDue {
    /// The tenant.
    pub tenant: TenantId,
    /// The tenant's slug.
    pub slug: String,
    /// The time before which rows are past their retention.
    pub cutoff: DateTime<Utc>,
    /// Whether a legal hold keeps everything.
    pub held: bool,
    /// The entries past their retention that are kept.
    pub kept: u64,
    /// The entries that are due.
    pub entries: u64,
    /// The rows of metrics that are due.
    pub metrics: u64,
    /// The packages of exports that are due.
    pub exports: u64,
    /// The closed requests that are due.
    pub requests: u64,
    /// The names of persons in ended requests that are due.
    pub subjects: u64,
}

/// Lists the tenants with rows that are past their retention or held. Packages have a time of their
/// own, and names go when their request came to its end before `named`.
pub async fn list_due(
    tx: &mut SystemTx,
    now: DateTime<Utc>,
    named: DateTime<Utc>,
    default_days: u32,
) -> Result<Vec<TenantDue>, StoreError> {
    tx.connection()?
        .execute(
            "SET LOCAL statement_timeout = 0; SET LOCAL enable_seqscan = off; SET LOCAL jit = off",
        )
        .await?;
    let rows = sqlx::query!(
        r#"SELECT t.tenant_id, t.slug, c.cutoff AS "cutoff!", c.held AS "held!",
                  e.kept AS "kept!", e.due AS "entries!", m.due AS "metrics!",
                  r.exports AS "exports!", r.requests AS "requests!", r.subjects AS "subjects!"
           FROM tenants t
           CROSS JOIN LATERAL (
               SELECT $1::timestamptz - make_interval(days =>
                          CASE t.retention_days WHEN 0 THEN $3 ELSE t.retention_days END) AS cutoff,
                      is_held(t.tenant_id, NULL, $1) AS held) c
           CROSS JOIN LATERAL (
               SELECT count(*) FILTER (WHERE NOT k.kept) AS due, count(*) FILTER (WHERE k.kept) AS kept
               FROM (SELECT is_kept(i.tenant_id, i.subject_key_id, $1) AS kept
                     FROM ai_cache_entries i
                     WHERE i.tenant_id = t.tenant_id AND i.entry_id < first_uuidv7_of(c.cutoff)) k) e
           CROSS JOIN LATERAL (
               SELECT count(*) AS due FROM ai_cache_performance_metrics i
               WHERE i.tenant_id = t.tenant_id AND i.minute_at < c.cutoff AND NOT c.held) m
           CROSS JOIN LATERAL (
               SELECT count(*) FILTER (WHERE (i.expires_at < $1 OR i.state = 'failed') AND EXISTS (
                          SELECT FROM gdpr_export_parts p
                          WHERE p.tenant_id = i.tenant_id AND p.request_id = i.request_id)) AS exports,
                      count(*) FILTER (WHERE i.updated_at < c.cutoff AND i.state IN
                          ('completed', 'rejected', 'cancelled', 'failed')) AS requests,
                      count(*) FILTER (WHERE i.subject_sealed IS NOT NULL AND (i.completed_at < $2
                          OR i.state IN ('rejected', 'cancelled') AND i.updated_at < $2)) AS subjects
               FROM ai_cache_gdpr_requests i
               WHERE i.tenant_id = t.tenant_id AND NOT is_held(i.tenant_id, i.subject_blind, $1)) r
           WHERE c.held OR e.due + e.kept + m.due + r.exports + r.requests + r.subjects > 0
           ORDER BY t.slug"#,
        now,
        named,
        i32::try_from(default_days).unwrap_or(i32::MAX)
    )
    .fetch_all(tx.connection()?)
    .await?;
    let count = |count| u64::try_from(count).unwrap_or(0);
    let due = rows.into_iter().map(|row| TenantDue {
        tenant: TenantId(row.tenant_id),
        slug: row.slug,
        cutoff: row.cutoff,
        held: row.held,
        kept: count(row.kept),
        entries: count(row.entries),
        metrics: count(row.metrics),
        exports: count(row.exports),
        requests: count(row.requests),
        subjects: count(row.subjects),
    });
    Ok(due.collect())
}

/// Removes up to `most` entries of the transaction's tenant that were made before `cutoff` and that
/// nothing keeps. Returns each with the time when it expires. The tenant's fills must be barred.
pub async fn delete_entries(
    tx: &mut WriteTx,
    cutoff: DateTime<Utc>,
    now: DateTime<Utc>,
    most: i64,
) -> Result<Vec<(EntryId, CacheKey, DateTime<Utc>)>, StoreError> {
    let tenant = tx.tenant().0;
    tx.connection()?.execute("SET LOCAL enable_seqscan = off").await?;
    let rows = sqlx::query!(
        "WITH gone AS MATERIALIZED (
             SELECT cache_key FROM ai_cache_entries
             WHERE tenant_id = $1 AND entry_id < first_uuidv7_of($2) AND NOT is_held($1, NULL, $3)
               AND NOT is_kept(tenant_id, subject_key_id, $3)
             ORDER BY entry_id LIMIT $4 FOR UPDATE SKIP LOCKED)
         DELETE FROM ai_cache_entries
         WHERE tenant_id = $1 AND cache_key = ANY (ARRAY(SELECT cache_key FROM gone))
         RETURNING entry_id, cache_key, expires_at",
        tenant,
        cutoff,
        now,
        most
    )
    .fetch_all(tx.connection()?)
    .await?;
    rows.into_iter()
        .map(|row| Ok((EntryId(row.entry_id), parse_key(row.cache_key)?, row.expires_at)))
        .collect()
}

/// Removes up to `most` rows of metrics of the transaction's tenant from before `cutoff`. Returns
/// their number.
pub async fn delete_metrics(
    tx: &mut WriteTx,
    cutoff: DateTime<Utc>,
    now: DateTime<Utc>,
    most: i64,
) -> Result<u64, StoreError> {
    let tenant = tx.tenant().0;
    as_system(tx).await?;
    let done = sqlx::query!(
        "DELETE FROM ai_cache_performance_metrics
         WHERE tenant_id = $1 AND NOT is_held($1, NULL, $3)
           AND (minute_at, replica_id, operation) IN (
               SELECT minute_at, replica_id, operation FROM ai_cache_performance_metrics
               WHERE tenant_id = $1 AND minute_at < $2 ORDER BY minute_at LIMIT $4)",
        tenant,
        cutoff,
        now,
        most
    )
    .execute(tx.connection()?)
    .await?;
    as_tenant(tx).await?;
    Ok(done.rows_affected())
}

/// Removes up to `most` packages of the transaction's tenant that have expired, and the parts that
/// exports that failed for good have left. Returns their number.
pub async fn delete_exports(
    tx: &mut WriteTx,
    now: DateTime<Utc>,
    most: i64,
) -> Result<u64, StoreError> {
    let tenant = tx.tenant().0;
    as_system(tx).await?;
    let count = sqlx::query_scalar!(
        r#"WITH over AS MATERIALIZED (
               SELECT r.request_id FROM ai_cache_gdpr_requests r
               WHERE r.tenant_id = $1 AND (r.expires_at < $2 OR r.state = 'failed')
                 AND NOT is_held($1, r.subject_blind, $2)
                 AND EXISTS (SELECT FROM gdpr_export_parts p
                             WHERE p.tenant_id = $1 AND p.request_id = r.request_id)
               LIMIT $3),
           gone AS (
               DELETE FROM gdpr_export_parts
               WHERE tenant_id = $1 AND request_id = ANY (ARRAY(SELECT request_id FROM over)))
           SELECT count(*) AS "count!" FROM over"#,
        tenant,
        now,
        most
    )
    .fetch_one(tx.connection()?)
    .await?;
    as_tenant(tx).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Removes up to `most` closed requests of the transaction's tenant that were last touched before
/// `cutoff`, with their history. Returns their number.
pub async fn delete_requests(
    tx: &mut WriteTx,
    cutoff: DateTime<Utc>,
    now: DateTime<Utc>,
    most: i64,
) -> Result<u64, StoreError> {
    let tenant = tx.tenant().0;
    as_system(tx).await?;
    let done = sqlx::query!(
        "DELETE FROM ai_cache_gdpr_requests
         WHERE tenant_id = $1 AND request_id IN (
             SELECT request_id FROM ai_cache_gdpr_requests
             WHERE tenant_id = $1 AND updated_at < $2 AND NOT is_held($1, subject_blind, $3)
               AND state IN ('completed', 'rejected', 'cancelled', 'failed')
             LIMIT $4)",
        tenant,
        cutoff,
        now,
        most
    )
    .execute(tx.connection()?)
    .await?;
    as_tenant(tx).await?;
    Ok(done.rows_affected())
}

/// Forgets the persons of up to `most` requests of the transaction's tenant that were completed,
/// rejected or cancelled before `named`. Returns their number.
pub async fn update_unnamed(
    tx: &mut WriteTx,
    named: DateTime<Utc>,
    now: DateTime<Utc>,
    most: i64,
) -> Result<u64, StoreError> {
    let tenant = tx.tenant().0;
    let done = sqlx::query!(
        "UPDATE ai_cache_gdpr_requests SET subject_sealed = NULL
         WHERE tenant_id = $1 AND request_id IN (
             SELECT request_id FROM ai_cache_gdpr_requests
             WHERE tenant_id = $1 AND subject_sealed IS NOT NULL
               AND (completed_at < $2 OR state IN ('rejected', 'cancelled') AND updated_at < $2)
               AND NOT is_held($1, subject_blind, $3)
             LIMIT $4)",
        tenant,
        named,
        now,
        most
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected())
}

/// Takes the role that may remove these rows: in a tenant's name nobody may.
async fn as_system(tx: &mut WriteTx) -> Result<(), StoreError> {
    let role = "SET LOCAL ROLE ai_cache_system; SET LOCAL enable_seqscan = off";
    tx.connection()?.execute(role).await?;
    Ok(())
}

async fn as_tenant(tx: &mut WriteTx) -> Result<(), StoreError> {
    tx.connection()?.execute("SET LOCAL ROLE NONE").await?;
    Ok(())
}

/// The time for which a request tells whose it was after its end.
pub const NAMED_FOR: TimeDelta = TimeDelta::days(90);
