//! The record of a request that is still being answered. Whatever ends the request, also the
//! caller's hanging up, there is a record of it.

use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::domain::audit_record::{AuditRecord, Outcome};

use super::{Audit, Recording};

/// A record being written up. Dropped unsettled, it is recorded as aborted. The writer does not end
/// while there is one.
pub struct Draft {
    audit: Audit,
    /// `None` once settled.
    record: Option<AuditRecord>,
    _alive: TaskTrackerToken,
}

impl Draft {
    /// Begins a record.
    pub fn new(audit: Audit, record: AuditRecord) -> Self {
        let alive = audit.drafts.token();
        Self { audit, record: Some(record), _alive: alive }
    }

    /// Completes the record with `complete` and hands it over. `None` only if it was before.
    pub fn settle(mut self, complete: impl FnOnce(&mut AuditRecord)) -> Option<Recording> {
        let mut record = self.record.take()?;
        complete(&mut record);
        Some(self.audit.record(record))
    }

    /// Notes something learned on the way.
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
