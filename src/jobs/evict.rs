//! Keeps the cold tier within its limits. Between two runs, fills may exceed them.

use std::sync::Arc;
use std::time::Duration;

use crate::administration::Administration;
use crate::call::ServiceError;

use super::Job;

pub(super) struct Evict(pub(super) Arc<Administration>);

impl Job for Evict {
    type Error = ServiceError;

    const PERIOD: Duration = Duration::from_secs(10);

    async fn run_once(&self) -> Result<(), ServiceError> {
        self.0.evict_if_eldest().await.map(drop)
    }

    fn tell(error: &ServiceError) {
        tracing::warn!(%error, "entries could not be evicted");
    }
}
