//! The wrapped keys of tenants and persons. The unwrapped keys never reach this module.

use chrono::{DateTime, Utc};

use crate::crypto::Sealed;
use crate::domain::cache_key::BlindIndex;
use crate::domain::ids::SubjectKeyId;

use super::{StoreError, TenantTx, WriteTx};

/// The purpose of a tenant's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPurpose {
    /// It seals entries that no person owns.
    Enc,
    /// It makes cache keys and blind indexes.
    Index,
}

impl KeyPurpose {
    /// Returns the name as it is stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enc => "enc",
            Self::Index => "index",
        }
    }

    fn parse(name: &str) -> Result<Self, StoreError> {
        match name {
            "enc" => Ok(Self::Enc),
            "index" => Ok(Self::Index),
            _ => Err(StoreError::UnknownValue("key purpose")),
        }
    }
}

/// A tenant's wrapped key.
#[derive(Debug, Clone)]
pub struct TenantKeyRow {
    /// The purpose.
    pub purpose: KeyPurpose,
    /// The version, from 1. The largest is the one to use.
    pub version: i32,
    /// The key, sealed.
    pub wrapped: Sealed,
    /// The id of the master key that wraps it.
    pub master_key_id: String,
}

/// A person's wrapped key.
#[derive(Debug, Clone)]
pub struct SubjectKeyRow {
    /// The random name of the person.
    pub id: SubjectKeyId,
    /// The key, sealed.
    pub wrapped: Sealed,
    /// The id of the key that wraps it.
    pub master_key_id: String,
    /// Whether the person's data are only kept, neither served nor changed.
    pub restricted: bool,
}

/// Lists every key of the transaction's tenant.
pub async fn list_tenant_keys(tx: &mut TenantTx) -> Result<Vec<TenantKeyRow>, StoreError> {
    let tenant = tx.tenant().0;
    let rows = sqlx::query!(
        "SELECT purpose, version, wrapped, master_key_id FROM tenant_keys
         WHERE tenant_id = $1 ORDER BY purpose, version",
        tenant
    )
    .fetch_all(tx.connection()?)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(TenantKeyRow {
                purpose: KeyPurpose::parse(&row.purpose)?,
                version: row.version,
                wrapped: Sealed::from_bytes(row.wrapped),
                master_key_id: row.master_key_id,
            })
        })
        .collect()
}

/// Adds a key to the transaction's tenant.
pub async fn insert_tenant_key(
    tx: &mut WriteTx,
    key: &TenantKeyRow,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    sqlx::query!(
        "INSERT INTO tenant_keys (tenant_id, purpose, version, wrapped, master_key_id, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        tenant,
        key.purpose.name(),
        key.version,
        key.wrapped.as_bytes(),
        key.master_key_id,
        at
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Finds the active key of a person.
pub async fn find_subject_key(
    tx: &mut TenantTx,
    blind: BlindIndex,
) -> Result<Option<SubjectKeyRow>, StoreError> {
    let tenant = tx.tenant().0;
    let row = sqlx::query!(
        r#"SELECT subject_key_id, wrapped AS "wrapped!", master_key_id,
                  restricted_at IS NOT NULL AS "restricted!" FROM subject_keys
           WHERE tenant_id = $1 AND blind_id = $2 AND state = 'active'"#,
        tenant,
        &blind.0
    )
    .fetch_optional(tx.connection()?)
    .await?;
    Ok(row.map(|row| SubjectKeyRow {
        id: SubjectKeyId(row.subject_key_id),
        wrapped: Sealed::from_bytes(row.wrapped),
        master_key_id: row.master_key_id,
        restricted: row.restricted,
    }))
}

/// Lists the random names of a person: those of active keys, because a destroyed key is nobody's
/// any more.
pub async fn list_subject_key_ids(
    tx: &mut TenantTx,
    blind: BlindIndex,
) -> Result<Vec<SubjectKeyId>, StoreError> {
    let tenant = tx.tenant().0;
    let ids = sqlx::query_scalar!(
        "SELECT subject_key_id FROM subject_keys
         WHERE tenant_id = $1 AND blind_id = $2 AND state = 'active'",
        tenant,
        &blind.0
    )
    .fetch_all(tx.connection()?)
    .await?;
    Ok(ids.into_iter().map(SubjectKeyId).collect())
}

/// Lists the active ones of the keys with these ids.
pub async fn list_subject_keys(
    tx: &mut TenantTx,
    ids: &[SubjectKeyId],
) -> Result<Vec<SubjectKeyRow>, StoreError> {
    let tenant = tx.tenant().0;
    let ids: Vec<uuid::Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"SELECT subject_key_id, wrapped AS "wrapped!", master_key_id,
                  restricted_at IS NOT NULL AS "restricted!" FROM subject_keys
           WHERE tenant_id = $1 AND subject_key_id = ANY ($2) AND state = 'active'"#,
        tenant,
        &ids
    )
    .fetch_all(tx.connection()?)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| SubjectKeyRow {
            id: SubjectKeyId(row.subject_key_id),
            wrapped: Sealed::from_bytes(row.wrapped),
            master_key_id: row.master_key_id,
            restricted: row.restricted,
        })
        .collect())
}

/// Adds a person's key unless the person has an active one. Returns whether it was added.
pub async fn insert_subject_key(
    tx: &mut WriteTx,
    blind: BlindIndex,
    key: &SubjectKeyRow,
    at: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let tenant = tx.tenant().0;
    let done = sqlx::query!(
        "INSERT INTO subject_keys
             (tenant_id, subject_key_id, blind_id, wrapped, master_key_id, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant_id, blind_id) WHERE state = 'active' DO NOTHING",
        tenant,
        key.id.0,
        &blind.0,
        key.wrapped.as_bytes(),
        key.master_key_id,
        at
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Says whether a person's entries may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectStanding {
    /// They may be stored until the transaction ends.
    Active,
    /// They are only kept, because the person is restricted.
    Restricted,
    /// The key was destroyed.
    Destroyed,
}

/// Holds a person's key against destruction and restriction until the transaction ends.
pub async fn hold_subject_key(
    tx: &mut WriteTx,
    id: SubjectKeyId,
) -> Result<SubjectStanding, StoreError> {
    let tenant = tx.tenant().0;
    let restricted = sqlx::query_scalar!(
        r#"SELECT restricted_at IS NOT NULL AS "restricted!" FROM subject_keys
           WHERE tenant_id = $1 AND subject_key_id = $2 AND state = 'active' FOR SHARE"#,
        tenant,
        id.0
    )
    .fetch_optional(tx.connection()?)
    .await?;
    Ok(match restricted {
        Some(false) => SubjectStanding::Active,
        Some(true) => SubjectStanding::Restricted,
        None => SubjectStanding::Destroyed,
    })
}

/// Restricts a person's data since then, or lifts the restriction. Returns false if the key is
/// destroyed.
pub async fn update_restricted(
    tx: &mut WriteTx,
    id: SubjectKeyId,
    since: Option<DateTime<Utc>>,
) -> Result<bool, StoreError> {
    let tenant = tx.tenant().0;
    let done = sqlx::query!(
        "UPDATE subject_keys SET restricted_at = $3
         WHERE tenant_id = $1 AND subject_key_id = $2 AND state = 'active'",
        tenant,
        id.0,
        since
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Destroys the key with this id if it is active. Returns whether it was. The tenant's fills must
/// be barred.
pub async fn update_destroyed_by_id(
    tx: &mut WriteTx,
    id: SubjectKeyId,
    at: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let tenant = tx.tenant().0;
    let done = sqlx::query!(
        "UPDATE subject_keys
         SET state = 'destroyed', wrapped = NULL, blind_id = NULL, restricted_at = NULL,
             destroyed_at = $3
         WHERE tenant_id = $1 AND subject_key_id = $2 AND state = 'active'",
        tenant,
        id.0,
        at
    )
    .execute(tx.connection()?)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A key that is destroyed.
#[derive(Debug, Clone)]
pub struct DestroyedKey {
    /// The random name of the person.
    pub id: SubjectKeyId,
    /// The id of the key that wrapped it.
    pub master_key_id: String,
}

/// Destroys a person's active key: its wrapped bytes, and the blind index that tells whose it was.
/// Returns `None` if the person has no active key. The tenant's fills must be barred.
pub async fn update_destroyed(
    tx: &mut WriteTx,
    blind: BlindIndex,
    at: DateTime<Utc>,
) -> Result<Option<DestroyedKey>, StoreError> {
    let tenant = tx.tenant().0;
    let row = sqlx::query!(
        "UPDATE subject_keys
         SET state = 'destroyed', wrapped = NULL, blind_id = NULL, restricted_at = NULL,
             destroyed_at = $3
         WHERE tenant_id = $1 AND blind_id = $2 AND state = 'active'
         RETURNING subject_key_id, master_key_id",
        tenant,
        &blind.0,
        at
    )
    .fetch_optional(tx.connection()?)
    .await?;
    Ok(row.map(|row| DestroyedKey {
        id: SubjectKeyId(row.subject_key_id),
        master_key_id: row.master_key_id,
    }))
}
