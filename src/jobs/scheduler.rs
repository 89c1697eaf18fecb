//! Runs jobs again and again until the process stops.

use std::error::Error;
use std::time::Duration;

use crate::lifecycle::Lifecycle;

/// A job that is done again and again.
pub trait Job: Send + Sync {
    /// The reason why a run failed.
    type Error: Error;

    /// The time from the end of one run to the beginning of the next.
    const PERIOD: Duration;

    /// Does the job once.
    fn run_once(&self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Tells operators that a run failed. The next run tries again.
    fn tell(error: &Self::Error);
}

/// Runs `job` each period until `lifecycle` stops. The stop cuts a run off: the next process does
/// what the run has not committed.
pub(super) async fn run<J: Job>(job: J, lifecycle: Lifecycle) {
    loop {
        tokio::select! {
            () = lifecycle.stopping() => return,
            () = async {
                tokio::time::sleep(J::PERIOD).await;
                once(&job).await;
            } => {}
        }
    }
}

/// Runs `job` now, and tells operators if it failed.
pub(super) async fn once<J: Job>(job: &J) {
    if let Err(error) = job.run_once().await {
        J::tell(&error);
    }
}
