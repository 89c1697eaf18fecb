//! Reads the audit trail a page at a time, along its primary key. Never changes it; each page is a
//! transaction of its own, for a long one would hold the seals back.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use crate::domain::action::Action;
use crate::domain::audit_record::RetentionClass;
use crate::domain::audit_row::{AuditRow, AuditRowActor};
use crate::domain::ids::{
    AuditId, EntryId, LedgerId, RequestId, SubjectKeyId, TenantId, TokenId, WriterId, first_uuid_of,
};

use super::{StoreError, TenantTx};

/// Whose doings to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorFilter {
    /// A token's.
    Token(TokenId),
    /// Those of a kind of actor, one of [`crate::domain::audit_record::Actor::KINDS`].
    Kind(&'static str),
}

/// Which records to read.
#[derive(Debug, Clone, Default)]
pub struct TrailFilter {
    /// Not before.
    pub from: Option<DateTime<Utc>>,
    /// Before.
    pub to: Option<DateTime<Utc>>,
    /// Of this action only.
    pub action: Option<Action>,
    /// Of this actor only.
    pub actor: Option<ActorFilter>,
    /// Of the person with one of these random names only; with none of them nothing is found.
    pub subject_keys: Option<Vec<SubjectKeyId>>,
    /// Of this entry only.
    pub entry: Option<EntryId>,
    /// Of this request only.
    pub request: Option<RequestId>,
}

impl TrailFilter {
    /// The random name of the person whom all records are about. Returns `None` unless there is
    /// exactly one.
    pub fn only_subject(&self) -> Option<SubjectKeyId> {
        match self.subject_keys.as_deref() {
            Some([only]) => Some(*only),
            _ => None,
        }
    }

    /// Whether rows must be looked at to know which are meant. Times need not: they are a range of
    /// ids.
    pub const fn looks_at_rows(&self) -> bool {
        let Self { from: _, to: _, action, actor, subject_keys, entry, request } = self;
        action.is_some()
            || actor.is_some()
            || subject_keys.is_some()
            || entry.is_some()
            || request.is_some()
    }
}

/// Which way a page runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the newest to the oldest.
    NewestFirst,
    /// From the oldest to the newest.
    OldestFirst,
}

impl Order {
    const fn clause(self) -> &'static str {
        match self {
            Self::NewestFirst => " ORDER BY id DESC",
            Self::OldestFirst => " ORDER BY id",
        }
    }

    /// How an id compares with the one before its stretch, and with the last one in it.
    const fn comparisons(self) -> (&'static str, &'static str) {
        match self {
            Self::NewestFirst => (" AND id < ", " AND id >= "),
            Self::OldestFirst => (" AND id > ", " AND id <= "),
        }
    }
}

/// A part of the trail, walked one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Which way.
    pub order: Order,
    /// It begins behind this record; `None`: at the trail's end.
    pub behind: Option<AuditId>,
    /// It ends with this record, which is in it; `None`: at the trail's other end.
    pub until: Option<AuditId>,
}

/// The columns of a [`RawRow`], of `ai_cache_audit_logs a`. What the schema forbids, and whoever owns
/// it can allow, reads as something that no record says; a time that no calendar here has as the
/// nearest that it has.
macro_rules! row_columns {
    () => {
        "a.retention_class, a.tenant_id, a.id,
         LEAST(GREATEST(COALESCE(a.occurred_at, '-infinity'), '1970-01-01Z'), '9999-12-31Z')
             AS occurred_at,
         COALESCE(a.request_id, '00000000-0000-0000-0000-000000000000') AS request_id,
         COALESCE(a.actor_kind, '') AS actor_kind, a.actor_token_id, a.actor_roles,
         a.actor_network, COALESCE(a.action, '') AS action, COALESCE(a.outcome, '') AS outcome,
         a.operation, a.tier, a.entry_id, a.subject_key_id, a.object_id,
         COALESCE(a.status, (-32768)::smallint) AS status,
         COALESCE(a.item_count, -9223372036854775808) AS item_count,
         COALESCE(a.duration_us, -9223372036854775808) AS duration_us,
         COALESCE(a.cost_picousd, -9223372036854775808) AS cost_picousd,
         COALESCE(a.ledger_id, '00000000-0000-0000-0000-000000000000') AS ledger_id,
         a.writer_id, a.writer_seq, COALESCE(a.tx_id, -1) AS tx_id,
         COALESCE(a.row_hash, '') AS row_hash, COALESCE(a.row_mac, '') AS row_mac,
         COALESCE(a.mac_key_id, '') AS mac_key_id"
    };
}
pub(super) use row_columns;

/// A row as it is stored.
#[derive(sqlx::FromRow)]
pub(super) struct RawRow {
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

impl From<RawRow> for AuditRow {
    fn from(raw: RawRow) -> Self {
        Self {
            id: AuditId(raw.id),
            occurred_at: raw.occurred_at,
            tenant_id: TenantId(raw.tenant_id),
            retention_class: raw.retention_class,
            request_id: RequestId(raw.request_id),
            actor: AuditRowActor {
                kind: raw.actor_kind,
                token_id: raw.actor_token_id.map(TokenId),
                roles: raw.actor_roles,
                network: raw.actor_network,
            },
            action: raw.action,
            outcome: raw.outcome,
            operation: raw.operation,
            tier: raw.tier,
            entry_id: raw.entry_id.map(EntryId),
            subject_key_id: raw.subject_key_id.map(SubjectKeyId),
            object_id: raw.object_id,
            status: raw.status,
            count: raw.item_count,
            duration_us: raw.duration_us,
            cost_picousd: raw.cost_picousd,
            ledger_id: LedgerId(raw.ledger_id),
            writer_id: raw.writer_id.map(WriterId),
            writer_seq: raw.writer_seq,
            tx_id: raw.tx_id,
            row_hash: raw.row_hash,
            row_mac: raw.row_mac,
            mac_key_id: raw.mac_key_id,
        }
    }
}

/// After [`TenantTx::keep_to_indexes`]: finds the rows first and puts them in order then, for a filter that
/// names few.
pub async fn find_before_ordering(tx: &mut TenantTx) -> Result<(), StoreError> {
    let settings = "SELECT set_config('enable_indexscan', 'off', true)";
    QueryBuilder::<Postgres>::new(settings).build().execute(tx.connection()?).await?;
    Ok(())
}

/// Whether there are fewer than `few` records of the persons with these random names.
pub async fn has_few_of(
    tx: &mut TenantTx,
    keys: &[SubjectKeyId],
    few: i64,
) -> Result<bool, StoreError> {
    let mut query = QueryBuilder::new(
        "SELECT count(*) FROM (SELECT FROM ai_cache_audit_logs WHERE tenant_id = ",
    );
    query.push_bind(tx.tenant().0);
    push_subjects(&mut query, keys);
    query.push(" LIMIT ").push_bind(few).push(") AS records");
    let count: i64 = query.build_query_scalar().fetch_one(tx.connection()?).await?;
    Ok(count < few)
}

/// The record that closes the first window of a stretch: of no retention class are there more than
/// `scan` rows in the stretch up to it. `None` where the whole stretch is no longer than that. Read
/// from the primary key alone: times narrow it, what else is looked for does not.
pub async fn find_window_end(
    tx: &mut TenantTx,
    filter: &TrailFilter,
    stretch: Stretch,
    scan: u32,
) -> Result<Option<AuditId>, StoreError> {
    let order = stretch.order.clause();
    let mut query = QueryBuilder::new("SELECT id FROM (");
    for (index, class) in RetentionClass::ALL.into_iter().enumerate() {
        if index > 0 {
            query.push(" UNION ALL ");
        }
        query.push("(SELECT id FROM ai_cache_audit_logs WHERE retention_class = ");
        query.push(class.years()).push(" AND tenant_id = ").push_bind(tx.tenant().0);
        push_id_range(&mut query, filter, stretch);
        query.push(order).push(" OFFSET ").push_bind(i64::from(scan.saturating_sub(1)));
        query.push(" LIMIT 1)");
    }
    query.push(") AS ends").push(order).push(" LIMIT 1");
    let end: Option<Uuid> = query.build_query_scalar().fetch_optional(tx.connection()?).await?;
    Ok(end.map(AuditId))
}

/// A page of the trail of the transaction's tenant.
pub async fn list(
    tx: &mut TenantTx,
    filter: &TrailFilter,
    stretch: Stretch,
    limit: i64,
) -> Result<Vec<AuditRow>, StoreError> {
    let order = stretch.order.clause();
    let mut query = QueryBuilder::new("SELECT * FROM (");
    for (index, class) in RetentionClass::ALL.into_iter().enumerate() {
        if index > 0 {
            query.push(" UNION ALL ");
        }
        push_class(&mut query, tx.tenant(), class);
        push_id_range(&mut query, filter, stretch);
        push_filter(&mut query, filter);
        query.push(order).push(" LIMIT ").push_bind(limit).push(")");
    }
    query.push(") AS classes").push(order).push(" LIMIT ").push_bind(limit);
    let rows: Vec<RawRow> = query.build_query_as().fetch_all(tx.connection()?).await?;
    Ok(rows.into_iter().map(AuditRow::from).collect())
}

/// The newest record of the transaction's tenant.
pub async fn find_newest(tx: &mut TenantTx) -> Result<Option<AuditId>, StoreError> {
    let stretch = Stretch { order: Order::NewestFirst, behind: None, until: None };
    let rows = list(tx, &TrailFilter::default(), stretch, 1).await?;
    Ok(rows.first().map(|row| row.id))
}

/// One retention class, which is a partition: named as a constant, each class is read in the order
/// of its own index and the pages of all are merged. A time that somebody changed to one that no
/// calendar here has is shown as the nearest that it has.
fn push_class(query: &mut QueryBuilder<Postgres>, tenant: TenantId, class: RetentionClass) {
    query.push(concat!(
        "(SELECT ",
        row_columns!(),
        " FROM ai_cache_audit_logs a WHERE retention_class = "
    ));
    query.push(class.years()).push(" AND tenant_id = ").push_bind(tenant.0);
}

fn push_subjects(query: &mut QueryBuilder<Postgres>, keys: &[SubjectKeyId]) {
    let keys: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
    query.push(" AND subject_key_id = ANY (").push_bind(keys).push(")");
}

/// Times find their rows by the ids, to the millisecond; `push_filter` is exact.
fn push_id_range(query: &mut QueryBuilder<Postgres>, filter: &TrailFilter, stretch: Stretch) {
    if let Some(from) = filter.from {
        query.push(" AND id >= ").push_bind(first_uuid_of(from));
    }
    if let Some(to) = filter.to {
        query.push(" AND id < ").push_bind(first_uuid_of(to + TimeDelta::milliseconds(1)));
    }
    let (behind, until) = stretch.order.comparisons();
    if let Some(id) = stretch.behind {
        query.push(behind).push_bind(id.0);
    }
    if let Some(id) = stretch.until {
        query.push(until).push_bind(id.0);
    }
}

fn push_filter(query: &mut QueryBuilder<Postgres>, filter: &TrailFilter) {
    let TrailFilter { from, to, action, actor, subject_keys, entry, request } = filter;
    if let Some(from) = from {
        query.push(" AND occurred_at >= ").push_bind(*from);
    }
    if let Some(to) = to {
        query.push(" AND occurred_at < ").push_bind(*to);
    }
    if let Some(action) = action {
        query.push(" AND action = ").push_bind(action.name());
    }
    match actor {
        Some(ActorFilter::Token(id)) => {
            query.push(" AND actor_token_id = ").push_bind(id.0);
        }
        Some(ActorFilter::Kind(kind)) => {
            query.push(" AND actor_kind = ").push_bind(*kind);
        }
        None => {}
    }
    if let Some(keys) = subject_keys {
        push_subjects(query, keys);
    }
    if let Some(entry) = entry {
        query.push(" AND entry_id = ").push_bind(entry.0);
    }
    if let Some(request) = request {
        query.push(" AND request_id = ").push_bind(request.0);
    }
}
