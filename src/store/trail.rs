//! Reads the audit trail's rows as they lie there, in the order they are sealed in.

use chrono::{DateTime, Utc};
use futures_util::{Stream, TryStreamExt as _};
use uuid::Uuid;

use crate::domain::audit_record::{
    Action, Actor, AuditRecord, Outcome, RetentionClass, WriterPlace,
};
use crate::domain::entry::Tier;
use crate::domain::ids::{
    AuditId, EntryId, LedgerId, RequestId, SubjectKeyId, TenantId, TokenId, WriterId,
};
use crate::domain::money::Usd;
use crate::domain::network::Network;
use crate::domain::operation::Operation;

use super::{StoreError, SystemTx};

/// A row of the trail.
#[derive(Debug, Clone)]
pub struct TrailRow {
    /// Its id.
    pub id: AuditId,
    /// Whose trail it is in.
    pub tenant: TenantId,
    /// The partition it lies in, by its object id.
    pub part: u32,
    /// The transaction that wrote it.
    pub tx_id: i64,
    /// When it says it happened.
    pub at: DateTime<Utc>,
    /// What it says; `None`: nothing that the service ever writes.
    pub record: Option<AuditRecord>,
    /// The ledger it names.
    pub ledger: LedgerId,
    /// Its place among its writer's.
    pub place: Option<WriterPlace>,
    /// Its hash.
    pub row_hash: Vec<u8>,
    /// Its MAC.
    pub row_mac: Vec<u8>,
    /// The MAC's key.
    pub mac_key_id: String,
}

/// A row's columns.
struct Columns {
    part: sqlx::postgres::types::Oid,
    retention_class: i16,
    tenant_id: Uuid,
    id: Uuid,
    occurred_at: DateTime<Utc>,
    request_id: Uuid,
    actor_kind: String,
    actor_token_id: Option<Uuid>,
    actor_roles: Option<String>,
    actor_network: Option<String>,
    action: String,
    outcome: String,
    operation: Option<String>,
    tier: Option<String>,
    entry_id: Option<Uuid>,
    subject_key_id: Option<Uuid>,
    object_id: Option<Uuid>,
    status: i16,
    item_count: i64,
    duration_us: i64,
    cost_picousd: i64,
    ledger_id: Uuid,
    writer_id: Option<Uuid>,
    writer_seq: Option<i64>,
    tx_id: i64,
    row_hash: Vec<u8>,
    row_mac: Vec<u8>,
    mac_key_id: String,
}

/// A name that the service does not write.
struct Unknown;

/// The value of an optional name.
fn named<T>(name: Option<&String>, find: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Unknown> {
    name.map(|name| find(name).ok_or(Unknown)).transpose()
}

impl Columns {
    /// What they say, read strictly: other columns than the service would write say nothing.
    fn record(&self) -> Option<AuditRecord> {
        let action = Action::ALL.iter().find(|known| known.name() == self.action)?;
        let outcome = Outcome::ALL.iter().find(|known| known.name() == self.outcome)?;
        let tier = |name: &str| Tier::ALL.into_iter().find(|known| known.name() == name);
        Some(AuditRecord {
            id: AuditId(self.id),
            tenant: TenantId(self.tenant_id),
            class: RetentionClass::try_from(self.retention_class).ok()?,
            at: self.occurred_at,
            request: RequestId(self.request_id),
            actor: self.actor()?,
            action: *action,
            outcome: *outcome,
            operation: named(self.operation.as_ref(), Operation::parse).ok()?,
            tier: named(self.tier.as_ref(), tier).ok()?,
            entry: self.entry_id.map(EntryId),
            subject_key: self.subject_key_id.map(SubjectKeyId),
            object: self.object_id,
            status: u16::try_from(self.status).ok()?,
            count: self.item_count,
            duration_us: self.duration_us,
            cost: Usd(u64::try_from(self.cost_picousd).ok()?),
        })
    }

    fn actor(&self) -> Option<Actor> {
        let network = named(self.actor_network.as_ref(), Network::parse).ok()?;
        let roles = self.actor_roles.as_deref();
        match (self.actor_kind.as_str(), self.actor_token_id, roles, network) {
            ("token", Some(id), Some(roles), network) => {
                Some(Actor::Token { id: TokenId(id), roles: roles.into(), network })
            }
            ("anonymous", None, None, network) => Some(Actor::Anonymous { network }),
            ("command-line", None, None, None) => Some(Actor::CommandLine),
            ("service", None, None, None) => Some(Actor::Service),
            _ => None,
        }
    }
}

impl From<Columns> for TrailRow {
    fn from(columns: Columns) -> Self {
        let writer = columns.writer_id.map(WriterId).zip(columns.writer_seq);
        // A place is whole or there is none.
        let half = columns.writer_id.is_some() != columns.writer_seq.is_some();
        Self {
            record: if half { None } else { columns.record() },
            id: AuditId(columns.id),
            tenant: TenantId(columns.tenant_id),
            part: columns.part.0,
            tx_id: columns.tx_id,
            at: columns.occurred_at,
            ledger: LedgerId(columns.ledger_id),
            place: writer.map(|(writer, seq)| WriterPlace { writer, seq }),
            row_hash: columns.row_hash,
            row_mac: columns.row_mac,
            mac_key_id: columns.mac_key_id,
        }
    }
}

/// Lets this transaction read for as long as it takes, and through the index of transactions.
pub async fn read_long(tx: &mut SystemTx) -> Result<(), StoreError> {
    sqlx::query!(
        r#"SELECT set_config('statement_timeout', '0', true) AS timeout,
                  set_config('enable_seqscan', 'off', true) AS scan,
                  set_config('jit', 'off', true) AS jit"#
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(())
}

/// The rows of transactions from `from_tx` up to, not including, `to_tx`, by transaction and id.
pub fn stream(
    tx: &mut SystemTx,
    (from_tx, to_tx): (i64, i64),
) -> Result<impl Stream<Item = Result<TrailRow, StoreError>>, StoreError> {
    let rows = sqlx::query_as!(
        Columns,
        r#"SELECT tableoid AS "part!", retention_class, tenant_id, id, occurred_at, request_id,
                  actor_kind, actor_token_id, actor_roles, actor_network, action, outcome,
                  operation, tier, entry_id, subject_key_id, object_id, status, item_count,
                  duration_us, cost_picousd, ledger_id, writer_id, writer_seq, tx_id, row_hash,
                  row_mac, mac_key_id
           FROM ai_cache_audit_logs
           WHERE tx_id >= $1 AND tx_id < $2
           ORDER BY tx_id, id"#,
        from_tx,
        to_tx
    )
    .fetch(tx.connection()?);
    Ok(rows.map_ok(TrailRow::from).map_err(StoreError::from))
}

/// The trail's partitions that hold rows, by object id.
pub async fn list_partitions(tx: &mut SystemTx) -> Result<Vec<(u32, String)>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT t.relid AS "oid!: sqlx::postgres::types::Oid", c.relname::text AS "name!"
           FROM pg_partition_tree('ai_cache_audit_logs') t JOIN pg_class c ON c.oid = t.relid
           WHERE t.isleaf"#
    )
    .fetch_all(tx.connection()?)
    .await?;
    Ok(rows.into_iter().map(|row| (row.oid.0, row.name)).collect())
}

/// Whether a partition was dropped when all its rows were past their class.
pub async fn is_purged(tx: &mut SystemTx, part: &str) -> Result<bool, StoreError> {
    let purged = sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM audit_purges
               WHERE part_name = $1
                 AND purged_at >= newest_at + make_interval(years =>
                         (regexp_match(part_name, '^audit_logs_y([0-9]+)_'))[1]::integer)
           ) AS "purged!""#,
        part
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(purged)
}

/// How many rows lie in partitions that are there for rows without a month's own.
pub async fn count_default_rows(tx: &mut SystemTx) -> Result<i64, StoreError> {
    let rows = sqlx::query_scalar!(r#"SELECT count_audit_default_rows() AS "rows!""#)
        .fetch_one(tx.connection()?)
        .await?;
    Ok(rows)
}
