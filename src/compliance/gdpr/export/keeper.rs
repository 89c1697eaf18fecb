//! The parts of a package that an attempt leaves behind, each with its record and a prolonged
//! lease, and the records of what was read.

use std::sync::Arc;

use crate::audit::Receipt;
use crate::compliance::Compliance;
use crate::compliance::gdpr::GdprError;
use crate::compliance::gdpr::work::{Execution, ExecutionError};
use crate::crypto::Sealed;
use crate::domain::action::Action;
use crate::domain::audit_record::{AuditRecord, Outcome};
use crate::domain::entry::Tier;
use crate::domain::gdpr_execution::PackageSize;
use crate::keyring::EntryKey;
use crate::store::gdpr::exports;
use crate::store::gdpr::work::Progress;
use crate::store::keys::{self, SubjectStanding};
use crate::store::{self, Ending};

use super::contents::Unreadable;

/// Stores parts for an execution that still has its request.
pub struct Keeper<'a> {
    pub compliance: &'a Arc<Compliance>,
    pub execution: &'a Execution,
    pub key: EntryKey,
    /// The size of what is stored by now.
    pub kept: PackageSize,
}

impl<'a> Keeper<'a> {
    pub fn new(compliance: &'a Arc<Compliance>, execution: &'a Execution, key: EntryKey) -> Self {
        Self { compliance, execution, key, kept: PackageSize::default() }
    }

    /// Records a reading before anything is opened.
    pub async fn record_reading(&self, count: usize) -> Result<Receipt, ExecutionError> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let record = self.compliance.execution_record(self.execution, Action::GdprExport);
        Ok(self.compliance.parts.audit.record(AuditRecord { count, ..record }).await?)
    }

    /// Records that an entry does not open. The package leaves the entry out and names it.
    pub async fn record_unreadable(&self, unreadable: Unreadable) -> Result<(), ExecutionError> {
        let Unreadable { entry, error } = unreadable;
        let (tenant, parts) = (self.execution.tenant, &self.compliance.parts);
        tracing::error!(%tenant, %entry, %error, "a stored value does not open");
        parts.metrics.integrity_failure();
        let record = AuditRecord {
            outcome: Outcome::IntegrityFailure,
            tier: Some(Tier::Cold),
            entry: Some(entry),
            ..self.compliance.execution_record(self.execution, Action::GdprExport)
        };
        let _receipt = parts.audit.record(record).await?;
        Ok(())
    }

    /// Prolongs the lease.
    pub async fn stay_alive(&self) -> Result<(), ExecutionError> {
        self.compliance.prolong(self.execution).await
    }

    /// Stores a part. It fails without the request, and after the person's key was destroyed, so
    /// that no part is left behind that nobody removes.
    pub async fn keep(&mut self, part: &Sealed) -> Result<(), ExecutionError> {
        let Self { compliance, execution, key, kept } = &*self;
        let record = compliance.execution_record(execution, Action::GdprStep);
        let (store, stamped) = (&compliance.parts.store, compliance.parts.audit.stamp(record));
        let stored = store.change("store a part of a package", execution.tenant, async |mut tx| {
            compliance.note_progress(&mut tx, execution, &Progress::default()).await?;
            if let Some(id) = key.subject()
                && keys::hold_subject_key(&mut tx, id).await? == SubjectStanding::Destroyed
            {
                return Ok::<_, ExecutionError>(Ending::RollBack(false));
            }
            let (request, number) = (execution.row.id, kept.parts);
            exports::insert_part(&mut tx, request, number, part, key.subject()).await?;
            let recorded = store::audit::insert(&mut tx, &stamped).await?;
            Ok(Ending::Commit(recorded, true))
        });
        if !stored.await? {
            return Err(GdprError::Gone.into());
        }
        self.kept.parts += 1;
        self.kept.bytes += part.as_bytes().len() as u64;
        Ok(())
    }
}
