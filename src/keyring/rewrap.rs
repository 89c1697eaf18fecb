//! Wraps the keys of persons anew under another wrapping key. The keys themselves stay the same,
//! and so does everything that is sealed under them.

use crate::crypto::MasterKeyId;
use crate::domain::action::Action;
use crate::domain::audit_record::AuditRecord;
use crate::domain::ids::{AuditId, SubjectKeyId, TenantId};
use crate::store::{self, Ending, wrapping};

use super::subjects::bound;
use super::{Keyring, KeyringError};

/// The number of keys that are wrapped anew in one transaction.
const BATCH: i64 = 200;

/// The result of one batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rewrapped {
    /// The number of keys that were wrapped anew.
    pub done: i64,
    /// The number of keys that do not open, because the key that wrapped them is not here.
    pub unopened: u64,
    /// The key after which the next batch begins. `None` means that there are no more keys.
    pub last: Option<SubjectKeyId>,
}

impl Keyring {
    /// Wraps a batch of keys of a tenant's persons anew under `target`, beginning after the key
    /// `after`, and records it. A person who is erased in the meantime stays erased, because a row
    /// is changed only if it still is as it was read.
    pub async fn rewrap(
        &self,
        tenant: TenantId,
        target: &MasterKeyId,
        after: Option<SubjectKeyId>,
        record: &AuditRecord,
    ) -> Result<Rewrapped, KeyringError> {
        let store = self.store.long();
        let rewrapped = store.change("rewrap persons' keys", tenant, async |mut tx| {
            let name = target.as_str();
            let rows = wrapping::list_under_others(&mut tx, name, after, BATCH).await?;
            let last = rows.last().map(|row| row.id);
            let (mut rewrapped, mut unopened) = (Vec::with_capacity(rows.len()), 0);
            for row in rows {
                let bound = bound(tenant, row.id);
                match self.provider.unwrap(&row.master_key_id, &row.wrapped, &bound) {
                    Ok(key) => {
                        let wrapped = self.provider.wrap_under(target, &key, &bound)?;
                        rewrapped.push((row, wrapped));
                    }
                    Err(_) => unopened += 1,
                }
            }
            let done = wrapping::update_wrapped(&mut tx, name, &rewrapped).await?;
            let batch = Rewrapped { done, unopened, last };
            if done == 0 {
                return Ok::<_, KeyringError>(Ending::RollBack(batch));
            }
            let at = self.clock.now();
            let id = AuditId::fresh(&*self.ids, at);
            let (action, count) = (Action::SubjectKeyRewrap, done);
            let record = AuditRecord { id, tenant, at, action, count, ..record.clone() };
            let recorded = store::audit::insert(&mut tx, &self.audit.stamp(record)).await?;
            Ok(Ending::Commit(recorded, batch))
        });
        rewrapped.await
    }
}
