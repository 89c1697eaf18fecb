//! Operators make, list and change tenants.

use std::fmt;

use crate::domain::action::Action;
use crate::domain::audit_record::AuditRecord;
use crate::domain::ids::{RequestId, TenantId};
use crate::domain::selector::Change;
use crate::store::tenants::{self, NewTenant, TenantChange, TenantLimits, TenantRow};
use crate::store::{self, Ending, StoreError, invalidations};

use super::Administration;
use crate::call::ServiceError;

/// A tenant's name in commands and routes: 1 to 63 of `a-z`, `0-9`, `-`, not beginning with `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantSlug(String);

impl TenantSlug {
    /// The rule for a slug, in words.
    pub const RULE: &'static str = "1 to 63 of a-z, 0-9 and -, beginning with a letter or digit";

    /// The slug of the installation's own tenant, whose tokens may be operators'.
    pub const INSTALLATION: &'static str = "installation";

    /// Reads a slug. Returns `None` if the text breaks the rule.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let whole = (1..=63).contains(&text.len()) && text.bytes().all(allowed);
        (whole && !text.starts_with('-')).then(|| Self(text.to_owned()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantSlug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The reason why a tenant was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum TenantError {
    /// Something of the service failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The slug is taken.
    #[error("there is a tenant with that slug already")]
    SlugTaken,
    /// There is no such tenant.
    #[error("there is no such tenant")]
    NotFound,
    /// The change would leave nobody who could undo it.
    #[error("the installation's own tenant cannot be switched off")]
    Installation,
}

impl From<StoreError> for TenantError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Constraint(name) if name == "tenants_slug_unique" => Self::SlugTaken,
            other => Self::Service(other.into()),
        }
    }
}

impl Administration {
    /// Makes a tenant with its keys. `record` names the actor and the request.
    pub async fn create_tenant(
        &self,
        slug: &TenantSlug,
        name: &str,
        limits: TenantLimits,
        record: AuditRecord,
    ) -> Result<TenantRow, TenantError> {
        let now = self.parts.clock.now();
        let id = TenantId::fresh(&*self.parts.ids, now);
        let request: RequestId = record.request;
        let record = self.parts.audit.stamp(AuditRecord {
            tenant: id,
            action: Action::TenantCreate,
            object: Some(id.0),
            count: 1,
            ..record
        });
        let store = &self.parts.store;
        let new = NewTenant { slug: slug.as_str(), name, created_at: now, limits };
        let made = store.change("make a tenant", id, async |mut tx| {
            tenants::insert(&mut tx, &new).await?;
            let keys = self.parts.keyring.insert_tenant_keys(&mut tx, request).await;
            keys.map_err(ServiceError::from)?;
            let recorded = store::audit::insert(&mut tx, &record).await?;
            Ok::<_, TenantError>(Ending::Commit(recorded, ()))
        });
        made.await?;
        self.find_tenant(slug).await
    }

    /// Finds the tenant with this slug.
    pub async fn find_tenant(&self, slug: &TenantSlug) -> Result<TenantRow, TenantError> {
        let store = &self.parts.store;
        let found = store.system("find a tenant by its slug", async |mut tx| {
            tenants::find_by_slug(&mut tx, slug.as_str()).await
        });
        found.await?.ok_or(TenantError::NotFound)
    }

    /// Lists every tenant.
    pub async fn list_tenants(&self) -> Result<Vec<TenantRow>, ServiceError> {
        let store = &self.parts.store;
        Ok(store.system("list tenants", async |mut tx| tenants::list(&mut tx).await).await?)
    }

    /// Changes the limits and rules of a tenant. Every replica follows before this returns.
    pub async fn update_tenant(
        &self,
        slug: &TenantSlug,
        change: TenantChange,
        record: AuditRecord,
    ) -> Result<TenantRow, TenantError> {
        if change.active == Some(false) && slug.as_str() == TenantSlug::INSTALLATION {
            return Err(TenantError::Installation);
        }
        let tenant = self.find_tenant(slug).await?;
        let now = self.parts.clock.now();
        let record = self.parts.audit.stamp(AuditRecord {
            tenant: tenant.id,
            action: Action::TenantUpdate,
            object: Some(tenant.id.0),
            count: change.settings(),
            ..record
        });
        let store = &self.parts.store;
        let changed = store.change("change a tenant's settings", tenant.id, async |mut tx| {
            invalidations::lock_for_invalidation(&mut tx, now).await?;
            tenants::update(&mut tx, &change).await?;
            let recorded = store::audit::insert(&mut tx, &record).await?;
            let position = invalidations::append(&mut tx, &Change::Tenant, now).await?;
            Ok::<_, StoreError>(Ending::Commit(recorded, position))
        });
        let position = changed.await?;
        self.parts.coherence.propagate(position).await.map_err(ServiceError::from)?;
        self.find_tenant(slug).await
    }
}
