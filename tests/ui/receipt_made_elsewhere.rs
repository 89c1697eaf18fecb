//! Only the audit writer makes a receipt.

use ai_cache::audit::{Durability, Receipt};
use ai_cache::domain::ids::{AuditId, TenantId};

fn forge(audit: AuditId, tenant: TenantId) -> Receipt {
    Receipt { audit, tenant, entry: None, durability: Durability::Database } //~ E0451
}

fn main() {}
