//! Partitions of the trail that are gone: was a purge due, and is there a record of it?

use crate::store::{StoreError, SystemTx, audit_parts, trail};

use super::VerifyRun;
use super::finding::FindingKind;

impl VerifyRun<'_> {
    /// Whether a partition is not there, or not any more: a purge may run beside this. None ends
    /// while this transaction has read.
    pub(super) async fn is_gone(
        &mut self,
        tx: &mut SystemTx,
        part: &str,
    ) -> Result<bool, StoreError> {
        if self.gone.contains_key(part) {
            return Ok(true);
        }
        self.partitions = trail::list_partitions(tx).await?.into_iter().collect();
        Ok(!self.partitions.values().any(|known| known == part))
    }

    /// A partition is gone: was that in order? Told once.
    pub(super) async fn gone(&mut self, tx: &mut SystemTx, part: &str) -> Result<(), StoreError> {
        if !self.gone.contains_key(part) {
            let purged = trail::is_purged(tx, part, self.verifier.now).await?;
            self.gone.insert(part.to_owned(), purged);
            if !purged {
                let detail = "it is gone, and no purge that was due says why".to_owned();
                self.verification.find(FindingKind::PurgeUnjustified, part, detail);
            }
        }
        Ok(())
    }

    /// Numbers of writers whose records were purged in order are not missing.
    pub(super) async fn excuse_purged(&mut self) -> Result<(), StoreError> {
        let mut tx = self.verifier.store.begin_reading("read what was purged").await?;
        for (part, writer) in audit_parts::list_purged_writers(&mut tx).await? {
            if self.is_gone(&mut tx, &part).await? {
                self.gone(&mut tx, &part).await?;
            }
            if self.gone.get(&part).is_some_and(|purged| *purged) {
                self.sequences.excuse(&writer);
            }
        }
        tx.end().await
    }
}
