//! How long the records of each tenant are kept: the class a record is stamped with. A changed period
//! holds for records made from then on.

use std::collections::HashMap;

use arc_swap::ArcSwap;

use crate::domain::action::Action;
use crate::domain::audit_record::{AuditRecord, RetentionClass};
use crate::domain::ids::TenantId;

/// Retention classes by tenant. Read for every record, so without a lock.
#[derive(Debug)]
pub struct RetentionClasses {
    /// Of tenants without a period of their own.
    default: RetentionClass,
    /// Replaced whole when a tenant's period is heard of, which is rare.
    own: ArcSwap<HashMap<TenantId, RetentionClass>>,
}

impl RetentionClasses {
    /// With the installation's period in days, and of no tenant another.
    pub fn new(default_days: u32) -> Self {
        let default = RetentionClass::for_days(default_days);
        Self { default, own: ArcSwap::default() }
    }

    /// A tenant's period in days is this from now on; 0: the installation's.
    pub fn set(&self, tenant: TenantId, days: u32) {
        let class = (days > 0).then(|| RetentionClass::for_days(days));
        if self.own.load().get(&tenant).copied() == class {
            return;
        }
        self.own.rcu(|own| {
            let mut own = HashMap::clone(own);
            match class {
                Some(class) => own.insert(tenant, class),
                None => own.remove(&tenant),
            };
            own
        });
    }

    /// The class of a record that is made now. That a partition was dropped must stay known for as
    /// long as anything is.
    pub(super) fn of(&self, record: &AuditRecord) -> RetentionClass {
        if record.action == Action::AuditPurge {
            return RetentionClass::TenYears;
        }
        self.own.load().get(&record.tenant).copied().unwrap_or(self.default)
    }
}
