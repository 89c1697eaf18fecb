//! The audit trail's ledgers and seals, and its rows in the order they are sealed in. Append-only,
//! as the trail itself.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::ids::LedgerId;
use crate::domain::seal::{Seal, SealContent, SealPart};

use super::{StoreError, SystemTx};

/// Which transactions are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// Every transaction below has ended and is seen by whoever looks after this.
    pub settled: i64,
    /// The next one to begin.
    pub next: i64,
}

/// Where a ledger was begun, seen from the present server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
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
    pub home: Home,
    /// Whether its seals are kept outside.
    pub checkpointed: bool,
    /// Whether an operator took note of why it was begun.
    pub accepted: bool,
    /// Why it was begun.
    pub reason: String,
}

/// The newest ledger.
pub async fn newest_ledger(tx: &mut SystemTx) -> Result<Option<Ledger>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT l.ledger_id, l.checkpointed, l.reason, l.accepted_at IS NOT NULL AS "accepted!",
                  l.system_identifier = s.system_identifier::text AS "same_server!",
                  l.timeline = c.timeline_id AS "same_timeline!"
           FROM audit_ledgers l, pg_control_system() s, pg_control_checkpoint() c
           ORDER BY l.ledger_id DESC LIMIT 1"#
    )
    .fetch_optional(tx.connection()?)
    .await?;
    Ok(row.map(|row| Ledger {
        id: LedgerId(row.ledger_id),
        home: match (row.same_server, row.same_timeline) {
            (true, true) => Home::Here,
            (true, false) => Home::OtherTimeline,
            (false, _) => Home::OtherServer,
        },
        checkpointed: row.checkpointed,
        accepted: row.accepted,
        reason: row.reason,
    }))
}

/// Begins a ledger on this server and timeline.
pub async fn insert_ledger(
    tx: &mut SystemTx,
    ledger: LedgerId,
    reason: &str,
    (now, accepted): (DateTime<Utc>, bool),
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO audit_ledgers
             (ledger_id, system_identifier, timeline, begun_at, reason, accepted_at)
         SELECT $1, s.system_identifier::text, c.timeline_id, $2::timestamptz, $3,
                CASE WHEN $4 THEN $2::timestamptz END
         FROM pg_control_system() s, pg_control_checkpoint() c",
        ledger.0,
        now,
        reason,
        accepted
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Waits until nobody else looks for the newest ledger, so that one is begun once.
pub async fn lock_ledgers(tx: &mut SystemTx) -> Result<(), StoreError> {
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
pub async fn accept_ledgers(tx: &mut SystemTx, now: DateTime<Utc>) -> Result<bool, StoreError> {
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

/// Every ledger, the oldest first.
pub async fn list_ledgers(tx: &mut SystemTx) -> Result<Vec<LedgerId>, StoreError> {
    let rows = sqlx::query_scalar!("SELECT ledger_id FROM audit_ledgers ORDER BY ledger_id")
        .fetch_all(tx.connection()?)
        .await?;
    Ok(rows.into_iter().map(LedgerId).collect())
}

/// Whether this transaction may seal: one at a time may. Its statements use the index of
/// transactions whatever the planner thinks of tables it has no figures of yet.
pub async fn try_lock(tx: &mut SystemTx) -> Result<bool, StoreError> {
    let row = sqlx::query!(
        r#"SELECT pg_try_advisory_xact_lock(hashtext('ai-cache audit seals')) AS "locked!",
                  set_config('enable_seqscan', 'off', true) AS scan,
                  set_config('jit', 'off', true) AS jit"#
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(row.locked)
}

/// Which transactions are settled. Rows of theirs are read in a later statement.
pub async fn horizon(tx: &mut SystemTx) -> Result<Horizon, StoreError> {
    let row = sqlx::query!(
        r#"SELECT pg_snapshot_xmin(s)::text::bigint AS "settled!",
                  pg_snapshot_xmax(s)::text::bigint AS "next!"
           FROM pg_current_snapshot() s"#
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(Horizon { settled: row.settled, next: row.next })
}

/// Who holds the transaction that the horizon waits for, in any database: a prepared
/// transaction's name or a session's process id.
pub async fn list_blockers(tx: &mut SystemTx, settled: i64) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query_scalar!(
        r#"SELECT format('prepared transaction %s in database %s, since %s', gid, database, prepared)
                      AS "blocker!"
           FROM pg_prepared_xacts WHERE transaction = $1::text::xid8::xid
           UNION ALL
           SELECT format('process %s of role %s in database %s', a.pid, a.usename, a.datname)
           FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
           WHERE l.locktype = 'transactionid' AND l.granted
             AND l.transactionid = $1::text::xid8::xid"#,
        settled.to_string()
    )
    .fetch_all(tx.connection()?)
    .await?;
    Ok(rows)
}

/// The lowest transaction from `from_tx` on that wrote a row of the ledger.
pub async fn next_tx(
    tx: &mut SystemTx,
    ledger: LedgerId,
    from_tx: i64,
) -> Result<Option<i64>, StoreError> {
    let found = sqlx::query_scalar!(
        "SELECT min(tx_id) FROM ai_cache_audit_logs WHERE tx_id >= $2 AND ledger_id = $1",
        ledger.0,
        from_tx
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(found)
}

/// What there is in a range of transactions, by partition.
pub async fn list_parts(
    tx: &mut SystemTx,
    ledger: LedgerId,
    (from_tx, to_tx): (i64, i64),
) -> Result<Vec<SealPart>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT c.relname::text AS "name!", r.rows AS "count!", r.hash AS "hash!"
           FROM (SELECT a.tableoid, count(*) AS rows,
                        sha256(string_agg(int8send(a.tx_id) || a.row_hash, ''::bytea
                                          ORDER BY a.tx_id, a.id)) AS hash
                 FROM ai_cache_audit_logs a
                 WHERE a.tx_id >= $2 AND a.tx_id < $3 AND a.ledger_id = $1
                 GROUP BY a.tableoid) r
           JOIN pg_class c ON c.oid = r.tableoid
           ORDER BY c.relname COLLATE "C""#,
        ledger.0,
        from_tx,
        to_tx
    )
    .fetch_all(tx.connection()?)
    .await?;
    let part = |name, count, hash| SealPart { name, count, hash };
    Ok(rows.into_iter().map(|row| part(row.name, row.count, row.hash)).collect())
}

/// Appends a seal.
pub async fn insert(tx: &mut SystemTx, seal: &Seal) -> Result<(), StoreError> {
    let SealContent { ledger, seq, from_tx, to_tx, parts, previous, at, key_id } = &seal.content;
    let names: Vec<String> = parts.iter().map(|part| part.name.clone()).collect();
    let counts: Vec<i64> = parts.iter().map(|part| part.count).collect();
    let hashes: Vec<Vec<u8>> = parts.iter().map(|part| part.hash.clone()).collect();
    sqlx::query!(
        "INSERT INTO audit_seals (ledger_id, seq, from_tx, to_tx, part_names, part_counts,
                                  part_hashes, previous_hash, sealed_at, key_id, seal_hash, signature)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        ledger.0,
        seq,
        from_tx,
        to_tx,
        &names,
        &counts,
        &hashes,
        &previous[..],
        at,
        key_id,
        &seal.hash[..],
        &seal.signature[..]
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// A seal as it is stored.
struct SealRow {
    ledger_id: Uuid,
    seq: i64,
    from_tx: i64,
    to_tx: i64,
    part_names: Vec<String>,
    part_counts: Vec<i64>,
    part_hashes: Vec<Vec<u8>>,
    previous_hash: Vec<u8>,
    sealed_at: DateTime<Utc>,
    key_id: String,
    seal_hash: Vec<u8>,
    signature: Vec<u8>,
}

impl From<SealRow> for Seal {
    fn from(row: SealRow) -> Self {
        let parts = row.part_names.into_iter().zip(row.part_counts).zip(row.part_hashes);
        let content = SealContent {
            ledger: LedgerId(row.ledger_id),
            seq: row.seq,
            from_tx: row.from_tx,
            to_tx: row.to_tx,
            parts: parts.map(|((name, count), hash)| SealPart { name, count, hash }).collect(),
            previous: row.previous_hash,
            at: row.sealed_at,
            key_id: row.key_id,
        };
        Self { content, hash: row.seal_hash, signature: row.signature }
    }
}

/// The newest seal of a ledger.
pub async fn newest(tx: &mut SystemTx, ledger: LedgerId) -> Result<Option<Seal>, StoreError> {
    let row = sqlx::query_as!(
        SealRow,
        r#"SELECT ledger_id, seq, from_tx, to_tx, part_names, part_counts, part_hashes, previous_hash,
                  LEAST(GREATEST(sealed_at, '1970-01-01Z'), '9999-12-31Z') AS "sealed_at!",
                  key_id, seal_hash, signature
           FROM audit_seals WHERE ledger_id = $1 ORDER BY seq DESC LIMIT 1"#,
        ledger.0
    )
    .fetch_optional(tx.connection()?)
    .await?;
    Ok(row.map(Seal::from))
}

/// Seals of a ledger above `after`, in order, at most `limit`.
pub async fn list(
    tx: &mut SystemTx,
    ledger: LedgerId,
    after: i64,
    limit: i64,
) -> Result<Vec<Seal>, StoreError> {
    let rows = sqlx::query_as!(
        SealRow,
        r#"SELECT ledger_id, seq, from_tx, to_tx, part_names, part_counts, part_hashes, previous_hash,
                  LEAST(GREATEST(sealed_at, '1970-01-01Z'), '9999-12-31Z') AS "sealed_at!",
                  key_id, seal_hash, signature
           FROM audit_seals WHERE ledger_id = $1 AND seq > $2
           ORDER BY seq LIMIT $3"#,
        ledger.0,
        after,
        limit
    )
    .fetch_all(tx.connection()?)
    .await?;
    Ok(rows.into_iter().map(Seal::from).collect())
}

/// Summarizes the index of transactions up to now, so that the next search reads only what came
/// after.
pub async fn summarize(tx: &mut SystemTx) -> Result<(), StoreError> {
    sqlx::query!("SELECT summarize_audit_rows()").fetch_one(tx.connection()?).await?;
    Ok(())
}
