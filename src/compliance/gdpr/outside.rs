//! An erasure is known outside the database before it is done, so that the file alone can erase
//! again what a restored backup brings back.

use std::time::Duration;

use crate::audit::{Erasure, ErasureDecision, ErasureLedger, LineFileError};
use crate::compliance::Compliance;

/// The longest time for writing a line: the transaction that waits for it holds locks.
const LIMIT: Duration = Duration::from_secs(5);

/// The reason why an erasure is not known outside.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// The file failed.
    #[error(transparent)]
    File(#[from] LineFileError),
    /// The writing did not come to an end.
    #[error("AI_CACHE_ERASURE_LEDGER_FILE: the writing did not end")]
    Stopped,
}

impl Compliance {
    /// Writes that a key is destroyed. It must be called after the decision, while its locks are
    /// held.
    pub(super) async fn keep_outside(&self, erasure: Erasure) -> Result<(), OutsideError> {
        self.outside(move |ledger| ledger.append(&[erasure])).await
    }

    /// Writes that a key is kept, if a line says that it is destroyed: that execution failed after
    /// the line, and a legal hold was set before the next one.
    pub(super) async fn take_back_outside(&self, kept: Erasure) -> Result<(), OutsideError> {
        self.outside(move |ledger| {
            if !ledger.exists()? {
                return Ok(());
            }
            let read = ledger.read()?;
            let last = read.last.get(&(kept.tenant, kept.subject));
            match last.map(|last| last.verdict) {
                Some(ErasureDecision::Erased) => ledger.append(&[kept]),
                Some(ErasureDecision::Kept) | None => Ok(()),
            }
        })
        .await
    }

    async fn outside(
        &self,
        work: impl FnOnce(&ErasureLedger) -> Result<(), LineFileError> + Send + 'static,
    ) -> Result<(), OutsideError> {
        let Some(ledger) = self.parts.erasures.clone() else { return Ok(()) };
        let written = self.parts.lifecycle.spawn_blocking(move || work(&ledger));
        match tokio::time::timeout(LIMIT, written).await {
            Ok(Ok(written)) => Ok(written?),
            Ok(Err(_)) | Err(_) => Err(OutsideError::Stopped),
        }
    }
}
