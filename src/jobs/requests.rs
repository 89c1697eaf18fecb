//! Executes data subjects' requests: those that were filed here, at once; those that others filed, or
//! whose execution ended in the middle, when the time comes.

use std::sync::Arc;
use std::time::Duration;

use crate::compliance::Compliance;
use crate::lifecycle::Lifecycle;

/// How often it is looked for requests that others filed.
const PERIOD: Duration = Duration::from_secs(1);

/// Works until `lifecycle` stops, which cuts an execution off: another process goes on with it.
pub(super) async fn run(compliance: Arc<Compliance>, lifecycle: Lifecycle) {
    tokio::select! {
        () = lifecycle.stopping() => {}
        () = work(compliance) => {}
    }
}

async fn work(compliance: Arc<Compliance>) {
    loop {
        // Woken here, or by the clock; a failure was told of a moment ago and is tried again.
        let _slept = tokio::time::timeout(PERIOD, compliance.worker_woken()).await;
        if let Err(error) = compliance.work_on_requests().await {
            tracing::warn!(%error, "data subjects' requests could not be worked on");
        }
    }
}
