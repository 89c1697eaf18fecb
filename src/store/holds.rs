//! Legal holds, which say what must be kept for now. The person and the reason are sealed; persons
//! are found by blind index.

use chrono::{DateTime, Utc};

use crate::crypto::Sealed;
use crate::domain::cache_key::BlindIndex;
use crate::domain::ids::{HoldId, TokenId};

use super::{StoreError, TenantTx, WriteTx};

/// A hold as stored.
#[derive(Debug, Clone)]
pub struct HoldRow {
    /// The hold.
    pub id: HoldId,
    /// The time from which it is in force.
    pub from: DateTime<Utc>,
    /// The time until which it is in force. `None` means until it is lifted.
    pub until: Option<DateTime<Utc>>,
    /// The sealed person and reason.
    pub reason: Sealed,
    /// The time when it was set.
    pub set_at: DateTime<Utc>,
    /// The token that set it. `None` for the command line.
    pub set_by: Option<TokenId>,
    /// The time when it was lifted.
    pub lifted_at: Option<DateTime<Utc>>,
    /// The token that lifted it.
    pub lifted_by: Option<TokenId>,
    /// The sealed reason why it was lifted.
    pub lift: Option<Sealed>,
}

/// A hold to be set.
#[derive(Debug)]
pub struct NewHold<'a> {
    /// The hold.
    pub id: HoldId,
    /// The person. `None` means everything of the tenant.
    pub subject: Option<BlindIndex>,
    /// The time from which it is in force.
    pub from: DateTime<Utc>,
    /// The time until which it is in force. `None` means until it is lifted.
    pub until: Option<DateTime<Utc>>,
    /// The sealed person and reason.
    pub reason: &'a Sealed,
    /// The time when it is set.
    pub at: DateTime<Utc>,
    /// The token that sets it. `None` for the command line.
    pub by: Option<TokenId>,
}

/// Sets a hold of the transaction's tenant. The tenant's fills and removals must be barred.
pub async fn insert(tx: &mut WriteTx, hold: &NewHold<'_>) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    sqlx::query!(
        "INSERT INTO legal_holds
             (tenant_id, hold_id, subject_blind, from_at, until_at, reason_sealed, set_at, set_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        tenant,
        hold.id.0,
        hold.subject.map(|subject| subject.0.to_vec()),
        hold.from,
        hold.until,
        hold.reason.as_bytes(),
        hold.at,
        hold.by.map(|id| id.0)
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// The result of a lift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifted {
    /// The hold is lifted now.
    Now,
    /// The hold was lifted before.
    Before,
    /// The tenant has no such hold.
    Unknown,
}

/// Lifts a hold of the transaction's tenant, once.
pub async fn update_lifted(
    tx: &mut WriteTx,
    id: HoldId,
    at: DateTime<Utc>,
    by: Option<TokenId>,
    reason: &Sealed,
) -> Result<Lifted, StoreError> {
    let tenant = tx.tenant().0;
    let done = sqlx::query!(
        "UPDATE legal_holds SET lifted_at = $3, lifted_by = $4, lift_sealed = $5
         WHERE tenant_id = $1 AND hold_id = $2 AND lifted_at IS NULL",
        tenant,
        id.0,
        at,
        by.map(|id| id.0),
        reason.as_bytes()
    )
    .execute(tx.connection()?)
    .await?;
    if done.rows_affected() == 1 {
        return Ok(Lifted::Now);
    }
    let known = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM legal_holds WHERE tenant_id = $1 AND hold_id = $2)
                  AS "known!""#,
        tenant,
        id.0
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(if known { Lifted::Before } else { Lifted::Unknown })
}

/// Lists holds of the transaction's tenant, or one of them: those that are not lifted come first,
/// newest first, at most `limit`.
pub async fn list(
    tx: &mut TenantTx,
    only: Option<HoldId>,
    limit: i64,
) -> Result<Vec<HoldRow>, StoreError> {
    let tenant = tx.tenant().0;
    let rows = sqlx::query!(
        "SELECT hold_id, from_at, until_at, reason_sealed, set_at, set_by, lifted_at, lifted_by,
                lift_sealed
         FROM legal_holds WHERE tenant_id = $1 AND hold_id = coalesce($2, hold_id)
         ORDER BY lifted_at IS NOT NULL, hold_id DESC LIMIT $3",
        tenant,
        only.map(|id| id.0),
        limit
    )
    .fetch_all(tx.connection()?)
    .await?;
    let hold = rows.into_iter().map(|row| HoldRow {
        id: HoldId(row.hold_id),
        from: row.from_at,
        until: row.until_at,
        reason: Sealed::from_bytes(row.reason_sealed),
        set_at: row.set_at,
        set_by: row.set_by.map(TokenId),
        lifted_at: row.lifted_at,
        lifted_by: row.lifted_by.map(TokenId),
        lift: row.lift_sealed.map(Sealed::from_bytes),
    });
    Ok(hold.collect())
}
