//! Owns the record of a request that is still being answered. However the request ends, a record of
//! it remains, also when the caller hangs up.

use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::domain::audit_record::{AuditRecord, Outcome};

use super::{Audit, Recording};

/// A record that is being written up. A draft that is dropped unsettled is recorded as aborted. The
/// audit writer does not end while a draft exists.
pub struct Draft {
    audit: Audit,
    /// The record; `settle` leaves `None` here.
    record: Option<AuditRecord>,
    _alive: TaskTrackerToken,
}

impl Draft {
    /// Begins a draft of `record`.
    pub fn new(audit: Audit, record: AuditRecord) -> Self {
        let alive = audit.drafts.token();
        Self { audit, record: Some(record), _alive: alive }
    }

    /// Completes the record with `complete` and hands it over to the audit writer. Returns `None`
    /// only if it was handed over before.
    pub fn settle(mut self, complete: impl FnOnce(&mut AuditRecord)) -> Option<Recording> {
        let mut record = self.record.take()?;
        complete(&mut record);
        Some(self.audit.record(record))
    }

    /// Adds facts to the record that were learned while the request was being answered.
    pub fn note(&mut self, learn: impl FnOnce(&mut AuditRecord)) {
        if let Some(record) = &mut self.record {
            learn(record);
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.outcome = Outcome::Aborted;
            record.status = 0;
            self.audit.record_detached(record);
        }
    }
}
