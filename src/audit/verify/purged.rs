//! Judges partitions of the trail that are gone: a purge must have been due, and a record of it
//! must exist.

use crate::store::{StoreError, SystemTx, audit_parts, trail};

use super::VerifyRun;
use super::finding::FindingKind;

impl VerifyRun<'_> {
    /// Returns whether a partition is not there, or is not there any more because a purge ran
    /// beside this. No purge can end while this transaction, which has read, is open.
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

    /// Judges a partition that is gone. Reports it once if no purge that was due explains it.
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

    /// Excuses missing numbers of writers whose records were purged in order.
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
