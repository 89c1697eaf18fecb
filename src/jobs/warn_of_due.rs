//! Warns of data subjects' requests that will soon be due.

use std::sync::Arc;
use std::time::Duration;

use crate::call::ServiceError;
use crate::compliance::Compliance;

use super::Job;

pub(super) struct WarnOfDue(pub(super) Arc<Compliance>);

impl Job for WarnOfDue {
    type Error = ServiceError;

    const PERIOD: Duration = Duration::from_mins(10);

    async fn run_once(&self) -> Result<(), ServiceError> {
        self.0.warn_of_due_requests().await.map(drop)
    }

    fn tell(error: &ServiceError) {
        tracing::warn!(%error, "it is not known which data subjects' requests are due");
    }
}
