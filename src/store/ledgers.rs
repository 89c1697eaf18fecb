//! The audit trail's ledgers: unbroken histories of the database, one after the other.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::ids::LedgerId;

use super::{StoreError, SystemTx};

/// Where a ledger was begun, seen from the present server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerOrigin {
    /// Here.
    Here,
    /// On this server, before its log took another turn.
    OtherTimeline,
    /// On another server.
    OtherServer,
}

/// A history of this database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// Its name.
    pub id: LedgerId,
    /// Where it was begun.
    pub home: LedgerOrigin,
    /// Whether its seals are kept outside.
    pub checkpointed: bool,
    /// Whether an operator took note of why it was begun.
    pub accepted: bool,
    /// Why it was begun.
    pub reason: String,
    /// The transaction that began it; its rows are of later ones.
    pub begun_tx: i64,
}

/// A ledger as it is stored.
struct LedgerRow {
    ledger_id: Uuid,
    checkpointed: bool,
    reason: String,
    accepted_at: Option<DateTime<Utc>>,
    begun_tx: i64,
    same_server: bool,
    same_timeline: bool,
}

impl From<LedgerRow> for Ledger {
    fn from(row: LedgerRow) -> Self {
        Self {
            id: LedgerId(row.ledger_id),
            home: match (row.same_server, row.same_timeline) {
                (true, true) => LedgerOrigin::Here,
                (true, false) => LedgerOrigin::OtherTimeline,
                (false, _) => LedgerOrigin::OtherServer,
            },
            checkpointed: row.checkpointed,
            accepted: row.accepted_at.is_some(),
            reason: row.reason,
            begun_tx: row.begun_tx,
        }
    }
}

/// Every ledger, the oldest first: they are few.
pub async fn list(tx: &mut SystemTx) -> Result<Vec<Ledger>, StoreError> {
    let rows = sqlx::query_as!(
        LedgerRow,
        r#"SELECT l.ledger_id, l.checkpointed, l.reason, l.accepted_at, l.begun_tx,
                  l.system_identifier = s.system_identifier::text AS "same_server!",
                  l.timeline = c.timeline_id AS "same_timeline!"
           FROM audit_ledgers l, pg_control_system() s, pg_control_checkpoint() c
           ORDER BY l.ledger_id"#
    )
    .fetch_all(tx.connection()?)
    .await?;
    Ok(rows.into_iter().map(Ledger::from).collect())
}

/// The newest ledger.
pub async fn newest(tx: &mut SystemTx) -> Result<Option<Ledger>, StoreError> {
    Ok(list(tx).await?.pop())
}

/// A ledger that begins.
pub struct NewLedger<'a> {
    /// The ledger.
    pub id: LedgerId,
    /// Why it begins.
    pub reason: &'a str,
    /// When it begins.
    pub begun_at: DateTime<Utc>,
    /// Whether it may be served at once, without an operator's word.
    pub accepted: bool,
}

/// Begins a ledger on this server and timeline. Returns the transaction that did.
pub async fn insert(tx: &mut SystemTx, new: NewLedger<'_>) -> Result<i64, StoreError> {
    let begun_tx = sqlx::query_scalar!(
        "INSERT INTO audit_ledgers
             (ledger_id, system_identifier, timeline, begun_at, reason, accepted_at, begun_tx)
         SELECT $1, s.system_identifier::text, c.timeline_id, $2::timestamptz, $3,
                CASE WHEN $4 THEN $2::timestamptz END, pg_current_xact_id()::text::bigint
         FROM pg_control_system() s, pg_control_checkpoint() c
         RETURNING begun_tx",
        new.id.0,
        new.begun_at,
        new.reason,
        new.accepted
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(begun_tx)
}

/// Waits until nobody else looks for the newest ledger, so that one is begun once.
pub async fn lock(tx: &mut SystemTx) -> Result<(), StoreError> {
    sqlx::query!(
        r#"SELECT pg_advisory_xact_lock(hashtext('ai-cache audit ledgers')) AS "locked: ()""#
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(())
}

/// Notes that the ledger's seals are kept in a checkpoint file from now on.
pub async fn note_checkpointed(tx: &mut SystemTx, ledger: LedgerId) -> Result<(), StoreError> {
    let query = sqlx::query!(
        "UPDATE audit_ledgers SET checkpointed = true WHERE ledger_id = $1 AND NOT checkpointed",
        ledger.0
    );
    query.execute(tx.connection()?).await?;
    Ok(())
}

/// Notes that an operator knows why every ledger was begun; returns whether nobody had of one.
pub async fn accept_all(tx: &mut SystemTx, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let query =
        sqlx::query!("UPDATE audit_ledgers SET accepted_at = $1 WHERE accepted_at IS NULL", now);
    Ok(query.execute(tx.connection()?).await?.rows_affected() > 0)
}

/// Whether nothing speaks against serving from a ledger.
pub async fn is_accepted(tx: &mut SystemTx, ledger: LedgerId) -> Result<bool, StoreError> {
    let accepted = sqlx::query_scalar!(
        r#"SELECT accepted_at IS NOT NULL AS "accepted!" FROM audit_ledgers WHERE ledger_id = $1"#,
        ledger.0
    )
    .fetch_optional(tx.connection()?)
    .await?;
    Ok(accepted.unwrap_or(false))
}

/// How the database stands to what was erased elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasuresStanding {
    /// Whether erasures are kept in a file outside, which must be there.
    pub outside: bool,
    /// Whether it was restored or copied, and that file not applied since.
    pub to_apply: bool,
}

/// How the database stands to what was erased elsewhere.
pub async fn erasures_standing(tx: &mut SystemTx) -> Result<ErasuresStanding, StoreError> {
    let row = sqlx::query!(
        r#"SELECT coalesce(bool_or(erasures_outside), false) AS "outside!",
                  coalesce(bool_or(erasures_applied_at IS NULL
                                   AND reason NOT IN ('first', 'other-timeline')), false)
                  AS "to_apply!"
           FROM audit_ledgers"#
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(ErasuresStanding { outside: row.outside, to_apply: row.to_apply })
}

/// Where erasures are kept besides the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErasuresKept {
    /// In a file outside the database.
    Outside,
    /// In the database only.
    Inside,
}

/// Records where erasures are kept from now on.
pub async fn update_erasures_kept(tx: &mut SystemTx, kept: ErasuresKept) -> Result<(), StoreError> {
    let query = sqlx::query!(
        "UPDATE audit_ledgers SET erasures_outside = $1 WHERE erasures_outside <> $1",
        kept == ErasuresKept::Outside
    );
    query.execute(tx.connection()?).await?;
    Ok(())
}

/// Notes that what was erased elsewhere was erased here too.
pub async fn note_erasures_applied(
    tx: &mut SystemTx,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let query = sqlx::query!(
        "UPDATE audit_ledgers SET erasures_applied_at = $1 WHERE erasures_applied_at IS NULL",
        now
    );
    query.execute(tx.connection()?).await?;
    Ok(())
}
