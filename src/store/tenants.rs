//! Tenants and how far each has been invalidated.

use chrono::{DateTime, Utc};

use crate::domain::ids::TenantId;
use crate::domain::selector::{Generation, Position};

use super::{StoreError, SystemTx, WriteTx};

/// A tenant as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRow {
    /// The tenant.
    pub id: TenantId,
    /// Its name in commands and routes.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// Whether its tokens are accepted.
    pub active: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Entries of older generations are gone.
    pub generation: Generation,
    /// Its newest invalidation.
    pub position: Position,
}

/// A tenant to be made.
#[derive(Debug, Clone)]
pub struct NewTenant<'a> {
    /// Its name in commands and routes.
    pub slug: &'a str,
    /// Its name for people.
    pub name: &'a str,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// Adds the transaction's tenant. A taken slug is the constraint `tenants_slug_unique`.
pub async fn insert(tx: &mut WriteTx, tenant: &NewTenant<'_>) -> Result<(), StoreError> {
    let id = tx.tenant().0;
    sqlx::query!(
        "INSERT INTO tenants (tenant_id, slug, name, created_at) VALUES ($1, $2, $3, $4)",
        id,
        tenant.slug,
        tenant.name,
        tenant.created_at,
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

macro_rules! rows {
    ($tx:expr, $method:ident, $condition:literal $(, $argument:expr)*) => {
        sqlx::query!(
            r#"SELECT t.tenant_id, t.slug, t.name, t.state = 'active' AS "active!", t.created_at,
                      s.generation, s.position
               FROM tenants t JOIN invalidation_state s USING (tenant_id)"# + $condition
            $(, $argument)*
        )
        .$method($tx.connection()?)
        .await?
    };
}

macro_rules! row {
    ($row:expr) => {
        TenantRow {
            id: TenantId($row.tenant_id),
            slug: $row.slug,
            name: $row.name,
            active: $row.active,
            created_at: $row.created_at,
            generation: Generation($row.generation),
            position: Position($row.position),
        }
    };
}

/// The tenant with that id.
pub async fn find(tx: &mut SystemTx, id: TenantId) -> Result<Option<TenantRow>, StoreError> {
    let row = rows!(tx, fetch_optional, " WHERE t.tenant_id = $1", id.0);
    Ok(row.map(|row| row!(row)))
}

/// The tenant with that slug.
pub async fn find_by_slug(tx: &mut SystemTx, slug: &str) -> Result<Option<TenantRow>, StoreError> {
    let row = rows!(tx, fetch_optional, " WHERE t.slug = $1", slug);
    Ok(row.map(|row| row!(row)))
}

/// Every tenant, by slug.
pub async fn list(tx: &mut SystemTx) -> Result<Vec<TenantRow>, StoreError> {
    let rows = rows!(tx, fetch_all, " ORDER BY t.slug");
    Ok(rows.into_iter().map(|row| row!(row)).collect())
}

/// Sets whether the transaction's tenant's tokens are accepted; returns whether there is such a
/// tenant.
pub async fn update_active(tx: &mut WriteTx, active: bool) -> Result<bool, StoreError> {
    let id = tx.tenant().0;
    let state = if active { "active" } else { "disabled" };
    let done = sqlx::query!("UPDATE tenants SET state = $2 WHERE tenant_id = $1", id, state)
        .execute(tx.connection()?)
        .await?;
    Ok(done.rows_affected() == 1)
}
