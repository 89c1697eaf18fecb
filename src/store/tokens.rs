//! The API tokens. A secret is stored as its argon2id hash only.

use chrono::{DateTime, Utc};

use crate::domain::caller::{Role, Roles};
use crate::domain::ids::{TenantId, TokenId};

use super::{StoreError, SystemTx, TenantTx, WriteTx};

/// A token without its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// The token.
    pub id: TokenId,
    /// The roles.
    pub roles: Roles,
    /// The time when it was made.
    pub created_at: DateTime<Utc>,
    /// The time from which it is refused because it expires.
    pub expires_at: Option<DateTime<Utc>>,
    /// The time from which it is refused because it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A token to be made.
#[derive(Debug)]
pub struct NewToken<'a> {
    /// The token.
    pub id: TokenId,
    /// The argon2id hash of the secret, as a PHC string.
    pub secret_hash: &'a str,
    /// The roles.
    pub roles: Roles,
    /// The time when it is made.
    pub created_at: DateTime<Utc>,
    /// The token that makes it. `None` for the command line.
    pub created_by: Option<TokenId>,
    /// The time from which it is refused because it expires.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The values that are needed to verify a token.
#[derive(Debug, Clone)]
pub struct TokenSecret {
    /// The tenant of the token.
    pub tenant: TenantId,
    /// The token.
    pub token: TokenRow,
    /// The argon2id hash of the secret, as a PHC string.
    pub secret_hash: String,
    /// Whether the tenant's tokens are accepted.
    pub tenant_active: bool,
}

impl TokenSecret {
    /// Returns whether the token is not revoked and its tenant is not disabled.
    pub const fn is_usable(&self) -> bool {
        self.token.revoked_at.is_none() && self.tenant_active
    }
}

fn parse_roles(names: &[String]) -> Result<Roles, StoreError> {
    names.iter().map(|name| Role::parse(name).ok_or(StoreError::UnknownValue("role"))).collect()
}

/// Adds a token to the transaction's tenant.
pub async fn insert(tx: &mut WriteTx, token: &NewToken<'_>) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    sqlx::query!(
        "INSERT INTO api_tokens
             (tenant_id, token_id, secret_hash, roles, created_at, created_by, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        tenant,
        token.id.0,
        token.secret_hash,
        &token.roles.names(),
        token.created_at,
        token.created_by.map(|id| id.0),
        token.expires_at,
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}

/// Finds the values that are needed to verify a token of any tenant: a request has a token before
/// its tenant is known.
pub async fn find_secret(
    tx: &mut SystemTx,
    id: TokenId,
) -> Result<Option<TokenSecret>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT a.tenant_id, a.secret_hash, a.roles, a.created_at, a.expires_at, a.revoked_at,
                  t.state = 'active' AS "tenant_active!"
           FROM api_tokens a JOIN tenants t USING (tenant_id) WHERE a.token_id = $1"#,
        id.0
    )
    .fetch_optional(tx.connection()?)
    .await?;
    row.map(|row| {
        let token = TokenRow {
            id,
            roles: parse_roles(&row.roles)?,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        };
        Ok(TokenSecret {
            tenant: TenantId(row.tenant_id),
            token,
            secret_hash: row.secret_hash,
            tenant_active: row.tenant_active,
        })
    })
    .transpose()
}

/// Finds the tenant of a token.
pub async fn find_tenant(tx: &mut SystemTx, id: TokenId) -> Result<Option<TenantId>, StoreError> {
    let tenant = sqlx::query_scalar!("SELECT tenant_id FROM api_tokens WHERE token_id = $1", id.0)
        .fetch_optional(tx.connection()?)
        .await?;
    Ok(tenant.map(TenantId))
}

/// Lists the tokens of the transaction's tenant, newest first.
pub async fn list(tx: &mut TenantTx) -> Result<Vec<TokenRow>, StoreError> {
    let tenant = tx.tenant().0;
    let rows = sqlx::query!(
        "SELECT token_id, roles, created_at, expires_at, revoked_at
         FROM api_tokens WHERE tenant_id = $1 ORDER BY token_id DESC",
        tenant
    )
    .fetch_all(tx.connection()?)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(TokenRow {
                id: TokenId(row.token_id),
                roles: parse_roles(&row.roles)?,
                created_at: row.created_at,
                expires_at: row.expires_at,
                revoked_at: row.revoked_at,
            })
        })
        .collect()
}

/// Finds one token of the transaction's tenant.
pub async fn find(tx: &mut TenantTx, id: TokenId) -> Result<Option<TokenRow>, StoreError> {
    let tenant = tx.tenant().0;
    let row = sqlx::query!(
        "SELECT roles, created_at, expires_at, revoked_at
         FROM api_tokens WHERE tenant_id = $1 AND token_id = $2",
        tenant,
        id.0
    )
    .fetch_optional(tx.connection()?)
    .await?;
    row.map(|row| {
        Ok(TokenRow {
            id,
            roles: parse_roles(&row.roles)?,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        })
    })
    .transpose()
}

/// Revokes a token of the transaction's tenant. A second time changes nothing.
pub async fn update_revoked(
    tx: &mut WriteTx,
    id: TokenId,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let tenant = tx.tenant().0;
    sqlx::query!(
        "UPDATE api_tokens SET revoked_at = $3
         WHERE tenant_id = $1 AND token_id = $2 AND revoked_at IS NULL",
        tenant,
        id.0,
        at
    )
    .execute(tx.connection()?)
    .await?;
    Ok(())
}
