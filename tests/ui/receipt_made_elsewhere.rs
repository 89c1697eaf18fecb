//! Only the audit writer makes a receipt.

use ai_cache::audit::Receipt;
use ai_cache::domain::ids::{AuditId, TenantId};

fn forge(audit: AuditId, tenant: TenantId) -> Receipt {
    Receipt { audit, tenant, entry: None }
}

fn main() {}
