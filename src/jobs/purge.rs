//! Removes what is past its retention once a day, on one of the replicas. A run may take long.

use std::sync::Arc;
use std::time::Duration;

use crate::call::ServiceError;
use crate::compliance::Compliance;

use super::Job;

pub(super) struct PurgeJob(pub(super) Arc<Compliance>);

impl Job for PurgeJob {
    type Error = ServiceError;

    /// The time between two looks whether the daily purge is due.
    const PERIOD: Duration = Duration::from_mins(10);

    async fn run_once(&self) -> Result<(), ServiceError> {
        self.0.purge_when_due().await.map(drop)
    }

    fn tell(error: &ServiceError) {
        tracing::error!(%error, "what is past its retention could not be removed");
    }
}
