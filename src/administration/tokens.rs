//! Making, listing and revoking tokens. `domain::caller::grantable` says who may grant which roles.

use chrono::{DateTime, Utc};
use zeroize::Zeroizing;

use crate::auth::HasherError;
use crate::crypto::{CryptoError, random};
use crate::domain::action::Action;
use crate::domain::audit_record::AuditRecord;
use crate::domain::caller::{Roles, grantable};
use crate::domain::ids::{TenantId, TokenId};
use crate::domain::selector::Change;
use crate::domain::token::BearerToken;
use crate::store::tokens::{self, NewToken, TokenRow};
use crate::store::{self, Ending, StoreError, invalidations};

use super::Administration;
use crate::call::ServiceError;

/// The right by which a token is made.
#[derive(Debug, Clone, Copy)]
pub enum Grant {
    /// A token grants it, within what these roles may grant.
    By(TokenId, Roles),
    /// The command line grants it, and may grant every role.
    CommandLine,
}

/// The token that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct TokenRequest {
    /// The tenant whose token it will be.
    pub tenant: TenantId,
    /// What the token may do.
    pub roles: Roles,
    /// The end of the token's life. `None`: it has no end.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A new token. Its text is shown this once.
pub struct NewTokenText {
    /// The token without its secret.
    pub row: TokenRow,
    /// The text of the token with its secret.
    pub text: Zeroizing<String>,
}

/// The reason why a token was not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Something of the service failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The granting token may not grant such a role.
    #[error("the caller may not grant these roles")]
    MayNotGrant,
    /// There is no such token of this tenant.
    #[error("there is no such token")]
    NotFound,
    /// The secret could not be hashed.
    #[error("the token could not be hashed")]
    Hasher(#[from] HasherError),
    /// There are no random bytes.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

impl From<StoreError> for TokenError {
    fn from(error: StoreError) -> Self {
        Self::Service(error.into())
    }
}

impl Administration {
    /// Makes a token.
    pub async fn create_token(
        &self,
        request: TokenRequest,
        grant: Grant,
        record: AuditRecord,
    ) -> Result<NewTokenText, TokenError> {
        let TokenRequest { tenant, roles, expires_at } = request;
        let created_by = match grant {
            Grant::By(token, granted) if grantable(granted).covers(roles) => Some(token),
            Grant::By(..) => return Err(TokenError::MayNotGrant),
            Grant::CommandLine => None,
        };
        let now = self.parts.clock.now();
        let token = BearerToken::new(TokenId::fresh(&*self.parts.ids, now), random()?);
        let secret_hash = self.parts.hasher.hash(&token).await?;
        let new = NewToken {
            id: token.id,
            secret_hash: &secret_hash,
            roles,
            created_at: now,
            created_by,
            expires_at,
        };
        let record = self.parts.audit.stamp(AuditRecord {
            tenant,
            action: Action::TokenCreate,
            object: Some(token.id.0),
            count: 1,
            ..record
        });
        let store = &self.parts.store;
        let made = store.change("make a token", tenant, async |mut tx| {
            tokens::insert(&mut tx, &new).await?;
            let recorded = store::audit::insert(&mut tx, &record).await?;
            Ok::<_, StoreError>(Ending::Commit(recorded, ()))
        });
        made.await?;
        let row = TokenRow { id: token.id, roles, created_at: now, expires_at, revoked_at: None };
        Ok(NewTokenText { row, text: token.reveal() })
    }

    /// Lists the tokens of a tenant, newest first.
    pub async fn list_tokens(&self, tenant: TenantId) -> Result<Vec<TokenRow>, ServiceError> {
        let store = &self.parts.store;
        Ok(store.read("list tokens", tenant, async |mut tx| tokens::list(&mut tx).await).await?)
    }

    /// Revokes a token of `tenant`. A token that is revoked already stays so.
    pub async fn revoke_token(
        &self,
        tenant: TenantId,
        id: TokenId,
        record: AuditRecord,
    ) -> Result<(), TokenError> {
        let now = self.parts.clock.now();
        let record = self.parts.audit.stamp(AuditRecord {
            tenant,
            action: Action::TokenRevoke,
            object: Some(id.0),
            count: 1,
            ..record
        });
        let store = &self.parts.store;
        let committed = store.change("revoke a token", tenant, async |mut tx| {
            invalidations::lock_for_invalidation(&mut tx, now).await?;
            if tokens::find(&mut tx, id).await?.is_none() {
                return Ok::<_, StoreError>(Ending::RollBack(None));
            }
            tokens::update_revoked(&mut tx, id, now).await?;
            let recorded = store::audit::insert(&mut tx, &record).await?;
            let position = invalidations::append(&mut tx, &Change::Token(id), now).await?;
            Ok(Ending::Commit(recorded, Some(position)))
        });
        let committed = committed.await?;
        let position = committed.ok_or(TokenError::NotFound)?;
        self.parts.coherence.propagate(position).await.map_err(ServiceError::from)?;
        Ok(())
    }

    /// Finds the tenant of a token. The command line names tokens without their tenant.
    pub async fn tenant_of_token(&self, id: TokenId) -> Result<TenantId, TokenError> {
        let store = &self.parts.store;
        let found = store
            .system("find a token's tenant", async |mut tx| tokens::find_tenant(&mut tx, id).await);
        let tenant = found.await?;
        tenant.ok_or(TokenError::NotFound)
    }
}
