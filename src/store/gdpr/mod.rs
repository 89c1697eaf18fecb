//! Requests of data subjects, their history and their state. The person and the reason are sealed;
//! persons are found by blind index.

pub mod exports;
pub mod history;
pub mod work;

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

use crate::crypto::Sealed;
use crate::domain::cache_key::BlindIndex;
use crate::domain::gdpr::{RequestKind, RequestState};
use crate::domain::gdpr_execution::{Counts, ExecutionStep};
use crate::domain::ids::{GdprRequestId, SubjectKeyId, TokenId};
use crate::domain::selector::Position;

use super::{StoreError, TenantTx, WriteTx};

/// A request as stored.
#[derive(Debug, Clone)]
pub struct RequestRow {
    /// The request.
    pub id: GdprRequestId,
    /// The kind.
    pub kind: RequestKind,
    /// The state.
    pub state: RequestState,
    /// The last step of its execution that is done.
    pub step: Option<ExecutionStep>,
    /// Whether a later release wrote a step or counts that this release does not know. The request is
    /// shown, but only a replica of that release executes it.
    pub is_of_later_release: bool,
    /// The executions that failed since it was approved.
    pub attempts: i32,
    /// The person's id. `None` 90 days after the end of the request.
    pub subject_sealed: Option<Sealed>,
    /// The person.
    pub subject: BlindIndex,
    /// The sealed reason and reference.
    pub details: Sealed,
    /// The digest of the filing. Equal filings have equal digests.
    pub digest: Option<Vec<u8>>,
    /// The token that filed it. `None` for the command line.
    pub filed_by: Option<TokenId>,
    /// The time when the person asked.
    pub received_at: DateTime<Utc>,
    /// The time until which it must be answered.
    pub due_at: DateTime<Utc>,
    /// The time when it was extended.
    pub extended_at: Option<DateTime<Utc>>,
    /// The time when it was executed.
    pub completed_at: Option<DateTime<Utc>>,
    /// The time when it was filed.
    pub created_at: DateTime<Utc>,
    /// The random name of the person's key, once the execution has found it.
    pub subject_key: Option<SubjectKeyId>,
    /// The step that every replica must have followed.
    pub position: Option<Position>,
    /// What the execution has touched.
    pub counts: Option<Counts>,
    /// The time until which the package of an export can be had.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A request to be filed.
#[derive(Debug)]
pub struct NewRequest<'a> {
    /// The request.
    pub id: GdprRequestId,
    /// The kind.
    pub kind: RequestKind,
    /// The person's sealed id.
    pub subject_sealed: &'a Sealed,
    /// The person.
    pub subject: BlindIndex,
    /// The sealed reason and reference.
    pub details: &'a Sealed,
    /// The client's idempotency key, hashed.
    pub idempotency_key: Option<[u8; 32]>,
    /// The digest of the filing.
    pub digest: [u8; 32],
    /// The token that files it.
    pub filed_by: Option<TokenId>,
    /// The time when the person asked.
    pub received_at: DateTime<Utc>,
    /// The time until which it must be answered.
    pub due_at: DateTime<Utc>,
    /// The time when it is filed.
    pub created_at: DateTime<Utc>,
}

/// The filter of a list.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestFilter {
    /// Only requests in this state.
    pub state: Option<RequestState>,
    /// Only requests of this kind.
    pub kind: Option<RequestKind>,
    /// Only requests that are due before this time.
    pub due_before: Option<DateTime<Utc>>,
    /// Only requests that were filed before this one.
    pub before: Option<GdprRequestId>,
}

/// The columns of [`RawRequest`], in every statement that reads requests.
macro_rules! requests {
    ($method:ident($connection:expr), $condition:literal $(, $argument:expr)*) => {
        sqlx::query_as!(
            RawRequest,
            r#"SELECT request_id, type AS kind, state, step, attempts, subject_sealed, subject_blind,
                      details_sealed, body_digest, filed_by, received_at, due_at, extended_at,
                      completed_at, created_at, subject_key_id, stream_position,
                      counts::text AS counts, expires_at
               FROM ai_cache_gdpr_requests "# + $condition
            $(, $argument)*
        )
        .$method($connection)
        .await?
    };
}

use requests;

#[derive(sqlx::FromRow)]
struct RawRequest {
    request_id: Uuid,
    kind: String,
    state: String,
    step: Option<String>,
    attempts: i32,
    subject_sealed: Option<Vec<u8>>,
    subject_blind: Vec<u8>,
    details_sealed: Vec<u8>,
    body_digest: Option<Vec<u8>>,
    filed_by: Option<Uuid>,
    received_at: DateTime<Utc>,
    due_at: DateTime<Utc>,
    extended_at: Option<DateTime<Utc>>,
    completed_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    subject_key_id: Option<Uuid>,
    stream_position: Option<i64>,
    counts: Option<String>,
    expires_at: Option<DateTime<Utc>>,
}

impl RawRequest {
    fn parse(self) -> Result<RequestRow, StoreError> {
        let subject: [u8; 32] = self
            .subject_blind
            .try_into()
            .map_err(|_| StoreError::UnknownValue("blind index of a person"))?;
        let kind = RequestKind::parse(&self.kind).ok_or(StoreError::UnknownValue("request"))?;
        let step = self.step.as_deref().map(ExecutionStep::parse);
        let counts = self.counts.map(|json| Counts::parse(kind, &json));
        Ok(RequestRow {
            is_of_later_release: step == Some(None) || counts == Some(None),
            id: GdprRequestId(self.request_id),
            kind,
            state: parse_state(&self.state)?,
            step: step.flatten(),
            attempts: self.attempts,
            subject_sealed: self.subject_sealed.map(Sealed::from_bytes),
            subject: BlindIndex(subject),
            details: Sealed::from_bytes(self.details_sealed),
            digest: self.body_digest,
            filed_by: self.filed_by.map(TokenId),
            received_at: self.received_at,
            due_at: self.due_at,
            extended_at: self.extended_at,
            completed_at: self.completed_at,
            created_at: self.created_at,
            subject_key: self.subject_key_id.map(SubjectKeyId),
            position: self.stream_position.map(Position),
            counts: counts.flatten(),
            expires_at: self.expires_at,
        })
    }
}

fn parse_state(name: &str) -> Result<RequestState, StoreError> {
    RequestState::parse(name).ok_or(StoreError::UnknownValue("state of a request"))
}

/// Files a request of the transaction's tenant. Returns false if the client filed one under the
/// same idempotency key before, and that one is committed.
pub async fn insert(tx: &mut WriteTx, new: &NewRequest<'_>) -> Result<bool, StoreError> {
    let tenant = tx.tenant().0;
    let done = sqlx::query!(
        "INSERT INTO ai_cache_gdpr_requests
             (tenant_id, request_id, type, state, subject_sealed, subject_blind, details_sealed,
              idempotency_key, body_digest, filed_by, received_at, due_at, created_at, updated_at)
         VALUES ($1, $2, $3, 'received', $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)
         ON CONFLICT ON CONSTRAINT ai_cache_gdpr_requests_idempotent DO NOTHING",
        tenant,
        new.id.0,
        new.kind.name(),
        new.subject_sealed.as_bytes(),
        &new.subject.0,
        new.details.as_bytes(),
        new.idempotency_key.as_ref().map(|key| &key[..]),
        &new.digest,
        new.filed_by.map(|id| id.0),
        new.received_at,
        new.due_at,
        new.created_at
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Finds the request of the transaction's tenant that was filed under an idempotency key.
pub async fn find_by_idempotency_key(
    tx: &mut TenantTx,
    key: &[u8; 32],
) -> Result<Option<RequestRow>, StoreError> {
    let tenant = tx.tenant().0;
    let row = requests!(
        fetch_optional(tx.connection()?),
        "WHERE tenant_id = $1 AND idempotency_key = $2",
        tenant,
        key
    );
    row.map(RawRequest::parse).transpose()
}

/// Finds one request of the transaction's tenant.
pub async fn find(tx: &mut TenantTx, id: GdprRequestId) -> Result<Option<RequestRow>, StoreError> {
    let tenant = tx.tenant().0;
    let row = requests!(
        fetch_optional(tx.connection()?),
        "WHERE tenant_id = $1 AND request_id = $2",
        tenant,
        id.0
    );
    row.map(RawRequest::parse).transpose()
}

/// Locks one request of the transaction's tenant, so that nobody else changes it until the
/// transaction ends.
pub async fn lock(tx: &mut WriteTx, id: GdprRequestId) -> Result<Option<RequestRow>, StoreError> {
    let tenant = tx.tenant().0;
    let row = requests!(
        fetch_optional(tx.connection()?),
        "WHERE tenant_id = $1 AND request_id = $2 FOR UPDATE",
        tenant,
        id.0
    );
    row.map(RawRequest::parse).transpose()
}

/// Lists requests of the transaction's tenant, newest first, at most `limit`.
pub async fn list(
    tx: &mut TenantTx,
    filter: &RequestFilter,
    limit: i64,
) -> Result<Vec<RequestRow>, StoreError> {
    let mut query = QueryBuilder::new(
        "SELECT request_id, type AS kind, state, step, attempts, subject_sealed, subject_blind,
                details_sealed, body_digest, filed_by, received_at, due_at, extended_at,
                completed_at, created_at, subject_key_id, stream_position, counts::text AS counts,
                expires_at
         FROM ai_cache_gdpr_requests WHERE tenant_id = ",
    );
    query.push_bind(tx.tenant().0);
    if let Some(state) = filter.state {
        query.push(" AND state = ").push_bind(state.name());
    }
    if let Some(kind) = filter.kind {
        query.push(" AND type = ").push_bind(kind.name());
    }
    if let Some(due_before) = filter.due_before {
        query.push(" AND due_at < ").push_bind(due_before);
    }
    if let Some(before) = filter.before {
        query.push(" AND request_id < ").push_bind(before.0);
    }
    query.push(" ORDER BY request_id DESC LIMIT ").push_bind(limit);
    let rows: Vec<RawRequest> = query.build_query_as().fetch_all(tx.connection()?).await?;
    rows.into_iter().map(RawRequest::parse).collect()
}

/// Lists every request of a person of the transaction's tenant, oldest first.
pub async fn list_of_subject(
    tx: &mut TenantTx,
    subject: BlindIndex,
) -> Result<Vec<RequestRow>, StoreError> {
    let tenant = tx.tenant().0;
    let rows = requests!(
        fetch_all(tx.connection()?),
        "WHERE tenant_id = $1 AND subject_blind = $2 ORDER BY request_id",
        tenant,
        &subject.0
    );
    rows.into_iter().map(RawRequest::parse).collect()
}

/// A change of the state of a request.
#[derive(Debug, Clone, Copy)]
pub struct Transition {
    /// The state that the request is in.
    pub from: RequestState,
    /// The state that the request goes into.
    pub to: RequestState,
    /// The time of the change.
    pub at: DateTime<Utc>,
}

/// Puts a request into another state. Returns false if the request is no longer in the first one.
pub async fn update_state(
    tx: &mut WriteTx,
    id: GdprRequestId,
    transition: Transition,
) -> Result<bool, StoreError> {
    let Transition { from, to, at } = transition;
    let tenant = tx.tenant().0;
    let done = sqlx::query!(
        "UPDATE ai_cache_gdpr_requests
         SET state = $4, updated_at = $5,
             attempts = CASE WHEN $4 = 'approved' AND $3 <> $4 THEN 0 ELSE attempts END,
             completed_at = CASE WHEN $4 IN ('completed', 'partially_completed') THEN $5
                                 ELSE completed_at END,
             cache_keys = CASE WHEN $4 IN ('completed', 'partially_completed') THEN NULL
                               ELSE cache_keys END,
             restarts_at = CASE WHEN $3 = $4 THEN restarts_at END,
             lease_holder = CASE WHEN $3 = $4 THEN lease_holder END,
             lease_until = CASE WHEN $3 = $4 THEN lease_until END
         WHERE tenant_id = $1 AND request_id = $2 AND state = $3",
        tenant,
        id.0,
        from.name(),
        to.name(),
        at
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Records the token that decided on a request.
pub async fn update_decided(
    tx: &mut WriteTx,
    id: GdprRequestId,
    by: Option<TokenId>,
) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    sqlx::query!(
        "UPDATE ai_cache_gdpr_requests SET decided_by = $3
         WHERE tenant_id = $1 AND request_id = $2",
        tenant,
        id.0,
        by.map(|id| id.0)
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Extends a request once. Returns false if it was extended before.
pub async fn update_extended(
    tx: &mut WriteTx,
    id: GdprRequestId,
    due_at: DateTime<Utc>,
    at: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let tenant = tx.tenant().0;
    let done = sqlx::query!(
        "UPDATE ai_cache_gdpr_requests
         SET due_at = $3, extended_at = $4, updated_at = $4, warned_days = NULL
         WHERE tenant_id = $1 AND request_id = $2 AND extended_at IS NULL",
        tenant,
        id.0,
        due_at,
        at
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected() == 1)
}
