//! The proof that a reply's record is durable. Without one nothing becomes plaintext.

use crate::domain::audit_record::AuditRecord;
use crate::domain::ids::{AuditId, EntryId, TenantId};

/// Names the tenant and entry whose reading was recorded. Cannot be copied and is used up by the
/// reading.
#[derive(Debug)]
#[must_use = "a receipt is for one reading"]
pub struct Receipt {
    audit: AuditId,
    tenant: TenantId,
    entry: Option<EntryId>,
    durability: Durability,
}

/// Where a record is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// In Postgres.
    Database,
    /// In the local spool, until Postgres is back.
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

    /// Where the record is durable.
    pub const fn durability(&self) -> Durability {
        self.durability
    }

    /// The record.
    pub const fn audit(&self) -> AuditId {
        self.audit
    }

    /// Whether the record says that `tenant` read `entry`.
    pub fn covers(&self, tenant: TenantId, entry: EntryId) -> bool {
        self.tenant == tenant && self.entry == Some(entry)
    }

    /// Whether the record says that `tenant` read a list of entries.
    pub fn covers_list(&self, tenant: TenantId) -> bool {
        self.tenant == tenant && self.entry.is_none()
    }
}
