//! Owns the retention classes of tenants: how long the records of each tenant are kept. A changed
//! period holds for records that are made from then on.

use std::collections::HashMap;

use arc_swap::ArcSwap;

use crate::domain::action::Action;
use crate::domain::audit_record::{AuditRecord, RetentionClass};
use crate::domain::ids::TenantId;

/// The retention classes by tenant. They are read for every record, and so without a lock.
#[derive(Debug)]
pub struct RetentionClasses {
    /// The class of tenants without a period of their own.
    default: RetentionClass,
    /// The classes of tenants with a period of their own. The map is replaced whole when a tenant's
    /// period is heard of, which is rare.
    own: ArcSwap<HashMap<TenantId, RetentionClass>>,
}

impl RetentionClasses {
    /// Begins with the installation's period in days and without a tenant's own period.
    pub fn new(default_days: u32) -> Self {
        let default = RetentionClass::for_days(default_days);
        Self { default, own: ArcSwap::default() }
    }

    /// Sets a tenant's period in days from now on. 0 means the installation's period.
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

    /// Returns the class of a record that is made now. A record of a purge of the trail gets the
    /// longest class: that a partition was dropped must stay known for as long as anything is.
    pub(super) fn of(&self, record: &AuditRecord) -> RetentionClass {
        if record.action == Action::AuditPurge {
            return RetentionClass::TenYears;
        }
        self.own.load().get(&record.tenant).copied().unwrap_or(self.default)
    }
}
