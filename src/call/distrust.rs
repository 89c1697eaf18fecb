//! Tells operators of a stored value that does not open, and records it.

use crate::audit::AuditError;
use crate::domain::audit_record::{AuditRecord, Outcome};
use crate::domain::entry::Tier;
use crate::domain::ids::EntryId;
use crate::keyring::KeyringError;

use super::{Call, Calls};

impl Calls {
    /// Records that a stored value does not open. The request has its own record besides.
    pub async fn record_distrust(
        &self,
        call: &Call,
        entry: EntryId,
        tier: Tier,
        error: &KeyringError,
    ) -> Result<(), AuditError> {
        tracing::error!(tenant = %call.caller.tenant, %entry, tier = tier.name(), %error, "a stored value does not open");
        self.parts.metrics.integrity_failure();
        let record = AuditRecord {
            outcome: Outcome::IntegrityFailure,
            tier: Some(tier),
            entry: Some(entry),
            ..call.further_record()
        };
        self.parts.audit.record(record).await.map(drop)
    }
}
