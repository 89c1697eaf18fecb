//! Writes audit records and reads their hashes back. It is append-only: no statement here changes
//! or removes a record.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::PgRecordEncoder;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo};
use sqlx::{ConnectOptions, Connection, Encode, Executor, PgConnection, Postgres, Type};
use uuid::Uuid;

use crate::domain::audit_record::{Actor, AuditRecord, WriterPlace};
use crate::domain::entry::Tier;
use crate::domain::ids::{AuditId, LedgerId};
use crate::domain::operation::Operation;

use super::{Recorded, Store, StoreError, SystemTx, WriteTx};

/// A record with the values that make it tamper-evident. `audit` makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StampedRecord {
    /// The statement.
    pub record: AuditRecord,
    /// The ledger that it belongs to.
    pub ledger: LedgerId,
    /// Its place among the reply records of a writer. `None` for the record of a change.
    pub place: Option<WriterPlace>,
    /// SHA-256 over the canonical fields.
    #[serde(with = "hex::serde")]
    pub row_hash: [u8; 32],
    /// HMAC of `row_hash`.
    #[serde(with = "hex::serde")]
    pub row_mac: [u8; 32],
    /// The id of the key that made `row_mac`.
    pub mac_key_id: String,
}

/// A row as it is sent (the type `audit_batch_row`).
struct BatchRow<'a> {
    retention_class: i16,
    tenant_id: Uuid,
    id: Uuid,
    occurred_at: DateTime<Utc>,
    request_id: Uuid,
    actor_kind: &'a str,
    actor_token_id: Option<Uuid>,
    actor_roles: Option<&'a str>,
    actor_network: Option<String>,
    action: &'a str,
    outcome: &'a str,
    operation: Option<&'a str>,
    tier: Option<&'a str>,
    entry_id: Option<Uuid>,
    subject_key_id: Option<Uuid>,
    object_id: Option<Uuid>,
    status: i16,
    item_count: i64,
    duration_us: i64,
    cost_picousd: i64,
    writer_seq: Option<i64>,
    row_hash: &'a [u8],
    row_mac: &'a [u8],
}

impl<'a> BatchRow<'a> {
    fn of(row: &'a StampedRecord) -> Self {
        let record = &row.record;
        let (token, roles, network) = match &record.actor {
            Actor::Token { id, roles, network } => {
                (Some(id.0), Some(&**roles), network.map(|network| network.to_string()))
            }
            Actor::Anonymous { network } => {
                (None, None, network.map(|network| network.to_string()))
            }
            Actor::CommandLine | Actor::Service => (None, None, None),
        };
        Self {
            retention_class: record.class.years(),
            tenant_id: record.tenant.0,
            id: record.id.0,
            occurred_at: record.at,
            request_id: record.request.0,
            actor_kind: record.actor.kind(),
            actor_token_id: token,
            actor_roles: roles,
            actor_network: network,
            action: record.action.name(),
            outcome: record.outcome.name(),
            operation: record.operation.map(Operation::name),
            tier: record.tier.map(Tier::name),
            entry_id: record.entry.map(|id| id.0),
            subject_key_id: record.subject_key.map(|id| id.0),
            object_id: record.object,
            status: i16::try_from(record.status).unwrap_or(0),
            item_count: record.count,
            duration_us: record.duration_us,
            cost_picousd: i64::try_from(record.cost.0).unwrap_or(i64::MAX),
            writer_seq: row.place.map(|place| place.seq),
            row_hash: &row.row_hash,
            row_mac: &row.row_mac,
        }
    }
}

impl Type<Postgres> for BatchRow<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("audit_batch_row")
    }
}

impl PgHasArrayType for BatchRow<'_> {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::array_of("audit_batch_row")
    }
}

impl Encode<'_, Postgres> for BatchRow<'_> {
    /// Encodes the fields in the order of the type.
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let Self { retention_class, tenant_id, id, occurred_at, request_id, actor_kind, .. } = self;
        let Self { actor_token_id, actor_roles, actor_network, action, outcome, .. } = self;
        let Self { operation, tier, entry_id, subject_key_id, object_id, status, .. } = self;
        let Self { item_count, duration_us, cost_picousd, writer_seq, row_hash, row_mac, .. } =
            self;
        let mut record = PgRecordEncoder::new(buffer);
        record.encode(retention_class)?.encode(tenant_id)?.encode(id)?.encode(occurred_at)?;
        record.encode(request_id)?.encode(actor_kind)?.encode(actor_token_id)?;
        record.encode(actor_roles)?.encode(actor_network)?.encode(action)?.encode(outcome)?;
        record.encode(operation)?.encode(tier)?.encode(entry_id)?.encode(subject_key_id)?;
        record.encode(object_id)?.encode(status)?.encode(item_count)?.encode(duration_us)?;
        record.encode(cost_picousd)?.encode(writer_seq)?.encode(row_hash)?.encode(row_mac)?;
        record.finish();
        Ok(IsNull::No)
    }
}

/// A batch of one writer: the values that its rows have in common, and the rows.
struct Batch<'a> {
    rows: Vec<BatchRow<'a>>,
    ledger: Option<Uuid>,
    writer: Option<Uuid>,
    mac_key: &'a str,
}

/// One statement for a whole batch, from any source of rows.
macro_rules! insert_rows {
    ($batch:expr, $connection:expr, $rows:expr, $source:literal) => {{
        let batch = $batch;
        let done = sqlx::query!(
            "INSERT INTO ai_cache_audit_logs
                 (retention_class, tenant_id, id, occurred_at, request_id, actor_kind,
                  actor_token_id, actor_roles, actor_network, action, outcome, operation, tier,
                  entry_id, subject_key_id, object_id, status, item_count, duration_us,
                  cost_picousd, writer_seq, row_hash, row_mac, ledger_id, writer_id, mac_key_id)
             " + $source,
            $rows as _,
            batch.ledger,
            batch.writer,
            batch.mac_key
        )
        .execute($connection)
        .await?;
        Ok(done.rows_affected())
    }};
}

impl<'a> Batch<'a> {
    fn of(rows: &'a [StampedRecord]) -> Self {
        let first = rows.first();
        Self {
            rows: rows.iter().map(BatchRow::of).collect(),
            ledger: first.map(|row| row.ledger.0),
            writer: first.and_then(|row| row.place).map(|place| place.writer.0),
            mac_key: first.map_or("", |row| &row.mac_key_id),
        }
    }

    /// Writes rows that are not there yet. A single row, which a lone caller waits for, needs no
    /// unnesting.
    async fn insert(&self, connection: &mut PgConnection) -> Result<u64, StoreError> {
        if let [row] = self.rows.as_slice() {
            return insert_rows!(
                self,
                connection,
                row,
                "SELECT ($1::audit_batch_row).*, $2::uuid, $3::uuid, $4::text"
            );
        }
        insert_rows!(
            self,
            connection,
            &self.rows,
            "SELECT r.*, $2::uuid, $3::uuid, $4::text FROM unnest($1::audit_batch_row[]) AS r"
        )
    }

    /// Writes the rows that are not there yet, because an earlier try may have written some.
    /// Speculative insertion costs time, so only a replay pays for it.
    async fn insert_missing(&self, connection: &mut PgConnection) -> Result<u64, StoreError> {
        insert_rows!(
            self,
            connection,
            &self.rows,
            "SELECT r.*, $2::uuid, $3::uuid, $4::text FROM unnest($1::audit_batch_row[]) AS r
             ON CONFLICT DO NOTHING"
        )
    }
}

/// Adds the record of a change to the change's own transaction.
pub async fn insert(tx: &mut WriteTx, row: &StampedRecord) -> Result<Recorded, StoreError> {
    if row.record.tenant != tx.tenant() {
        return Err(StoreError::ForeignRecord);
    }
    let added = Batch::of(std::slice::from_ref(row)).insert(tx.connection()?).await?;
    if added != 1 {
        return Err(StoreError::ForeignRecord);
    }
    Ok(tx.hold_record(row.record.id))
}

/// The audit writer's own connection, in the role `ai_cache_system` for its whole life, so that a
/// batch is one statement and one round trip.
pub struct BatchConnection(PgConnection);

impl BatchConnection {
    /// Connects, within `limit`.
    pub async fn open(store: &Store, limit: Duration) -> Result<Self, StoreError> {
        let open = async {
            let mut connection = store.options.connect().await?;
            connection.execute("SET ROLE ai_cache_system").await?;
            Ok::<_, StoreError>(Self(connection))
        };
        tokio::time::timeout(limit, open).await.map_err(|_| StoreError::TimedOut)?
    }

    /// Checks that it takes statements, within `limit`.
    pub async fn ping(&mut self, limit: Duration) -> Result<(), StoreError> {
        let ping = async { Ok(self.0.ping().await?) };
        tokio::time::timeout(limit, ping).await.map_err(|_| StoreError::TimedOut)?
    }

    /// Writes a batch for the first time, in one transaction. Returns the number of rows. When it
    /// fails or is dropped, the outcome is unknown and the connection must not be used again.
    pub async fn insert(&mut self, rows: &[StampedRecord]) -> Result<u64, StoreError> {
        Batch::of(rows).insert(&mut self.0).await
    }

    /// Writes the rows of a batch that an earlier try with an unknown outcome has not written.
    pub async fn insert_missing(&mut self, rows: &[StampedRecord]) -> Result<u64, StoreError> {
        Batch::of(rows).insert_missing(&mut self.0).await
    }

    /// Returns the hashes of those of `rows` that are there.
    pub async fn list_hashes(
        &mut self,
        rows: &[StampedRecord],
    ) -> Result<Vec<(AuditId, Vec<u8>)>, StoreError> {
        let class: Vec<i16> = rows.iter().map(|row| row.record.class.years()).collect();
        let tenant: Vec<Uuid> = rows.iter().map(|row| row.record.tenant.0).collect();
        let id: Vec<Uuid> = rows.iter().map(|row| row.record.id.0).collect();
        let found = sqlx::query!(
            "SELECT a.id, a.row_hash
             FROM unnest($1::smallint[], $2::uuid[], $3::uuid[]) AS k (class, tenant, id)
             JOIN ai_cache_audit_logs a
               ON a.retention_class = k.class AND a.tenant_id = k.tenant AND a.id = k.id",
            &class,
            &tenant,
            &id
        )
        .fetch_all(&mut self.0)
        .await?;
        Ok(found.into_iter().map(|row| (AuditId(row.id), row.row_hash)).collect())
    }

    /// Closes the connection.
    pub async fn close(self) -> Result<(), StoreError> {
        Ok(self.0.close().await?)
    }
}

/// Makes the missing month partitions, from the month of `now` on.
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
