//! Makes the partitions of the audit trail ahead of time. A row that finds no partition of its
//! month goes to the default partition, and then the partition of that month can no longer be made.

use std::sync::Arc;
use std::time::Duration;

use crate::audit;
use crate::domain::clock::Clock;
use crate::store::{Store, StoreError};

use super::Job;

/// Makes the partitions of this and the coming months.
pub struct Partitions {
    /// Postgres.
    pub store: Store,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Partitions {
    /// Makes the partitions now, before anything is recorded, and tells operators when that failed.
    pub async fn make(&self) {
        super::scheduler::once(self).await;
    }
}

impl Job for Partitions {
    type Error = StoreError;

    const PERIOD: Duration = Duration::from_hours(6);

    async fn run_once(&self) -> Result<(), StoreError> {
        audit::make_partitions(&self.store, self.clock.now()).await.map(drop)
    }

    fn tell(error: &StoreError) {
        tracing::error!(%error, "audit partitions could not be made ahead");
    }
}
