//! Owns the keys of a tenant: one seals the data that no person owns, the other makes blind names.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::crypto::{Key, MacKey};
use crate::domain::action::Action;
use crate::domain::cache_key::{BlindIndex, CacheKey, KeyParts};
use crate::domain::canonical::Encoder;
use crate::domain::ids::{RequestId, TenantId};
use crate::domain::query::SubjectId;
use crate::store::keys::{self, KeyPurpose, TenantKeyRow};
use crate::store::{self, WriteTx};

use super::{Keyring, KeyringError, REMEMBERED};

/// The version that new keys begin with.
pub(super) const FIRST_VERSION: i32 = 1;

/// The unwrapped keys of a tenant.
#[derive(Debug)]
pub struct TenantKeys {
    pub(super) tenant: TenantId,
    pub(super) enc: Key,
    pub(super) enc_version: i32,
    cache_key: MacKey,
    redis_key: MacKey,
    redis_value: MacKey,
    blind: MacKey,
    pub(super) loaded_at: DateTime<Utc>,
}

/// The kind of text that a blind index stands for. The same text as a tag and as a location has two
/// different indexes.
#[derive(Debug, Clone, Copy)]
pub enum BlindKind {
    /// The id of a person.
    Subject,
    /// A location.
    Location,
    /// A vendor type.
    VendorType,
    /// A tag.
    Tag,
    /// The name that a client gives to a filing.
    IdempotencyKey,
    /// The whole content of a filing.
    Filing,
}

impl TenantKeys {
    /// Returns the tenant whose keys these are.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Returns the cache key of a question.
    pub fn cache_key(&self, parts: &KeyParts<'_>) -> CacheKey {
        CacheKey(self.cache_key.mac(&parts.canonical()))
    }

    /// Returns the name of an entry in Redis. That name cannot be joined with the name in Postgres.
    pub fn redis_key(&self, key: &CacheKey) -> [u8; 32] {
        self.redis_key.mac(&key.0)
    }

    /// Returns the key that proves that a value in Redis was put there for this tenant.
    pub const fn redis_value(&self) -> &MacKey {
        &self.redis_value
    }

    /// Returns the blind index of a text.
    pub fn blind_index(&self, kind: BlindKind, text: &[u8]) -> BlindIndex {
        let mut message = Encoder::new(match kind {
            BlindKind::Subject => "subject",
            BlindKind::Location => "location",
            BlindKind::VendorType => "vendor type",
            BlindKind::Tag => "tag",
            BlindKind::IdempotencyKey => "idempotency key",
            BlindKind::Filing => "filing",
        });
        message.bytes(text);
        BlindIndex(self.blind.mac(message.as_bytes()))
    }

    /// Returns the blind index of a person.
    pub fn subject_index(&self, subject: &SubjectId) -> BlindIndex {
        self.blind_index(BlindKind::Subject, subject.as_bytes())
    }
}

/// Returns the data that a wrapped tenant key is bound to.
fn bound(tenant: TenantId, purpose: KeyPurpose, version: i32) -> Vec<u8> {
    let mut out = Encoder::new("ai-cache tenant key");
    out.bytes(tenant.0.as_bytes()).text(purpose.name()).i64(i64::from(version));
    out.finish()
}

impl Keyring {
    /// Returns the keys of a tenant, from memory or Postgres.
    pub async fn tenant_keys(&self, tenant: TenantId) -> Result<Arc<TenantKeys>, KeyringError> {
        match self.remembered_tenant_keys(tenant) {
            Some(keys) => Ok(keys),
            None => self.load_tenant_keys(tenant, self.clock.now()).await,
        }
    }

    /// Returns the keys of a tenant. Returns `None` if they are not in memory.
    pub fn remembered_tenant_keys(&self, tenant: TenantId) -> Option<Arc<TenantKeys>> {
        let now = self.clock.now();
        self.tenants.get(&tenant).filter(|keys| now - keys.loaded_at < REMEMBERED)
    }

    async fn load_tenant_keys(
        &self,
        tenant: TenantId,
        now: DateTime<Utc>,
    ) -> Result<Arc<TenantKeys>, KeyringError> {
        let read = self.store.read("list a tenant's keys", tenant, async |mut tx| {
            keys::list_tenant_keys(&mut tx).await.map(Some)
        });
        let rows = self.read_wrapped(&self.wrapped_tenants, tenant, read).await?;
        let wrapped = rows.ok_or(KeyringError::UnknownVersion)?;
        let keys = Arc::new(self.unwrap_tenant_keys(tenant, &wrapped.rows, now)?);
        self.tenants.insert(tenant, Arc::clone(&keys));
        Ok(keys)
    }

    fn unwrap_tenant_keys(
        &self,
        tenant: TenantId,
        rows: &[TenantKeyRow],
        loaded_at: DateTime<Utc>,
    ) -> Result<TenantKeys, KeyringError> {
        let newest = |purpose| {
            let row =
                rows.iter().filter(|row| row.purpose == purpose).max_by_key(|row| row.version);
            let row = row.ok_or(KeyringError::UnknownVersion)?;
            let bound = bound(tenant, purpose, row.version);
            let key = self.provider.unwrap(&row.master_key_id, &row.wrapped, &bound)?;
            Ok::<_, KeyringError>((key, row.version))
        };
        let (enc, enc_version) = newest(KeyPurpose::Enc)?;
        let (index, _) = newest(KeyPurpose::Index)?;
        Ok(TenantKeys {
            tenant,
            enc: self.sealing_key(&enc),
            enc_version,
            cache_key: MacKey::derive(&index, "cache key"),
            redis_key: MacKey::derive(&index, "redis key"),
            redis_value: MacKey::derive(&index, "redis value"),
            blind: MacKey::derive(&index, "blind index"),
            loaded_at,
        })
    }

    /// Makes the keys of a new tenant inside the transaction that makes the tenant, with a record
    /// for each key.
    pub async fn insert_tenant_keys(
        &self,
        tx: &mut WriteTx,
        request: RequestId,
    ) -> Result<(), KeyringError> {
        let tenant = tx.tenant();
        for purpose in [KeyPurpose::Enc, KeyPurpose::Index] {
            let key = Key::random()?;
            let wrapped = self.provider.wrap(&key, &bound(tenant, purpose, FIRST_VERSION))?;
            let row = TenantKeyRow {
                purpose,
                version: FIRST_VERSION,
                wrapped,
                master_key_id: self.provider.active_id().as_str().to_owned(),
            };
            keys::insert_tenant_key(tx, &row, self.clock.now()).await?;
            let record = self.key_record(tenant, request, Action::TenantKeyCreate, None);
            // The transaction commits with the record of its caller.
            let _also_recorded = store::audit::insert(tx, &self.audit.stamp(record)).await?;
        }
        Ok(())
    }
}
