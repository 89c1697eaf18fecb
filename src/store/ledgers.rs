//! The audit trail's ledgers: unbroken histories of the database, one after the other.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::ids::LedgerId;

use super::{StoreError, SystemTx};

/// The place where a ledger was begun, seen from the present server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerOrigin {
    /// It was begun here.
    Here,
    /// It was begun on this server, before its log took another turn.
    OtherTimeline,
    /// It was begun on another server.
    OtherServer,
}

/// A history of this database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// The ledger.
    pub id: LedgerId,
    /// The place where it was begun.
    pub home: LedgerOrigin,
    /// Whether its seals are kept in a checkpoint file.
    pub checkpointed: bool,
    /// Whether an operator accepted the reason why it was begun.
    pub accepted: bool,
    /// The reason why it was begun.
    pub reason: String,
    /// The transaction that began it. Its rows are of later transactions.
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

/// Lists every ledger, the oldest first. They are few.
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

/// Finds the newest ledger.
pub async fn newest(tx: &mut SystemTx) -> Result<Option<Ledger>, StoreError> {
    Ok(list(tx).await?.pop())
}

/// A ledger that begins.
pub struct NewLedger<'a> {
    /// The ledger.
    pub id: LedgerId,
    /// The reason why it begins.
    pub reason: &'a str,
    /// The time when it begins.
    pub begun_at: DateTime<Utc>,
    /// Whether it may be served at once, without an operator's acceptance.
    pub accepted: bool,
}

/// Begins a ledger on this server and timeline. Returns the transaction that began it.
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

/// Waits until no other process looks for the newest ledger, so that a ledger is begun once.
pub async fn lock(tx: &mut SystemTx) -> Result<(), StoreError> {
    sqlx::query!(
        r#"SELECT pg_advisory_xact_lock(hashtext('ai-cache audit ledgers')) AS "locked: ()""#
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(())
}

/// Records that the ledger's seals are kept in a checkpoint file from now on.
pub async fn note_checkpointed(tx: &mut SystemTx, ledger: LedgerId) -> Result<(), StoreError> {
    let query = sqlx::query!(
        "UPDATE audit_ledgers SET checkpointed = true WHERE ledger_id = $1 AND NOT checkpointed",
        ledger.0
    );
    query.execute(tx.connection()?).await?;
    Ok(())
}

/// Records that an operator accepts the reason why every ledger was begun. Returns whether there
/// was one that nobody had accepted.
pub async fn accept_all(tx: &mut SystemTx, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let query =
        sqlx::query!("UPDATE audit_ledgers SET accepted_at = $1 WHERE accepted_at IS NULL", now);
    Ok(query.execute(tx.connection()?).await?.rows_affected() > 0)
}

/// Returns whether a ledger may be served from.
pub async fn is_accepted(tx: &mut SystemTx, ledger: LedgerId) -> Result<bool, StoreError> {
    let accepted = sqlx::query_scalar!(
        r#"SELECT accepted_at IS NOT NULL AS "accepted!" FROM audit_ledgers WHERE ledger_id = $1"#,
        ledger.0
    )
    .fetch_optional(tx.connection()?)
    .await?;
    Ok(accepted.unwrap_or(false))
}

/// The relation of the database to erasures that were done elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasuresStanding {
    /// Whether erasures are kept in a file outside, which must exist.
    pub outside: bool,
    /// Whether the database was restored or copied, and that file has not been applied since.
    pub to_apply: bool,
}

/// Reads the relation of the database to erasures that were done elsewhere.
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

/// The place where erasures are kept besides the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErasuresKept {
    /// They are kept in a file outside the database.
    Outside,
    /// They are kept in the database only.
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

/// Records that erasures that were done elsewhere were done here too.
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
