//! Owns `Receipt`, the proof that the record of a reply is durable. Nothing becomes plaintext
//! without a receipt.

use crate::domain::audit_record::AuditRecord;
use crate::domain::ids::{AuditId, EntryId, TenantId};

/// Names the tenant and the entry whose reading was recorded. A receipt cannot be copied, and the
/// reading uses it up.
#[derive(Debug)]
#[must_use = "a receipt is for one reading"]
pub struct Receipt {
    audit: AuditId,
    tenant: TenantId,
    entry: Option<EntryId>,
    durability: Durability,
}

/// The place where a record is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The record is in Postgres.
    Database,
    /// The record is in the local spool until Postgres is back.
    Spool,
}

impl Receipt {
    pub(super) const fn of(record: &AuditRecord) -> Self {
        let durability = Durability::Database;
        Self { audit: record.id, tenant: record.tenant, entry: record.entry, durability }
    }

    pub(super) const fn durable_in(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// Returns where the record is durable.
    pub const fn durability(&self) -> Durability {
        self.durability
    }

    /// Returns the id of the record.
    pub const fn audit(&self) -> AuditId {
        self.audit
    }

    /// Returns whether the record says that `tenant` read `entry`.
    pub fn covers(&self, tenant: TenantId, entry: EntryId) -> bool {
        self.tenant == tenant && self.entry == Some(entry)
    }

    /// Returns whether the record says that `tenant` read a list of entries.
    pub fn covers_list(&self, tenant: TenantId) -> bool {
        self.tenant == tenant && self.entry.is_none()
    }
}
