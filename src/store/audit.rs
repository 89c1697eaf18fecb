//! Writes audit records and reads them back. Append-only: no statement here changes or removes one.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};
use uuid::Uuid;

use crate::domain::audit_record::{Actor, AuditRecord, WriterPlace};
use crate::domain::entry::Tier;
use crate::domain::ids::{AuditId, LedgerId};
use crate::domain::operation::Operation;

use super::{Recorded, Store, StoreError, SystemTx, WriteTx};

/// A record with what makes it tamper-evident. Made by `audit`.
#[derive(Debug, Clone)]
pub struct StampedRecord {
    /// What it says.
    pub record: AuditRecord,
    /// The history it belongs to.
    pub ledger: LedgerId,
    /// Its place among the reply records of a writer; `None` inside a change's transaction.
    pub place: Option<WriterPlace>,
    /// SHA-256 over the canonical fields.
    pub row_hash: [u8; 32],
    /// HMAC of `row_hash`.
    pub row_mac: [u8; 32],
    /// Which key made `row_mac`.
    pub mac_key_id: String,
}

/// A batch as columns, the shape `UNNEST` takes.
#[derive(Default)]
struct Columns {
    class: Vec<i16>,
    tenant: Vec<Uuid>,
    id: Vec<Uuid>,
    at: Vec<DateTime<Utc>>,
    request: Vec<Uuid>,
    actor_kind: Vec<&'static str>,
    actor_token: Vec<Option<Uuid>>,
    actor_roles: Vec<Option<String>>,
    actor_network: Vec<Option<String>>,
    action: Vec<&'static str>,
    outcome: Vec<&'static str>,
    operation: Vec<Option<&'static str>>,
    tier: Vec<Option<&'static str>>,
    entry: Vec<Option<Uuid>>,
    subject_key: Vec<Option<Uuid>>,
    object: Vec<Option<Uuid>>,
    status: Vec<i16>,
    count: Vec<i64>,
    duration_us: Vec<i64>,
    cost: Vec<i64>,
    ledger: Vec<Uuid>,
    writer: Vec<Option<Uuid>>,
    seq: Vec<Option<i64>>,
    hash: Vec<Vec<u8>>,
    mac: Vec<Vec<u8>>,
    mac_key: Vec<String>,
}

impl Columns {
    fn of<'a>(rows: impl IntoIterator<Item = &'a StampedRecord>) -> Self {
        let mut columns = Self::default();
        for row in rows {
            columns.push(row);
        }
        columns
    }

    fn push(&mut self, row: &StampedRecord) {
        let record = &row.record;
        let (token, roles, network) = match &record.actor {
            Actor::Token { id, roles, network } => (
                Some(id.0),
                Some(roles.to_string()),
                network.map(|network| network.to_string()),
            ),
            Actor::CommandLine | Actor::Service => (None, None, None),
        };
        self.class.push(record.class.years());
        self.tenant.push(record.tenant.0);
        self.id.push(record.id.0);
        self.at.push(record.at);
        self.request.push(record.request.0);
        self.actor_kind.push(record.actor.kind());
        self.actor_token.push(token);
        self.actor_roles.push(roles);
        self.actor_network.push(network);
        self.action.push(record.action.name());
        self.outcome.push(record.outcome.name());
        self.operation.push(record.operation.map(Operation::name));
        self.tier.push(record.tier.map(Tier::name));
        self.entry.push(record.entry.map(|id| id.0));
        self.subject_key.push(record.subject_key.map(|id| id.0));
        self.object.push(record.object);
        self.status.push(i16::try_from(record.status).unwrap_or(0));
        self.count.push(record.count);
        self.duration_us.push(record.duration_us);
        self.cost
            .push(i64::try_from(record.cost.0).unwrap_or(i64::MAX));
        self.ledger.push(row.ledger.0);
        self.writer.push(row.place.map(|place| place.writer.0));
        self.seq.push(row.place.map(|place| place.seq));
        self.hash.push(row.row_hash.to_vec());
        self.mac.push(row.row_mac.to_vec());
        self.mac_key.push(row.mac_key_id.clone());
    }

    async fn insert(&self, connection: &mut PgConnection) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            "INSERT INTO ai_cache_audit_logs
                 (retention_class, tenant_id, id, occurred_at, request_id, actor_kind,
                  actor_token_id, actor_roles, actor_network, action, outcome, operation, tier,
                  entry_id, subject_key_id, object_id, status, item_count, duration_us,
                  cost_picousd, ledger_id, writer_id, writer_seq, row_hash, row_mac, mac_key_id)
             SELECT * FROM unnest(
                 $1::smallint[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::uuid[], $6::text[],
                 $7::uuid[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
                 $13::text[], $14::uuid[], $15::uuid[], $16::uuid[], $17::smallint[],
                 $18::bigint[], $19::bigint[], $20::bigint[], $21::uuid[], $22::uuid[],
                 $23::bigint[], $24::bytea[], $25::bytea[], $26::text[])
             ON CONFLICT DO NOTHING",
            &self.class,
            &self.tenant,
            &self.id,
            &self.at,
            &self.request,
            &self.actor_kind as _,
            &self.actor_token as _,
            &self.actor_roles as _,
            &self.actor_network as _,
            &self.action as _,
            &self.outcome as _,
            &self.operation as _,
            &self.tier as _,
            &self.entry as _,
            &self.subject_key as _,
            &self.object as _,
            &self.status,
            &self.count,
            &self.duration_us,
            &self.cost,
            &self.ledger,
            &self.writer as _,
            &self.seq as _,
            &self.hash,
            &self.mac,
            &self.mac_key
        )
        .execute(connection)
        .await?;
        Ok(done.rows_affected())
    }
}

/// Adds the record of a change to the change's own transaction.
pub async fn insert(tx: &mut WriteTx, row: &StampedRecord) -> Result<Recorded, StoreError> {
    if row.record.tenant != tx.tenant() {
        return Err(StoreError::ForeignRecord);
    }
    let added = Columns::of([row]).insert(tx.connection()?).await?;
    if added != 1 {
        return Err(StoreError::ForeignRecord);
    }
    tx.recorded = Some(row.record.id);
    Ok(Recorded(row.record.id))
}

/// The audit writer's own connection, in the role `ai_cache_system` for its whole life, so that a
/// batch is one statement and one round trip.
pub struct BatchConnection(PgConnection);

impl BatchConnection {
    /// Connects within `limit`.
    pub async fn open(store: &Store, limit: Duration) -> Result<Self, StoreError> {
        let open = async {
            let mut connection = store.options.connect().await?;
            connection.execute("SET ROLE ai_cache_system").await?;
            Ok::<_, StoreError>(Self(connection))
        };
        tokio::time::timeout(limit, open)
            .await
            .map_err(|_| StoreError::TimedOut)?
    }

    /// Writes a batch in one transaction; returns how many rows were not there before. When it
    /// fails or is dropped the outcome is unknown and the connection must not be used again.
    pub async fn insert(&mut self, rows: &[StampedRecord]) -> Result<u64, StoreError> {
        Columns::of(rows).insert(&mut self.0).await
    }

    /// The hashes of those of `rows` that are there.
    pub async fn list_hashes(
        &mut self,
        rows: &[StampedRecord],
    ) -> Result<Vec<(AuditId, Vec<u8>)>, StoreError> {
        let columns = Columns::of(rows);
        let found = sqlx::query!(
            "SELECT a.id, a.row_hash
             FROM unnest($1::smallint[], $2::uuid[], $3::uuid[]) AS k (class, tenant, id)
             JOIN ai_cache_audit_logs a
               ON a.retention_class = k.class AND a.tenant_id = k.tenant AND a.id = k.id",
            &columns.class,
            &columns.tenant,
            &columns.id
        )
        .fetch_all(&mut self.0)
        .await?;
        Ok(found
            .into_iter()
            .map(|row| (AuditId(row.id), row.row_hash))
            .collect())
    }

    /// Closes the connection.
    pub async fn close(self) -> Result<(), StoreError> {
        Ok(self.0.close().await?)
    }
}

/// The newest ledger of this server, begun now with `fresh` when there is none.
pub async fn get_or_insert_ledger(
    tx: &mut SystemTx,
    fresh: LedgerId,
    now: DateTime<Utc>,
) -> Result<LedgerId, StoreError> {
    let server =
        sqlx::query_scalar!(r#"SELECT system_identifier::text AS "id!" FROM pg_control_system()"#)
            .fetch_one(tx.connection()?)
            .await?;
    let known = sqlx::query_scalar!(
        "SELECT ledger_id FROM audit_ledgers WHERE system_identifier = $1
         ORDER BY ledger_id DESC LIMIT 1",
        server
    )
    .fetch_optional(tx.connection()?)
    .await?;
    if let Some(known) = known {
        return Ok(LedgerId(known));
    }
    sqlx::query!(
        "INSERT INTO audit_ledgers (ledger_id, system_identifier, begun_at) VALUES ($1, $2, $3)",
        fresh.0,
        server,
        now
    )
    .execute(tx.connection()?)
    .await?;
    Ok(fresh)
}

/// Makes the month partitions that are missing from the month of `now` on.
pub async fn ensure_partitions(
    tx: &mut SystemTx,
    now: DateTime<Utc>,
    months: i32,
) -> Result<i32, StoreError> {
    let made = sqlx::query_scalar!(
        r#"SELECT ensure_audit_partitions($1, $2) AS "made!""#,
        now.date_naive(),
        months
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(made)
}
