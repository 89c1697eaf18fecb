//! Records the refused requests that were only counted.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::call::Calls;
use crate::lifecycle::Lifecycle;

const PERIOD: Duration = Duration::from_secs(1);

/// Records the counts each period, and once more when `lifecycle` stops. Until then `held` keeps
/// the audit writer running.
pub(super) async fn run(calls: Arc<Calls>, held: TaskTrackerToken, lifecycle: Lifecycle) {
    while !lifecycle.is_stopping() {
        tokio::select! {
            () = lifecycle.stopping() => {}
            () = tokio::time::sleep(PERIOD) => calls.flush_denials(),
        }
    }
    calls.flush_denials();
    drop(held);
}
