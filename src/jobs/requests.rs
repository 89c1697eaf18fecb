//! Executes data subjects' requests. It begins at once with requests that were filed on this
//! replica. When the period ends, it takes up requests that were filed on other replicas and
//! requests whose execution was cut off.

use std::sync::Arc;
use std::time::Duration;

use crate::compliance::Compliance;
use crate::lifecycle::Lifecycle;

/// The time between two looks for requests of others.
const PERIOD: Duration = Duration::from_secs(1);

/// Works until `lifecycle` stops. The stop cuts an execution off, and another process goes on with
/// it.
pub(super) async fn run(compliance: Arc<Compliance>, lifecycle: Lifecycle) {
    tokio::select! {
        () = lifecycle.stopping() => {}
        () = work(compliance) => {}
    }
}

async fn work(compliance: Arc<Compliance>) {
    loop {
        // This is woken here or by the clock. A failure was reported a moment ago, and the request
        // is tried again.
        let _slept = tokio::time::timeout(PERIOD, compliance.worker_woken()).await;
        if let Err(error) = compliance.work_on_requests().await {
            tracing::warn!(%error, "data subjects' requests could not be worked on");
        }
    }
}
