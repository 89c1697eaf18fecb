//! Persons' keys: one for each tenant and person, made when the person is first named.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::crypto::Key;
use crate::domain::audit_record::Action;
use crate::domain::cache_key::BlindIndex;
use crate::domain::canonical::Encoder;
use crate::domain::ids::{RequestId, SubjectKeyId, TenantId};
use crate::domain::query::SubjectId;
use crate::store::keys::{self, SubjectKeyRow};
use crate::store::{self, StoreError};

use super::{Keyring, KeyringError, REMEMBERED, TenantKeys};

/// A person's unwrapped key.
#[derive(Debug)]
pub struct SubjectKey {
    /// The person's random name.
    pub id: SubjectKeyId,
    pub(super) key: Key,
    pub(super) loaded_at: DateTime<Utc>,
}

fn bound(tenant: TenantId, id: SubjectKeyId) -> Vec<u8> {
    let mut out = Encoder::new("ai-cache subject key");
    out.bytes(tenant.0.as_bytes()).bytes(id.0.as_bytes());
    out.finish()
}

impl Keyring {
    /// The key of a person, from memory or Postgres; `None` when the person was never named.
    pub async fn find_subject_key(
        &self,
        keys: &TenantKeys,
        subject: &SubjectId,
    ) -> Result<Option<Arc<SubjectKey>>, KeyringError> {
        if let Some(key) = self.remembered_subject_key(keys, subject) {
            return Ok(Some(key));
        }
        self.load_subject_key(keys, keys.subject_index(subject)).await
    }

    /// The key of a person, if it is in memory.
    pub fn remembered_subject_key(
        &self,
        keys: &TenantKeys,
        subject: &SubjectId,
    ) -> Option<Arc<SubjectKey>> {
        let now = self.clock.now();
        let name = (keys.tenant, keys.subject_index(subject));
        self.subjects.get(&name).filter(|key| now - key.loaded_at < REMEMBERED)
    }

    async fn load_subject_key(
        &self,
        keys: &TenantKeys,
        index: BlindIndex,
    ) -> Result<Option<Arc<SubjectKey>>, KeyringError> {
        let name = (keys.tenant, index);
        let read = async {
            let mut tx = self.store.tenant(keys.tenant).await?;
            let row = keys::find_subject_key(&mut tx, index).await?;
            tx.end().await?;
            Ok(row)
        };
        let row = self.read_wrapped(&self.wrapped_subjects, name, read).await?;
        row.map(|row| self.remember(keys.tenant, index, &row.rows)).transpose()
    }

    /// The key of a person, made when there is none.
    pub async fn subject_key(
        &self,
        keys: &TenantKeys,
        subject: &SubjectId,
        request: RequestId,
    ) -> Result<Arc<SubjectKey>, KeyringError> {
        if let Some(key) = self.find_subject_key(keys, subject).await? {
            return Ok(key);
        }
        self.insert_subject_key(keys, keys.subject_index(subject), request).await?;
        // Made here or, at the same time, by somebody else.
        self.find_subject_key(keys, subject).await?.ok_or(KeyringError::UnknownVersion)
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
        let row = SubjectKeyRow {
            id,
            wrapped: self.provider.wrap(&Key::random()?, &bound(tenant, id))?,
            master_key_id: self.provider.active_id().as_str().to_owned(),
        };
        let record = self.key_record(tenant, request, Action::SubjectKeyCreate, Some(id));
        let row_of_record = self.audit.stamp(record);
        self.store
            .bounded(async {
                let mut tx = self.store.write(tenant).await?;
                if !keys::insert_subject_key(&mut tx, index, &row, now).await? {
                    return Ok(()); // dropped, so nothing is committed
                }
                let recorded = store::audit::insert(&mut tx, &row_of_record).await?;
                tx.commit(recorded).await
            })
            .await?;
        Ok(())
    }

    /// The random names a person has or had, as far as they can still be found. Makes none.
    pub async fn list_subject_key_ids(
        &self,
        keys: &TenantKeys,
        subject: &SubjectId,
    ) -> Result<Vec<SubjectKeyId>, KeyringError> {
        let index = keys.subject_index(subject);
        let ids = self.store.bounded(async {
            let mut tx = self.store.tenant(keys.tenant).await?;
            let ids = keys::list_subject_key_ids(&mut tx, index).await?;
            tx.end().await?;
            Ok::<_, StoreError>(ids)
        });
        Ok(ids.await?)
    }

    /// Keys of persons by their random names; those destroyed are left out.
    pub async fn list_subject_keys(
        &self,
        tenant: TenantId,
        ids: &[SubjectKeyId],
    ) -> Result<Vec<Arc<SubjectKey>>, KeyringError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self
            .store
            .bounded(async {
                let mut tx = self.store.tenant(tenant).await?;
                let rows = keys::list_subject_keys(&mut tx, ids).await?;
                tx.end().await?;
                Ok::<_, StoreError>(rows)
            })
            .await?;
        rows.iter().map(|row| self.unwrap_subject_key(tenant, row)).collect()
    }

    fn remember(
        &self,
        tenant: TenantId,
        index: BlindIndex,
        row: &SubjectKeyRow,
    ) -> Result<Arc<SubjectKey>, KeyringError> {
        let key = self.unwrap_subject_key(tenant, row)?;
        self.subjects.insert((tenant, index), Arc::clone(&key));
        Ok(key)
    }

    fn unwrap_subject_key(
        &self,
        tenant: TenantId,
        row: &SubjectKeyRow,
    ) -> Result<Arc<SubjectKey>, KeyringError> {
        let key = self.provider.unwrap(&row.master_key_id, &row.wrapped, &bound(tenant, row.id))?;
        Ok(Arc::new(SubjectKey {
            id: row.id,
            key: self.sealing_key(&key),
            loaded_at: self.clock.now(),
        }))
    }
}
