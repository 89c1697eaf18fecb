//! Removes old steps of the invalidation stream.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;

use crate::coherence::Coherence;
use crate::domain::clock::Clock;
use crate::store::StoreError;

use super::Job;

/// The time that steps are kept.
const KEPT: TimeDelta = TimeDelta::hours(24);

pub(super) struct TrimStream {
    pub(super) coherence: Arc<Coherence>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Job for TrimStream {
    type Error = StoreError;

    const PERIOD: Duration = Duration::from_mins(10);

    async fn run_once(&self) -> Result<(), StoreError> {
        self.coherence.trim(self.clock.now() - KEPT).await.map(drop)
    }

    fn tell(error: &StoreError) {
        tracing::warn!(%error, "the invalidation stream could not be trimmed");
    }
}
