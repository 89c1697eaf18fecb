//! The seals of the audit trail, and the hashes that they are made of. Like the trail, they are
//! append-only.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::ids::LedgerId;
use crate::domain::seal::{Seal, SealContent, SealPart};

use super::{StoreError, SystemTx};

/// Says which transactions are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// Every transaction below it has ended, and every later statement sees its rows.
    pub settled: i64,
    /// The next transaction to begin.
    pub next: i64,
}

/// Returns whether this transaction may seal: one at a time may. Its statements use the index of
/// transactions, whatever the planner thinks of tables it has no figures of yet.
pub async fn try_lock(tx: &mut SystemTx) -> Result<bool, StoreError> {
    let row = sqlx::query!(
        r#"SELECT pg_try_advisory_xact_lock(hashtext('ai-cache audit seals')) AS "locked!",
                  set_config('enable_seqscan', 'off', true) AS scan,
                  set_config('max_parallel_workers_per_gather', '0', true) AS workers,
                  set_config('work_mem', '64MB', true) AS memory,
                  set_config('plan_cache_mode', 'force_generic_plan', true) AS plans,
                  set_config('jit', 'off', true) AS jit"#
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(row.locked)
}

/// Reads which transactions are settled. Their rows must be read in a later statement.
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

/// Lists the holders of the transaction that the horizon waits for, in any database: the name of a
/// prepared transaction or the process id of a session.
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

/// The transactions from `from` up to, not including, `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxRange {
    /// The first transaction of the range.
    pub from: i64,
    /// The first transaction behind the range.
    pub to: i64,
}

impl TxRange {
    /// Returns all transactions from `from` on.
    pub const fn since(from: i64) -> Self {
        Self { from, to: i64::MAX }
    }

    /// Returns whether the range has no transactions.
    pub const fn is_empty(self) -> bool {
        self.from >= self.to
    }
}

/// Returns the transaction of the row that comes after `rows` rows of the ledger in a range of
/// transactions. Returns `None` if there are no more rows than these.
pub async fn tx_after(
    tx: &mut SystemTx,
    ledger: LedgerId,
    range: TxRange,
    rows: i64,
) -> Result<Option<i64>, StoreError> {
    let found = sqlx::query_scalar!(
        "SELECT tx_id FROM ai_cache_audit_logs
         WHERE tx_id >= $2 AND tx_id < $3 AND ledger_id = $1
         ORDER BY tx_id OFFSET $4 LIMIT 1",
        ledger.0,
        range.from,
        range.to,
        rows
    )
    .fetch_optional(tx.connection()?)
    .await?;
    Ok(found)
}

/// Lists the rows of a range of transactions, counted and hashed by partition. The rows are sorted
/// once, and first: a grouping keeps the order it is given ("Aggregate Functions" in the Postgres
/// manual). With many rows the statement rests 2 ms after some 256 read, and after as many hashed,
/// so that no reply that shares its cores waits for all of them. The ids of the rows decide where
/// it rests. From 1 s after the transaction began it hurries.
pub async fn list_parts(
    tx: &mut SystemTx,
    ledger: LedgerId,
    range: TxRange,
) -> Result<Vec<SealPart>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT c.relname::text AS "name!", r.rows AS "count!", r.hash AS "hash!"
           FROM (SELECT part,
                        count(CASE WHEN uuid_hash(id) & 255 = 1 AND clock_timestamp() < now() + '1 s'
                                   THEN pg_sleep(0.002::float8) IS NOT NULL ELSE true END) AS rows,
                        sha256(string_agg(int8send(tx_id) || row_hash, ''::bytea)) AS hash
                 FROM (SELECT a.tableoid AS part, a.tx_id, a.row_hash, a.id
                       FROM ai_cache_audit_logs a
                       WHERE a.tx_id >= $2 AND a.tx_id < $3 AND a.ledger_id = $1
                         AND CASE WHEN uuid_hash(a.id) & 255 = 0 AND clock_timestamp() < now() + '1 s'
                                  THEN pg_sleep(0.002::float8) IS NOT NULL ELSE true END
                       ORDER BY a.tableoid, a.tx_id, a.id) ordered
                 GROUP BY part) r
           JOIN pg_class c ON c.oid = r.part
           ORDER BY c.relname COLLATE "C""#,
        ledger.0,
        range.from,
        range.to
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
        // An item that somebody added to one array alone must stay visible.
        let length = row.part_names.len().max(row.part_counts.len()).max(row.part_hashes.len());
        let part = |index: usize| SealPart {
            name: row.part_names.get(index).cloned().unwrap_or_default(),
            count: row.part_counts.get(index).copied().unwrap_or(-1),
            hash: row.part_hashes.get(index).cloned().unwrap_or_default(),
        };
        let content = SealContent {
            ledger: LedgerId(row.ledger_id),
            seq: row.seq,
            from_tx: row.from_tx,
            to_tx: row.to_tx,
            parts: (0..length).map(part).collect(),
            previous: row.previous_hash,
            at: row.sealed_at,
            key_id: row.key_id,
        };
        Self { content, hash: row.seal_hash, signature: row.signature }
    }
}

/// Reads seals as they are stored. A value that the schema forbids, but its owner can allow, reads
/// as one that no seal has.
macro_rules! select_seals {
    ($which:literal, $($argument:expr),+) => {
        sqlx::query_as!(
            SealRow,
            r#"SELECT ledger_id, seq, COALESCE(from_tx, -1) AS "from_tx!", COALESCE(to_tx, -1) AS "to_tx!",
                      COALESCE(array_replace(part_names, NULL, ''), '{}') AS "part_names!",
                      COALESCE(array_replace(part_counts, NULL, -1), '{}') AS "part_counts!",
                      COALESCE(array_replace(part_hashes, NULL, ''), '{}') AS "part_hashes!",
                      COALESCE(previous_hash, '') AS "previous_hash!",
                      LEAST(GREATEST(COALESCE(sealed_at, '-infinity'), '1970-01-01Z'), '9999-12-31Z')
                          AS "sealed_at!",
                      COALESCE(key_id, '') AS "key_id!", COALESCE(seal_hash, '') AS "seal_hash!",
                      COALESCE(signature, '') AS "signature!"
               FROM audit_seals "# + $which,
            $($argument),+
        )
    };
}

/// Finds the newest seal of a ledger.
pub async fn newest(tx: &mut SystemTx, ledger: LedgerId) -> Result<Option<Seal>, StoreError> {
    let newest = select_seals!("WHERE ledger_id = $1 ORDER BY seq DESC LIMIT 1", ledger.0);
    Ok(newest.fetch_optional(tx.connection()?).await?.map(Seal::from))
}

/// Lists the seals of a ledger above `after`, in order, at most `limit`.
pub async fn list(
    tx: &mut SystemTx,
    ledger: LedgerId,
    after: i64,
    limit: i64,
) -> Result<Vec<Seal>, StoreError> {
    let seals = select_seals!(
        "WHERE ledger_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        ledger.0,
        after,
        limit
    );
    Ok(seals.fetch_all(tx.connection()?).await?.into_iter().map(Seal::from).collect())
}

/// Lists the hashes of those of these seals, named by ledger and place, that are here.
pub async fn list_hashes(
    tx: &mut SystemTx,
    seals: &[(LedgerId, i64)],
) -> Result<HashMap<(LedgerId, i64), Vec<u8>>, StoreError> {
    let (ledgers, seqs): (Vec<Uuid>, Vec<i64>) =
        seals.iter().map(|(ledger, seq)| (ledger.0, *seq)).unzip();
    let found = sqlx::query!(
        r#"SELECT s.ledger_id, s.seq, COALESCE(s.seal_hash, '') AS "seal_hash!"
           FROM unnest($1::uuid[], $2::bigint[]) AS k (ledger_id, seq)
           JOIN audit_seals s ON s.ledger_id = k.ledger_id AND s.seq = k.seq"#,
        &ledgers,
        &seqs
    )
    .fetch_all(tx.connection()?)
    .await?;
    Ok(found.into_iter().map(|row| ((LedgerId(row.ledger_id), row.seq), row.seal_hash)).collect())
}

/// How much of the index of transactions is summarized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Summary {
    /// The part that was added since the last time.
    Added,
    /// Every part that has no summary yet.
    EveryGap,
}

/// Summarizes the index of transactions up to now, so that the next search reads only what came
/// after. The commit does not wait for the disk.
pub async fn summarize(tx: &mut SystemTx, summary: Summary) -> Result<(), StoreError> {
    sqlx::query!("SELECT set_config('synchronous_commit', 'off', true)")
        .fetch_one(tx.connection()?)
        .await?;
    sqlx::query!("SELECT summarize_audit_ranges($1)", summary == Summary::EveryGap)
        .fetch_one(tx.connection()?)
        .await?;
    Ok(())
}
