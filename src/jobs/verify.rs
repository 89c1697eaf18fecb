//! Verifies the audit trail once a day, on one of the replicas. A run may take long.

use std::sync::Arc;
use std::time::Duration;

use crate::compliance::{Compliance, ProofError};

use super::Job;

pub(super) struct Verify(pub(super) Arc<Compliance>);

impl Job for Verify {
    type Error = ProofError;

    /// The time between two looks whether the daily verification is due.
    const PERIOD: Duration = Duration::from_mins(10);

    async fn run_once(&self) -> Result<(), ProofError> {
        self.0.verify_when_due().await.map(drop)
    }

    fn tell(error: &ProofError) {
        tracing::error!(%error, "the audit trail could not be verified");
    }
}
