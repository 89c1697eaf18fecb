//! The tenants, and the newest invalidation of each.

use chrono::{DateTime, Utc};
use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use crate::domain::deadline::Zone;
use crate::domain::ids::TenantId;
use crate::domain::selector::{Generation, Position};

use super::{StoreError, SystemTx, TenantTx, WriteTx};

/// A tenant as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRow {
    /// The tenant.
    pub id: TenantId,
    /// The slug.
    pub slug: String,
    /// The name for people.
    pub name: String,
    /// Whether its tokens are accepted.
    pub active: bool,
    /// The time when it was made.
    pub created_at: DateTime<Utc>,
    /// The limits.
    pub limits: TenantLimits,
    /// The rules for its data subjects' requests and data.
    pub rules: TenantRules,
    /// The present generation. Entries of older ones are gone.
    pub generation: Generation,
    /// The position of its newest invalidation.
    pub position: Position,
}

/// The limits of a tenant. 0 means that there is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// The requests of its app tokens in a minute, over all replicas.
    pub requests_per_minute: u32,
    /// The entries in Postgres.
    pub max_entries: u64,
}

/// The rules for a tenant's data subjects' requests and data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantRules {
    /// Whether another person must approve a request before it is executed.
    pub approval: bool,
    /// The time zone in which days and months of deadlines are counted.
    pub zone: Zone,
    /// The days that its data are kept. 0 means the period of the installation.
    pub retention_days: u32,
}

/// A tenant to be made.
#[derive(Debug, Clone)]
pub struct NewTenant<'a> {
    /// The slug.
    pub slug: &'a str,
    /// The name for people.
    pub name: &'a str,
    /// The time when it is made.
    pub created_at: DateTime<Utc>,
    /// The limits.
    pub limits: TenantLimits,
}

/// A change of a tenant. `None` leaves a setting as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantChange {
    /// Whether its tokens are accepted.
    pub active: Option<bool>,
    /// The requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// The entries in Postgres.
    pub max_entries: Option<u64>,
    /// Whether another person must approve a data subject's request.
    pub gdpr_approval: Option<bool>,
    /// The time zone in which days and months of deadlines are counted.
    pub zone: Option<Zone>,
    /// The days that its data are kept.
    pub retention_days: Option<u32>,
}

impl TenantChange {
    /// Returns the number of settings that it changes.
    pub fn settings(&self) -> i64 {
        let Self { active, requests_per_minute, max_entries, gdpr_approval, zone, retention_days } =
            self;
        [
            active.is_some(),
            requests_per_minute.is_some(),
            max_entries.is_some(),
            gdpr_approval.is_some(),
            zone.is_some(),
            retention_days.is_some(),
        ]
        .into_iter()
        .map(i64::from)
        .sum()
    }
}

/// Adds the transaction's tenant. A slug that is taken fails with the constraint
/// `tenants_slug_unique`.
pub async fn insert(tx: &mut WriteTx, tenant: &NewTenant<'_>) -> Result<(), StoreError> {
    let id = tx.tenant().0;
    sqlx::query!(
        "INSERT INTO tenants (tenant_id, slug, name, created_at, requests_per_minute, max_entries)
         VALUES ($1, $2, $3, $4, $5, $6)",
        id,
        tenant.slug,
        tenant.name,
        tenant.created_at,
        requests(tenant.limits.requests_per_minute),
        count(tenant.limits.max_entries),
    )
    .execute(tx.connection()?)
    .await?;
    sqlx::query!(
        "INSERT INTO invalidation_state (tenant_id, updated_at) VALUES ($1, $2)",
        id,
        tenant.created_at,
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

fn requests(limit: u32) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

fn count(limit: u64) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

macro_rules! rows {
    ($connection:expr, $method:ident, $condition:literal $(, $argument:expr)*) => {
        sqlx::query!(
            r#"SELECT t.tenant_id, t.slug, t.name, t.state = 'active' AS "active!", t.created_at,
                      t.requests_per_minute, t.max_entries, t.gdpr_approval, t.time_zone,
                      t.retention_days, s.generation, s.position
               FROM tenants t JOIN invalidation_state s USING (tenant_id)"# + $condition
            $(, $argument)*
        )
        .$method($connection)
        .await?
    };
}

macro_rules! rules {
    ($row:expr) => {
        TenantRules {
            approval: $row.gdpr_approval,
            zone: Zone::parse(&$row.time_zone).ok_or(StoreError::UnknownValue("time zone"))?,
            retention_days: u32::try_from($row.retention_days).unwrap_or(0),
        }
    };
}

/// Returns whether the transaction's tenant is here. It is not when a backup is older than the
/// tenant.
pub async fn is_here(tx: &mut TenantTx) -> Result<bool, StoreError> {
    let id = tx.tenant().0;
    let here = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM tenants WHERE tenant_id = $1) AS "here!""#,
        id
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(here)
}

/// Reads the rules of the transaction's tenant.
pub async fn get_rules(tx: &mut TenantTx) -> Result<TenantRules, StoreError> {
    let id = tx.tenant().0;
    let row = sqlx::query!(
        "SELECT gdpr_approval, time_zone, retention_days FROM tenants WHERE tenant_id = $1",
        id
    )
    .fetch_one(tx.connection()?)
    .await?;
    Ok(rules!(row))
}

/// Reads the name for people of the transaction's tenant.
pub async fn get_name(tx: &mut TenantTx) -> Result<String, StoreError> {
    let id = tx.tenant().0;
    let name = sqlx::query_scalar!("SELECT name FROM tenants WHERE tenant_id = $1", id)
        .fetch_one(tx.connection()?)
        .await?;
    Ok(name)
}

macro_rules! row {
    ($row:expr) => {
        Ok::<_, StoreError>(TenantRow {
            rules: rules!($row),
            id: TenantId($row.tenant_id),
            slug: $row.slug,
            name: $row.name,
            active: $row.active,
            created_at: $row.created_at,
            limits: TenantLimits {
                requests_per_minute: u32::try_from($row.requests_per_minute).unwrap_or(0),
                max_entries: u64::try_from($row.max_entries).unwrap_or(0),
            },
            generation: Generation($row.generation),
            position: Position($row.position),
        })
    };
}

/// Finds the tenant with this id.
pub async fn find(tx: &mut SystemTx, id: TenantId) -> Result<Option<TenantRow>, StoreError> {
    let row = rows!(tx.connection()?, fetch_optional, " WHERE t.tenant_id = $1", id.0);
    row.map(|row| row!(row)).transpose()
}

/// Lists the tenants with these ids.
pub(super) async fn list_by_ids(
    connection: &mut PgConnection,
    ids: &[TenantId],
) -> Result<Vec<TenantRow>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = rows!(connection, fetch_all, " WHERE t.tenant_id = ANY ($1)", &ids);
    rows.into_iter().map(|row| row!(row)).collect()
}

/// Lists the tenants with a retention period of their own, with the period in days.
pub async fn list_retention(tx: &mut SystemTx) -> Result<Vec<(TenantId, u32)>, StoreError> {
    let rows =
        sqlx::query!("SELECT tenant_id, retention_days FROM tenants WHERE retention_days > 0")
            .fetch_all(tx.connection()?)
            .await?;
    let days = |days| u32::try_from(days).unwrap_or(0);
    Ok(rows.into_iter().map(|row| (TenantId(row.tenant_id), days(row.retention_days))).collect())
}

/// Finds the tenant with this slug.
pub async fn find_by_slug(tx: &mut SystemTx, slug: &str) -> Result<Option<TenantRow>, StoreError> {
    let row = rows!(tx.connection()?, fetch_optional, " WHERE t.slug = $1", slug);
    row.map(|row| row!(row)).transpose()
}

/// Lists every tenant, by slug.
pub async fn list(tx: &mut SystemTx) -> Result<Vec<TenantRow>, StoreError> {
    let rows = rows!(tx.connection()?, fetch_all, " ORDER BY t.slug");
    rows.into_iter().map(|row| row!(row)).collect()
}

/// Changes the transaction's tenant. Returns whether there is such a tenant. Limits are changed as
/// the role that may: in a tenant's name nobody may.
pub async fn update(tx: &mut WriteTx, change: &TenantChange) -> Result<bool, StoreError> {
    let id = tx.tenant().0;
    let TenantChange { active, requests_per_minute, max_entries, .. } = *change;
    let TenantChange { gdpr_approval, zone, retention_days, .. } = *change;
    let state = active.map(|active| if active { "active" } else { "disabled" });
    let state = sqlx::query!(
        "UPDATE tenants SET state = coalesce($2, state) WHERE tenant_id = $1",
        id,
        state
    )
    .execute(tx.connection()?)
    .await?;
    tx.connection()?.execute("SET LOCAL ROLE ai_cache_system").await?;
    sqlx::query!(
        "UPDATE tenants SET requests_per_minute = coalesce($2, requests_per_minute),
                            max_entries = coalesce($3, max_entries),
                            gdpr_approval = coalesce($4, gdpr_approval),
                            time_zone = coalesce($5, time_zone),
                            retention_days = coalesce($6, retention_days)
         WHERE tenant_id = $1",
        id,
        requests_per_minute.map(requests),
        max_entries.map(count),
        gdpr_approval,
        zone.map(Zone::name),
        retention_days.map(requests)
    )
    .execute(tx.connection()?)
    .await?;
    tx.connection()?.execute("SET LOCAL ROLE NONE").await?;
    Ok(state.rows_affected() == 1)
}
