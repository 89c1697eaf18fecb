//! Owns the keys of persons: one for each tenant and person, made when the person is first named.

use std::sync::{Arc, PoisonError, RwLockReadGuard};

use chrono::{DateTime, Utc};

use crate::crypto::Key;
use crate::domain::action::Action;
use crate::domain::cache_key::BlindIndex;
use crate::domain::canonical::Encoder;
use crate::domain::ids::{RequestId, SubjectKeyId, TenantId};
use crate::domain::query::SubjectId;
use crate::store::keys::{self, SubjectKeyRow};
use crate::store::{self, Ending, StoreError, wrapping};

use super::{Keyring, KeyringError, REMEMBERED, TenantKeys};

/// The unwrapped key of a person.
#[derive(Debug)]
pub struct SubjectKey {
    /// The random id that stands for the person.
    pub id: SubjectKeyId,
    /// Whether the person's data are only kept, and neither served nor changed (GDPR Art. 18).
    pub restricted: bool,
    pub(super) key: Key,
    pub(super) loaded_at: DateTime<Utc>,
}

pub(super) fn bound(tenant: TenantId, id: SubjectKeyId) -> Vec<u8> {
    let mut out = Encoder::new("ai-cache subject key");
    out.bytes(tenant.0.as_bytes()).bytes(id.0.as_bytes());
    out.finish()
}

impl Keyring {
    /// Returns the key of a person, from memory or Postgres. Returns `None` if the person has none.
    pub async fn find_subject_key(
        &self,
        keys: &TenantKeys,
        subject: &SubjectId,
    ) -> Result<Option<Arc<SubjectKey>>, KeyringError> {
        if let Some(key) = self.remembered_subject_key(keys, subject) {
            return Ok(Some(key));
        }
        self.find_subject_key_by_index(keys, keys.subject_index(subject)).await
    }

    /// Returns the key of a person. Returns `None` if it is not in memory.
    pub fn remembered_subject_key(
        &self,
        keys: &TenantKeys,
        subject: &SubjectId,
    ) -> Option<Arc<SubjectKey>> {
        let now = self.clock.now();
        let name = (keys.tenant, keys.subject_index(subject));
        self.subjects.get(&name).filter(|key| now - key.loaded_at < REMEMBERED)
    }

    /// Returns the key of a person as Postgres has it, or had it before an outage. Returns `None`
    /// if the person has none.
    pub async fn find_subject_key_by_index(
        &self,
        keys: &TenantKeys,
        index: BlindIndex,
    ) -> Result<Option<Arc<SubjectKey>>, KeyringError> {
        let found = self.read_subject_key(keys, index).await;
        let Err(KeyringError::Crypto(_)) = found else { return found };
        // The row may be from before a rotation of the wrapping key, and the old wrapping key may
        // be gone.
        self.wrapped_subjects.remove(&(keys.tenant, index));
        self.read_subject_key(keys, index).await
    }

    async fn read_subject_key(
        &self,
        keys: &TenantKeys,
        index: BlindIndex,
    ) -> Result<Option<Arc<SubjectKey>>, KeyringError> {
        let forgotten = *self.forgotten();
        let name = (keys.tenant, index);
        let read = self.store.read("find a person's key", keys.tenant, async |mut tx| {
            keys::find_subject_key(&mut tx, index).await
        });
        let row = self.read_wrapped(&self.wrapped_subjects, name, read).await?;
        let Some(row) = row else { return Ok(None) };
        let key = self.unwrap_subject_key(keys.tenant, &row.rows)?;
        let now_forgotten = self.forgotten();
        if *now_forgotten == forgotten {
            self.subjects.insert(name, Arc::clone(&key));
        } else {
            // The row may be older than the event that made keys be forgotten.
            self.wrapped_subjects.remove(&name);
        }
        Ok(Some(key))
    }

    fn forgotten(&self) -> RwLockReadGuard<'_, u64> {
        self.forgotten.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the key of a person, because it was destroyed or its restriction has changed.
    pub fn forget_subject(&self, tenant: TenantId, id: SubjectKeyId) {
        let mut forgotten = self.forgotten.write().unwrap_or_else(PoisonError::into_inner);
        *forgotten += 1;
        self.subjects.retain(|(owner, _), key| *owner != tenant || key.id != id);
        self.wrapped_subjects.retain(|(owner, _), key| *owner != tenant || key.rows.id != id);
    }

    /// Forgets the keys of all persons, because it is not known what became of them.
    pub fn forget_subjects(&self) {
        let mut forgotten = self.forgotten.write().unwrap_or_else(PoisonError::into_inner);
        *forgotten += 1;
        self.subjects.clear();
        self.wrapped_subjects.clear();
    }

    /// Returns the key of a person. Makes the key if there is none.
    pub async fn subject_key(
        &self,
        keys: &TenantKeys,
        subject: &SubjectId,
        request: RequestId,
    ) -> Result<Arc<SubjectKey>, KeyringError> {
        if let Some(key) = self.remembered_subject_key(keys, subject) {
            return Ok(key);
        }
        self.subject_key_by_index(keys, keys.subject_index(subject), request).await
    }

    /// Returns the key of a person as Postgres has it. Makes the key if there is none.
    pub async fn subject_key_by_index(
        &self,
        keys: &TenantKeys,
        index: BlindIndex,
        request: RequestId,
    ) -> Result<Arc<SubjectKey>, KeyringError> {
        if let Some(key) = self.find_subject_key_by_index(keys, index).await? {
            return Ok(key);
        }
        let inserted = self.insert_subject_key(keys, index, request).await;
        if is_retired(&inserted) {
            // The wrapping key was rotated. The key file has the new one before the old one is
            // retired.
            self.provider.refresh().map_err(|error| {
                tracing::error!(%error, "the keys cannot be read anew");
                KeyringError::WrappingKeyRetired
            })?;
            let again = self.insert_subject_key(keys, index, request).await;
            if is_retired(&again) {
                return Err(KeyringError::WrappingKeyRetired);
            }
            again?;
        } else {
            inserted?;
        }
        // The key was made here or, at the same time, by another request.
        let made = self.find_subject_key_by_index(keys, index).await?;
        made.ok_or(KeyringError::UnknownVersion)
    }

    async fn insert_subject_key(
        &self,
        tenant_keys: &TenantKeys,
        index: BlindIndex,
        request: RequestId,
    ) -> Result<(), KeyringError> {
        let tenant = tenant_keys.tenant;
        let now = self.clock.now();
        let id = SubjectKeyId::fresh(&*self.ids, now);
        let (wrapping, wrapped) =
            self.provider.wrap_persons(&Key::random()?, &bound(tenant, id))?;
        let row = SubjectKeyRow {
            id,
            wrapped,
            master_key_id: wrapping.as_str().to_owned(),
            restricted: false,
        };
        let record = self.key_record(tenant, request, Action::SubjectKeyCreate, Some(id));
        let row_of_record = self.audit.stamp(record);
        let inserted = self.store.change("make a person's key", tenant, async |mut tx| {
            if !keys::insert_subject_key(&mut tx, index, &row, now).await? {
                return Ok::<_, StoreError>(Ending::RollBack(()));
            }
            let recorded = store::audit::insert(&mut tx, &row_of_record).await?;
            Ok(Ending::Commit(recorded, ()))
        });
        Ok(inserted.await?)
    }

    /// Lists the ids of a person's keys that are not destroyed. Makes no key.
    pub async fn list_subject_key_ids(
        &self,
        keys: &TenantKeys,
        subject: &SubjectId,
    ) -> Result<Vec<SubjectKeyId>, KeyringError> {
        let index = keys.subject_index(subject);
        let ids = self.store.read("list a person's key ids", keys.tenant, async |mut tx| {
            keys::list_subject_key_ids(&mut tx, index).await
        });
        Ok(ids.await?)
    }

    /// Lists keys of persons by their ids. Leaves out the keys that were destroyed.
    pub async fn list_subject_keys(
        &self,
        tenant: TenantId,
        ids: &[SubjectKeyId],
    ) -> Result<Vec<Arc<SubjectKey>>, KeyringError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let list = || async {
            let rows = self.store.read("list persons' keys", tenant, async |mut tx| {
                keys::list_subject_keys(&mut tx, ids).await
            });
            let unwrap = |row| self.unwrap_subject_key(tenant, row);
            rows.await?.iter().map(unwrap).collect::<Result<Vec<_>, KeyringError>>()
        };
        match list().await {
            // The rows may be from before a rotation of the wrapping key.
            Err(KeyringError::Crypto(_)) => list().await,
            listed => listed,
        }
    }

    fn unwrap_subject_key(
        &self,
        tenant: TenantId,
        row: &SubjectKeyRow,
    ) -> Result<Arc<SubjectKey>, KeyringError> {
        let key = self.provider.unwrap(&row.master_key_id, &row.wrapped, &bound(tenant, row.id))?;
        Ok(Arc::new(SubjectKey {
            id: row.id,
            restricted: row.restricted,
            key: self.sealing_key(&key),
            loaded_at: self.clock.now(),
        }))
    }
}

fn is_retired(inserted: &Result<(), KeyringError>) -> bool {
    matches!(
        inserted,
        Err(KeyringError::Store(StoreError::Constraint(name))) if name == wrapping::NOT_RETIRED
    )
}
