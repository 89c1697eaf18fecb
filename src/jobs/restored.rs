//! Looks at the erasure ledger each second while erased data may be in the database again.

use std::sync::Arc;
use std::time::Duration;

use crate::compliance::{Compliance, RestoreError};

use super::Job;

pub(super) struct LookAtErasures(pub(super) Arc<Compliance>);

impl Job for LookAtErasures {
    type Error = RestoreError;

    const PERIOD: Duration = Duration::from_secs(1);

    async fn run_once(&self) -> Result<(), RestoreError> {
        if self.0.erasures_hold() { Ok(()) } else { self.0.look_at_erasures().await }
    }

    fn tell(error: &RestoreError) {
        tracing::warn!(%error, "the erasure ledger could not be looked at");
    }
}
