//! Erased data stay erased in a restored database: the erasure ledger's file is applied to it, and
//! until then no replica is ready.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use crate::audit::{AuditError, Erasure, ErasureDecision, LineFileError, ReadErasures};
use crate::domain::action::Action;
use crate::domain::audit_record::AuditRecord;
use crate::domain::ids::AuditId;
use crate::domain::selector::Change;
use crate::store::erasures::ErasureRow;
use crate::store::ledgers::ErasuresKept;
use crate::store::{self, Ending, StoreError, erasures, invalidations, keys, ledgers, tenants};

use super::Compliance;
use crate::call::ServiceError;

/// The reason why erased data may be here again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revived {
    /// The erasure ledger's file is missing, or is not set any more.
    Missing,
    /// The file holds this many erasures that this database does not know and is not about to do.
    Pending(i64),
    /// The database was restored or copied, and the file has not been applied since.
    Restored,
}

impl Revived {
    /// Returns the name in the log.
    const fn name(self) -> &'static str {
        match self {
            Self::Missing => "the erasure ledger's file is missing",
            Self::Pending(_) => "erasures of the ledger are not in the database",
            Self::Restored => "the database was restored or copied",
        }
    }
}

/// What is allowed when the file is missing or does not read as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingSink {
    /// Nothing is allowed: the database stays as it is.
    Refused,
    /// An operator accepts that erased data may be back.
    Accepted,
}

/// The result of applying the erasure ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The lines that this installation wrote.
    pub lines: u64,
    /// The erasures that were done now.
    pub applied: u64,
    /// The erasures that were known here.
    pub already: u64,
    /// The lines that are torn, or that no known master key wrote.
    pub unreadable: u64,
    /// Whether it is recorded that the ledger was applied.
    pub noted: bool,
}

/// The reason why the erasure ledger was not applied, in one line.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Something of the service failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The file failed.
    #[error(transparent)]
    File(#[from] LineFileError),
    /// There is no file.
    #[error(
        "there is no erasure ledger (AI_CACHE_ERASURE_LEDGER_FILE): bring it back, or accept with \
         --accept-missing-sink that what was erased since the backup is here again"
    )]
    Missing,
}

impl From<StoreError> for RestoreError {
    fn from(error: StoreError) -> Self {
        Self::Service(error.into())
    }
}

impl From<AuditError> for RestoreError {
    fn from(error: AuditError) -> Self {
        Self::Service(error.into())
    }
}

impl Compliance {
    /// Returns whether no erased data may be here again, as far as is known.
    pub fn erasures_hold(&self) -> bool {
        self.revived.load().is_none()
    }

    /// Returns the reason why erased data may be here again. Returns `None` if they are not.
    pub fn revived(&self) -> Option<Revived> {
        self.revived.load().as_deref().copied()
    }

    /// Begins to keep erasures outside, and looks whether erased data are here again.
    pub async fn begin_erasure_ledger(&self) -> Result<(), RestoreError> {
        let standing = self.erasures_standing().await?;
        if let Some(file) = self.parts.erasures.clone() {
            let there = self.blocking(move || file.exists()).await?;
            // A file that existed, or would be of use now, must not be replaced by an empty one.
            if there || !(standing.outside || standing.to_apply) {
                self.complete_outside().await?;
            }
        }
        self.look_at_erasures().await
    }

    /// Looks whether erased data are here again, and tells operators when that changes.
    pub async fn look_at_erasures(&self) -> Result<(), RestoreError> {
        let now = self.find_revived().await?;
        let before = self.revived.swap(now.map(Arc::new)).as_deref().copied();
        match (before, now) {
            (_, Some(why)) if before != now => tracing::error!(
                reason = why.name(),
                "what was erased may be here again: not ready until `ai-cache restore apply-ledger` \
                 has been run"
            ),
            (Some(_), None) => tracing::warn!("the erasure ledger is applied"),
            _ => {}
        }
        Ok(())
    }

    async fn find_revived(&self) -> Result<Option<Revived>, RestoreError> {
        let standing = self.erasures_standing().await?;
        let restored = standing.to_apply.then_some(Revived::Restored);
        let missing = (standing.outside || standing.to_apply).then_some(Revived::Missing);
        let Some(file) = self.parts.erasures.clone() else {
            return Ok(if standing.outside { missing } else { restored });
        };
        let read =
            self.blocking(move || if file.exists()? { file.read().map(Some) } else { Ok(None) });
        let Some(read) = read.await? else { return Ok(missing) };
        let store = &self.parts.store;
        let pending = store.system("look for erasures that are not known here", async |mut tx| {
            let erased =
                read.erased().map(|erasure| (erasure.tenant, erasure.subject, erasure.request));
            erasures::count_missing(&mut tx, erased).await
        });
        let pending = pending.await?;
        Ok(restored.or((pending > 0).then_some(Revived::Pending(pending))))
    }

    async fn erasures_standing(&self) -> Result<ledgers::ErasuresStanding, StoreError> {
        let store = &self.parts.store;
        let found = store.system("find how erasures are kept outside", async |mut tx| {
            ledgers::erasures_standing(&mut tx).await
        });
        found.await
    }

    /// Erases what the erasure ledger's file names and is not erased here. It may be done again.
    pub async fn apply_erasure_ledger(
        &self,
        missing: MissingSink,
        record: AuditRecord,
    ) -> Result<Applied, RestoreError> {
        let read = match self.read_erasures().await? {
            Some(read) => read,
            None if missing == MissingSink::Refused => return Err(RestoreError::Missing),
            None => ReadErasures::default(),
        };
        let (mut applied, mut already) = (0, 0);
        for erasure in read.erased() {
            if self.erase_again(erasure, &record).await? {
                applied += 1;
            } else {
                already += 1;
            }
        }
        let (lines, unreadable) = (read.lines, read.unreadable);
        let noted = unreadable == 0 || missing == MissingSink::Accepted;
        if noted {
            self.complete_outside().await?;
            let (tenant, count) =
                (self.parts.installation, i64::try_from(applied).unwrap_or(i64::MAX));
            let record = AuditRecord { tenant, action: Action::LedgerApply, count, ..record };
            let _receipt = self.parts.audit.record(record).await?;
            self.note_applied().await?;
        }
        Ok(Applied { lines, applied, already, unreadable, noted })
    }

    /// Reads the file. Returns `None` if there is none.
    async fn read_erasures(&self) -> Result<Option<ReadErasures>, RestoreError> {
        let Some(file) = self.parts.erasures.clone() else { return Ok(None) };
        self.blocking(move || if file.exists()? { file.read().map(Some) } else { Ok(None) }).await
    }

    /// Destroys a key once more, with everything under it. Returns false if this database knew of
    /// the erasure.
    async fn erase_again(
        &self,
        erasure: &Erasure,
        record: &AuditRecord,
    ) -> Result<bool, RestoreError> {
        let (store, now) = (self.parts.store.long(), self.parts.clock.now());
        let Erasure { tenant, subject, request, at, .. } = *erasure;
        let erased = store.change("erase once more what a backup held", tenant, async |mut tx| {
            // A backup may be older than the tenant.
            let here = tenants::is_here(&mut tx).await?;
            if here {
                invalidations::lock_for_invalidation(&mut tx, now).await?;
            }
            if !erasures::insert(&mut tx, subject, request, at).await? {
                return Ok::<_, StoreError>(Ending::RollBack(false));
            }
            let mut entries = 0;
            if here {
                keys::update_destroyed_by_id(&mut tx, subject, now).await?;
                entries = erasures::delete_entries(&mut tx, subject).await?.len();
                erasures::delete_packages(&mut tx, subject).await?;
                let change = Change::of_subject(subject);
                invalidations::append(&mut tx, &change, now).await?;
            }
            let record = AuditRecord {
                id: AuditId::fresh(&*self.parts.ids, now),
                tenant,
                at: now,
                action: Action::LedgerApply,
                subject_key: Some(subject),
                object: Some(request.0),
                count: i64::try_from(entries).unwrap_or(i64::MAX),
                ..record.clone()
            };
            let recorded = store::audit::insert(&mut tx, &self.parts.audit.stamp(record)).await?;
            Ok(Ending::Commit(recorded, true))
        });
        Ok(erased.await?)
    }

    /// Records whether erasures are kept outside from now on, and brings the file up to what the
    /// database knows: the setting may be new, and a lost file is begun again.
    async fn complete_outside(&self) -> Result<(), RestoreError> {
        let store = &self.parts.store;
        if let Some(file) = self.parts.erasures.clone() {
            let long = store.long();
            let rows =
                long.system("list what was erased", async |mut tx| erasures::list(&mut tx).await);
            let rows = rows.await?;
            self.blocking(move || {
                // The file is made before it is recorded that there is one, so that a stop in
                // between does not look like a loss.
                file.touch()?;
                let known: BTreeSet<_> =
                    file.read()?.erased().map(|known| (known.tenant, known.subject)).collect();
                let new = rows.iter().filter(|row| !known.contains(&(row.tenant, row.subject)));
                let new: Vec<Erasure> = new.map(|row| written(*row)).collect();
                if new.is_empty() { Ok(()) } else { file.append(&new) }
            })
            .await?;
        }
        let kept = match self.parts.erasures {
            Some(_) => ErasuresKept::Outside,
            None => ErasuresKept::Inside,
        };
        let noted = store.system("note whether erasures are kept outside", async |mut tx| {
            ledgers::update_erasures_kept(&mut tx, kept).await
        });
        Ok(noted.await?)
    }

    async fn note_applied(&self) -> Result<(), StoreError> {
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        let noted = store.system("note that the erasure ledger was applied", async |mut tx| {
            ledgers::note_erasures_applied(&mut tx, now).await
        });
        noted.await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, LineFileError> + Send + 'static,
    ) -> Result<T, RestoreError> {
        let done = self.parts.lifecycle.spawn_blocking(work).await;
        Ok(done.map_err(|_| ServiceError::TaskLost)??)
    }
}

const fn written(row: ErasureRow) -> Erasure {
    let ErasureRow { tenant, subject, request, at } = row;
    Erasure { tenant, subject, request, at, verdict: ErasureDecision::Erased }
}
