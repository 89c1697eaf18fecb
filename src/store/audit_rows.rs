//! Reads the audit trail a page at a time, along its primary key. It never changes the trail. Each
//! page is a transaction of its own, because a long one would hold the seals back.

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

/// The actors whose records are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorFilter {
    /// One token.
    Token(TokenId),
    /// All actors of a kind, one of [`crate::domain::audit_record::Actor::KINDS`].
    Kind(&'static str),
}

/// The filter of a reading.
#[derive(Debug, Clone, Default)]
pub struct TrailFilter {
    /// Only records of this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Only records before this time.
    pub to: Option<DateTime<Utc>>,
    /// Only records of this action.
    pub action: Option<Action>,
    /// Only records of this actor.
    pub actor: Option<ActorFilter>,
    /// Only records of the person with one of these random names. Without any name nothing is
    /// found.
    pub subject_keys: Option<Vec<SubjectKeyId>>,
    /// Only records of this entry.
    pub entry: Option<EntryId>,
    /// Only records of this request.
    pub request: Option<RequestId>,
}

impl TrailFilter {
    /// Returns the random name of the person whom all records are about. Returns `None` unless
    /// there is exactly one.
    pub fn only_subject(&self) -> Option<SubjectKeyId> {
        match self.subject_keys.as_deref() {
            Some([only]) => Some(*only),
            _ => None,
        }
    }

    /// Returns whether rows must be looked at to decide which are meant. Times need no look,
    /// because they are a range of ids.
    pub const fn looks_at_rows(&self) -> bool {
        let Self { from: _, to: _, action, actor, subject_keys, entry, request } = self;
        action.is_some()
            || actor.is_some()
            || subject_keys.is_some()
            || entry.is_some()
            || request.is_some()
    }
}

/// The direction of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It runs from the newest to the oldest record.
    NewestFirst,
    /// It runs from the oldest to the newest record.
    OldestFirst,
}

impl Order {
    const fn clause(self) -> &'static str {
        match self {
            Self::NewestFirst => " ORDER BY id DESC",
            Self::OldestFirst => " ORDER BY id",
        }
    }

    /// Returns how an id compares with the one before its stretch, and with the last one in it.
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
    /// The direction.
    pub order: Order,
    /// The record behind which it begins. `None` means the trail's end.
    pub behind: Option<AuditId>,
    /// The last record in it. `None` means the trail's other end.
    pub until: Option<AuditId>,
}

/// The columns of a [`RawRow`], of `ai_cache_audit_logs a`. A value that the schema forbids, but
/// its owner can allow, reads as one that no record has. A time that no calendar here has reads as
/// the nearest one.
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

/// Lets Postgres find the rows first and order them then, for a filter that names few. It comes
/// after [`TenantTx::keep_to_indexes`].
pub async fn find_before_ordering(tx: &mut TenantTx) -> Result<(), StoreError> {
    let settings = "SELECT set_config('enable_indexscan', 'off', true)";
    QueryBuilder::<Postgres>::new(settings).build().execute(tx.connection()?).await?;
    Ok(())
}

/// Returns whether there are fewer than `few` records of the persons with these random names.
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

/// Returns the record that closes the first window of a stretch: no retention class has more than
/// `scan` rows in the stretch up to it. Returns `None` if the whole stretch is no longer than that.
/// It reads the primary key alone, so times narrow the window and other filters do not.
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

/// Reads a page of the trail of the transaction's tenant.
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

/// Finds the newest record of the transaction's tenant.
pub async fn find_newest(tx: &mut TenantTx) -> Result<Option<AuditId>, StoreError> {
    let stretch = Stretch { order: Order::NewestFirst, behind: None, until: None };
    let rows = list(tx, &TrailFilter::default(), stretch, 1).await?;
    Ok(rows.first().map(|row| row.id))
}

/// Adds the query of one retention class, which is a partition. Each class is named as a constant
/// and read in the order of its own index, and the pages of all are merged. A time that somebody
/// changed to one that no calendar here has is shown as the nearest one.
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

/// Adds the range of ids. Times find their rows by the ids, to the millisecond; `push_filter` is
/// exact.
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
