//! The executions of data subjects' requests: which execution has which request, and how far each
//! has come. A lease runs by Postgres' clock, and an execution that lost its lease changes nothing
//! more.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::domain::cache_key::CacheKey;
use crate::domain::gdpr::{RequestKind, RequestState};
use crate::domain::gdpr_execution::{Counts, ExecutionStep};
use crate::domain::ids::{GdprRequestId, SubjectKeyId, TenantId};
use crate::domain::selector::Position;

use super::{RawRequest, RequestRow, requests};
use crate::store::entries::parse_key;
use crate::store::{StoreError, SystemTx, TenantTx, WriteTx};

/// The seconds for which an execution has its request without a sign of life.
const LEASE_SECONDS: f64 = 30.0;

/// The right of one execution to work on its request, until another execution may take it over.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// The tenant of the request.
    pub tenant: TenantId,
    /// The request.
    pub request: GdprRequestId,
    /// The name of the execution, which no other has.
    pub holder: Uuid,
}

/// Lists requests that can be executed at `now`, the most urgent first.
pub async fn list_ready(
    tx: &mut SystemTx,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(TenantId, GdprRequestId)>, StoreError> {
    let rows = sqlx::query!(
        "SELECT tenant_id, request_id FROM ai_cache_gdpr_requests
         WHERE state IN ('approved', 'executing')
           AND (restarts_at IS NULL OR restarts_at <= $1)
           AND (lease_until IS NULL OR lease_until < now())
         ORDER BY due_at LIMIT $2",
        now,
        limit
    )
    .fetch_all(tx.connection()?)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (TenantId(row.tenant_id), GdprRequestId(row.request_id)))
        .collect())
}

/// Locks a request of the transaction's tenant that can be executed, until the transaction ends.
/// Returns `None` if it cannot be executed any more, or another execution has it.
pub async fn lock_ready(
    tx: &mut WriteTx,
    id: GdprRequestId,
    now: DateTime<Utc>,
) -> Result<Option<RequestRow>, StoreError> {
    let tenant = tx.tenant().0;
    let row = requests!(
        fetch_optional(tx.connection()?),
        "WHERE tenant_id = $1 AND request_id = $2 AND state IN ('approved', 'executing')
           AND (restarts_at IS NULL OR restarts_at <= $3)
           AND (lease_until IS NULL OR lease_until < now())
         FOR UPDATE SKIP LOCKED",
        tenant,
        id.0,
        now
    );
    row.map(RawRequest::parse).transpose()
}

/// Lists erasures that a legal hold cut short and that nothing holds any more at `now`: those that
/// found the person's key, which is still restricted as they left it.
pub async fn list_unheld(
    tx: &mut SystemTx,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(TenantId, GdprRequestId)>, StoreError> {
    let rows = sqlx::query!(
        "SELECT r.tenant_id, r.request_id FROM ai_cache_gdpr_requests r
         WHERE r.state = 'partially_completed'
           AND EXISTS (SELECT FROM subject_keys k
                       WHERE k.tenant_id = r.tenant_id AND k.subject_key_id = r.subject_key_id
                         AND k.state = 'active' AND k.restricted_at IS NOT NULL)
           AND NOT is_held(r.tenant_id, r.subject_blind, $1)
         ORDER BY r.due_at LIMIT $2",
        now,
        limit
    )
    .fetch_all(tx.connection()?)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (TenantId(row.tenant_id), GdprRequestId(row.request_id)))
        .collect())
}

/// Puts the execution of a request back to its beginning.
pub async fn update_begun_anew(tx: &mut WriteTx, id: GdprRequestId) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    sqlx::query!(
        "UPDATE ai_cache_gdpr_requests
         SET step = NULL, counts = NULL, stream_position = NULL, completed_at = NULL
         WHERE tenant_id = $1 AND request_id = $2",
        tenant,
        id.0
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Gives an execution a request that was given back and is to be taken up again about now. Returns
/// false if the request is not one of those, or another execution has it.
pub async fn take_waiting(
    tx: &mut SystemTx,
    lease: Lease,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE ai_cache_gdpr_requests
         SET lease_holder = $3, lease_until = now() + make_interval(secs => $4), restarts_at = NULL
         WHERE tenant_id = $1 AND request_id = $2 AND state = 'executing' AND lease_holder IS NULL
           AND restarts_at <= $5",
        lease.tenant.0,
        lease.request.0,
        lease.holder,
        LEASE_SECONDS,
        now
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives a locked request to an execution.
pub async fn update_lease(tx: &mut WriteTx, lease: Lease) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    sqlx::query!(
        "UPDATE ai_cache_gdpr_requests
         SET lease_holder = $3, lease_until = now() + make_interval(secs => $4), restarts_at = NULL
         WHERE tenant_id = $1 AND request_id = $2",
        tenant,
        lease.request.0,
        lease.holder,
        LEASE_SECONDS
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// The progress of an execution. `None` leaves the stored value as it is.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The step that is done.
    pub step: Option<ExecutionStep>,
    /// The random name of the person's key.
    pub subject_key: Option<SubjectKeyId>,
    /// The step of the stream that every replica must have followed.
    pub position: Option<Position>,
    /// What was touched.
    pub counts: Option<Counts>,
    /// The time until which a package can be had.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Records the progress of an execution and prolongs its lease. Returns false if the execution has
/// lost its lease: then the transaction must not commit.
pub async fn update_progress(
    tx: &mut WriteTx,
    lease: Lease,
    progress: &Progress,
    at: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let tenant = tx.tenant().0;
    let counts = progress.counts.as_ref().map(serde_json::to_string).transpose();
    let counts = counts.map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    let done = sqlx::query!(
        "UPDATE ai_cache_gdpr_requests
         SET lease_until = now() + make_interval(secs => $4), updated_at = $5,
             step = coalesce($6, step), subject_key_id = coalesce($7, subject_key_id),
             stream_position = coalesce($8, stream_position),
             counts = coalesce($9::text::jsonb, counts), expires_at = coalesce($10, expires_at)
         WHERE tenant_id = $1 AND request_id = $2 AND state = 'executing' AND lease_holder = $3",
        tenant,
        lease.request.0,
        lease.holder,
        LEASE_SECONDS,
        at,
        progress.step.map(ExecutionStep::name),
        progress.subject_key.map(|id| id.0),
        progress.position.map(|position| position.0),
        counts,
        progress.expires_at
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Prolongs the lease of an execution that has no progress to record. Returns false if the
/// execution has lost its lease.
pub async fn update_lease_prolonged(tx: &mut SystemTx, lease: Lease) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE ai_cache_gdpr_requests SET lease_until = now() + make_interval(secs => $4)
         WHERE tenant_id = $1 AND request_id = $2 AND state = 'executing' AND lease_holder = $3",
        lease.tenant.0,
        lease.request.0,
        lease.holder,
        LEASE_SECONDS
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Keeps the cache keys whose values in Redis must still be removed. An empty list means that they
/// are removed.
pub async fn update_cache_keys(
    tx: &mut WriteTx,
    id: GdprRequestId,
    keys: &[CacheKey],
) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    let keys: Vec<Vec<u8>> = keys.iter().map(|key| key.0.to_vec()).collect();
    sqlx::query!(
        "UPDATE ai_cache_gdpr_requests SET cache_keys = nullif($3::bytea[], '{}')
         WHERE tenant_id = $1 AND request_id = $2",
        tenant,
        id.0,
        &keys
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Lists the cache keys whose values in Redis must still be removed.
pub async fn list_cache_keys(
    tx: &mut TenantTx,
    id: GdprRequestId,
) -> Result<Vec<CacheKey>, StoreError> {
    let tenant = tx.tenant().0;
    let keys = sqlx::query_scalar!(
        "SELECT cache_keys FROM ai_cache_gdpr_requests WHERE tenant_id = $1 AND request_id = $2",
        tenant,
        id.0
    )
    .fetch_optional(tx.connection()?)
    .await?;
    keys.flatten().unwrap_or_default().into_iter().map(parse_key).collect()
}

/// Gives a request back, to be taken up again after `restarts_at`, with this many `failures` more.
/// Returns false if the execution had lost its lease.
pub async fn update_given_back(
    tx: &mut SystemTx,
    lease: Lease,
    restarts_at: DateTime<Utc>,
    failures: i32,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE ai_cache_gdpr_requests
         SET lease_holder = NULL, lease_until = NULL, restarts_at = $4, attempts = attempts + $5
         WHERE tenant_id = $1 AND request_id = $2 AND state = 'executing' AND lease_holder = $3",
        lease.tenant.0,
        lease.request.0,
        lease.holder,
        restarts_at,
        failures
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// An open request that will soon be due.
#[derive(Debug, Clone, Copy)]
pub struct DueRequest {
    /// The tenant.
    pub tenant: TenantId,
    /// The request.
    pub id: GdprRequestId,
    /// The kind.
    pub kind: RequestKind,
    /// The state.
    pub state: RequestState,
    /// The time until which it must be answered.
    pub due_at: DateTime<Utc>,
    /// The days before the due time at which the last warning was given.
    pub warned_days: Option<i16>,
}

/// Lists open requests of all tenants that are due within `within`, the most urgent first.
pub async fn list_due(
    tx: &mut SystemTx,
    now: DateTime<Utc>,
    within: TimeDelta,
) -> Result<Vec<DueRequest>, StoreError> {
    let rows = sqlx::query!(
        "SELECT tenant_id, request_id, type AS kind, state, due_at, warned_days
         FROM ai_cache_gdpr_requests
         WHERE state IN ('received', 'awaiting_approval', 'approved', 'executing') AND due_at < $1
         ORDER BY due_at",
        now + within
    )
    .fetch_all(tx.connection()?)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(DueRequest {
                tenant: TenantId(row.tenant_id),
                id: GdprRequestId(row.request_id),
                kind: RequestKind::parse(&row.kind).ok_or(StoreError::UnknownValue("request"))?,
                state: RequestState::parse(&row.state)
                    .ok_or(StoreError::UnknownValue("state of a request"))?,
                due_at: row.due_at,
                warned_days: row.warned_days,
            })
        })
        .collect()
}

/// Records that the warning `days` before the due date was given. Returns false if another replica
/// recorded it first.
pub async fn update_warned(
    tx: &mut SystemTx,
    due: &DueRequest,
    days: i16,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "UPDATE ai_cache_gdpr_requests SET warned_days = $3
         WHERE tenant_id = $1 AND request_id = $2 AND warned_days IS NOT DISTINCT FROM $4",
        due.tenant.0,
        due.id.0,
        days,
        due.warned_days
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected() == 1)
}
