//! The history of each request, and the certificates of erasures.

use chrono::{DateTime, Utc};

use crate::crypto::Sealed;
use crate::domain::gdpr::{RequestEvent, RequestState};
use crate::domain::ids::{AuditId, GdprRequestId, TokenId};
use crate::store::{StoreError, TenantTx, WriteTx};

use super::parse_state;

/// An event of a request.
#[derive(Debug, Clone)]
pub struct EventRow {
    /// The audit record of it.
    pub id: AuditId,
    /// The event.
    pub event: RequestEvent,
    /// The request's state after it.
    pub state: RequestState,
    /// The time.
    pub at: DateTime<Utc>,
    /// The token that caused it. `None` for the service itself or the command line.
    pub by: Option<TokenId>,
    /// The sealed reason.
    pub note: Option<Sealed>,
}

/// Adds an event to a request's history.
pub async fn insert_event(
    tx: &mut WriteTx,
    request: GdprRequestId,
    event: &EventRow,
) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    sqlx::query!(
        "INSERT INTO gdpr_events
             (tenant_id, request_id, event_id, event, state, at, by_token_id, note_sealed)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        tenant,
        request.0,
        event.id.0,
        event.event.name(),
        event.state.name(),
        event.at,
        event.by.map(|id| id.0),
        event.note.as_ref().map(Sealed::as_bytes)
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Lists a request's history, oldest first.
pub async fn list_events(
    tx: &mut TenantTx,
    request: GdprRequestId,
) -> Result<Vec<EventRow>, StoreError> {
    let tenant = tx.tenant().0;
    let rows = sqlx::query!(
        "SELECT event_id, event, state, at, by_token_id, note_sealed FROM gdpr_events
         WHERE tenant_id = $1 AND request_id = $2 ORDER BY event_id",
        tenant,
        request.0
    )
    .fetch_all(tx.connection()?)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(EventRow {
                id: AuditId(row.event_id),
                event: RequestEvent::parse(&row.event)
                    .ok_or(StoreError::UnknownValue("event of a request"))?,
                state: parse_state(&row.state)?,
                at: row.at,
                by: row.by_token_id.map(TokenId),
                note: row.note_sealed.map(Sealed::from_bytes),
            })
        })
        .collect()
}

/// Keeps the certificate of an erasure.
pub async fn insert_certificate(
    tx: &mut WriteTx,
    request: GdprRequestId,
    body: &str,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    sqlx::query!(
        "INSERT INTO gdpr_certificates (tenant_id, request_id, body, issued_at)
         VALUES ($1, $2, $3, $4)",
        tenant,
        request.0,
        body,
        at
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Finds the newest certificate of an erasure of the transaction's tenant.
pub async fn find_certificate(
    tx: &mut TenantTx,
    request: GdprRequestId,
) -> Result<Option<String>, StoreError> {
    let tenant = tx.tenant().0;
    let body = sqlx::query_scalar!(
        "SELECT body FROM gdpr_certificates WHERE tenant_id = $1 AND request_id = $2
         ORDER BY issued_at DESC LIMIT 1",
        tenant,
        request.0
    )
    .fetch_optional(tx.connection()?)
    .await?;
    Ok(body)
}
