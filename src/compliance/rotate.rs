//! Rotates the wrapping key of persons' keys: a new key is made, every person's key is wrapped
//! under it, and the old one is destroyed. Earlier backups then open nothing of any person. It may
//! end anywhere and be begun again.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use crate::crypto::{KeyProvider, KeyProviderError, LockedKeys, MasterKeyId};
use crate::domain::audit_record::AuditRecord;
use crate::domain::ids::TenantId;
use crate::keyring::Rewrapped;
use crate::store::{StoreError, wrapping};

use super::Compliance;
use crate::call::ServiceError;

/// The result of a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotated {
    /// The wrapping key from now on.
    pub wrapping_key_id: String,
    /// Whether an earlier rotation was brought to its end.
    pub resumed: bool,
    /// The number of persons' keys that were wrapped anew.
    pub rewrapped: i64,
    /// The number of persons' keys that open under no known key.
    pub unopened: u64,
    /// The wrapping keys that were destroyed.
    pub destroyed: Vec<String>,
    /// The wrapping keys that nobody needs any more and that must be taken out of
    /// AI_CACHE_MASTER_KEYS.
    pub to_remove: Vec<String>,
}

/// The reason why the wrapping key was not rotated, in one line.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// Something of the service failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The key file failed.
    #[error(transparent)]
    Keys(#[from] KeyProviderError),
    /// Keys from the environment can only be changed there.
    #[error(
        "first put a new key wrap-{0}:… before all other wrap- keys into AI_CACHE_MASTER_KEYS of every \
         replica, keep the old ones and restart them; then run this again, and take the old wrap- keys \
         out"
    )]
    NothingNew(u64),
    /// The first wrapping key was used and retired before.
    #[error("the key {0} was rotated out before: a new one must come first")]
    Retired(String),
}

impl From<StoreError> for RotateError {
    fn from(error: StoreError) -> Self {
        Self::Service(error.into())
    }
}

/// The work to be done.
struct RotationPlan {
    target: MasterKeyId,
    resumed: bool,
    /// The keys under which nothing may be wrapped any more.
    old: BTreeSet<String>,
}

impl Compliance {
    /// Rotates the wrapping key, or brings a rotation that was begun to its end.
    pub async fn rotate_wrapping_key(&self, record: AuditRecord) -> Result<Rotated, RotateError> {
        let keys = Arc::clone(&self.parts.keys);
        // The lock is held to the end, so that there is one rotation at a time.
        let file = keys.lock()?;
        let plan = self.plan_rotation(&keys, file.as_ref()).await?;
        self.retire(&plan).await?;
        let mut all = Rewrapped::default();
        for tenant in self.tenants_under_others(&plan.target).await? {
            let mut after = None;
            loop {
                let keyring = &self.parts.keyring;
                let batch = keyring.rewrap(tenant, &plan.target, after, &record);
                let batch = batch.await.map_err(ServiceError::from)?;
                all.done += batch.done;
                all.unopened += batch.unopened;
                after = batch.last;
                if after.is_none() {
                    break;
                }
            }
        }
        let unused = self.unused_wrapping_keys(&keys, &plan).await?;
        let names = unused.iter().map(|id| id.as_str().to_owned()).collect();
        let (destroyed, to_remove) = match &file {
            Some(file) if !unused.is_empty() => {
                file.remove_wrapping_keys(&unused)?;
                (names, Vec::new())
            }
            Some(_) => (Vec::new(), Vec::new()),
            None => (Vec::new(), names),
        };
        Ok(Rotated {
            wrapping_key_id: plan.target.as_str().to_owned(),
            resumed: plan.resumed,
            rewrapped: all.done,
            unopened: all.unopened,
            destroyed,
            to_remove,
        })
    }

    /// Plans the rotation. The first wrapping key is already the new one if other keys are left
    /// that a rotation must bring out of use.
    async fn plan_rotation(
        &self,
        keys: &KeyProvider,
        file: Option<&LockedKeys<'_>>,
    ) -> Result<RotationPlan, RotateError> {
        let wrapping = keys.wrapping_ids();
        let (used, names) = self.wrapping_key_names().await?;
        let numbers =
            names.iter().filter_map(|name| MasterKeyId::parse(name)).chain(wrapping.clone());
        let next = 1 + numbers.filter_map(|id| id.wrapping_number()).max().unwrap_or(0);
        let known = |name: &&String| keys.knows(name);
        let left_over = |first: &MasterKeyId| {
            let under_others = used.iter().filter(known).any(|name| name != first.as_str());
            wrapping.len() > 1 || under_others
        };
        let (target, resumed) = match (wrapping.first(), file) {
            (Some(first), _) if left_over(first) => (first.clone(), true),
            (_, Some(file)) => (file.add_wrapping_key(next)?, false),
            (_, None) => return Err(RotateError::NothingNew(next)),
        };
        let old = wrapping.iter().map(|id| id.as_str().to_owned()).chain(used);
        let old = old.chain([keys.active_id().as_str().to_owned()]);
        let old = old.filter(|name| name != target.as_str()).collect();
        Ok(RotationPlan { target, resumed, old })
    }

    async fn wrapping_key_names(&self) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let store = self.parts.store.long();
        let listed = store.system("list what wraps persons' keys", async |mut tx| {
            let used = wrapping::count_by_key(&mut tx).await?;
            let names = wrapping::list_names(&mut tx).await?;
            Ok::<_, StoreError>((used, names))
        });
        let (used, names) = listed.await?;
        Ok((used.into_iter().map(|(name, _)| name).collect(), names))
    }

    async fn retire(&self, plan: &RotationPlan) -> Result<(), RotateError> {
        let (store, now) = (self.parts.store.long(), self.parts.clock.now());
        let old: Vec<String> = plan.old.iter().cloned().collect();
        let target = plan.target.as_str();
        let retired = store.system("retire wrapping keys", async |mut tx| {
            let target_is = wrapping::is_retired(&mut tx, target).await?;
            if !target_is {
                wrapping::retire(&mut tx, &old, now).await?;
            }
            Ok::<_, StoreError>(target_is)
        });
        if retired.await? { Err(RotateError::Retired(target.to_owned())) } else { Ok(()) }
    }

    async fn tenants_under_others(
        &self,
        target: &MasterKeyId,
    ) -> Result<Vec<TenantId>, StoreError> {
        let store = self.parts.store.long();
        let listed = store.system("list whose keys are to be wrapped anew", async |mut tx| {
            wrapping::list_tenants(&mut tx, target.as_str()).await
        });
        listed.await
    }

    /// Finds the retired wrapping keys with nothing under them. Nothing can come under them any
    /// more, so this stays true.
    async fn unused_wrapping_keys(
        &self,
        keys: &KeyProvider,
        plan: &RotationPlan,
    ) -> Result<Vec<MasterKeyId>, StoreError> {
        let (used, _) = self.wrapping_key_names().await?;
        let wrapping = keys.wrapping_ids().into_iter();
        let old = wrapping.filter(|id| plan.old.contains(id.as_str()));
        Ok(old.filter(|id| !used.iter().any(|name| name == id.as_str())).collect())
    }
}
