//! The start and the end of everything that runs beside a request: stop tokens and the task
//! tracker. It owns the only `tokio::spawn`, so a task that is not spawned here does not exist.

use std::future::Future;
use std::io;
use std::thread;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

/// The shared handle to the process's stop signals and its running tasks. Clones are the same
/// object.
///
/// Stopping has two steps. `stop` asks every task to finish what it holds. When the grace of
/// `shut_down` is over, `abandoned` tells the tasks that still run that nobody waits any longer.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
    runtime: tokio::runtime::Handle,
}

impl Lifecycle {
    /// Makes the stop signals. It must be called inside a tokio runtime; all tasks run on that
    /// runtime, whichever thread spawns them.
    pub fn new() -> Self {
        Self {
            soft: CancellationToken::new(),
            hard: CancellationToken::new(),
            tasks: TaskTracker::new(),
            runtime: tokio::runtime::Handle::current(),
        }
    }

    /// Runs `task` until it returns. `shut_down` waits for it.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn_on(task, &self.runtime)
    }

    /// Runs `work` on a thread of the blocking pool. `shut_down` waits for it.
    pub fn spawn_blocking<F, T>(&self, work: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.tasks.spawn_blocking_on(work, &self.runtime)
    }

    /// Runs `task` on a thread and runtime of its own, so that other tasks cannot delay it.
    /// `shut_down` waits for it.
    ///
    /// # Errors
    /// Fails if no thread or no runtime can be had.
    pub fn spawn_thread<F>(&self, name: &str, task: F) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tracked = self.tasks.token();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(task);
            drop(tracked);
        })?;
        Ok(())
    }

    /// Asks every task to finish.
    pub fn stop(&self) {
        self.soft.cancel();
        self.tasks.close();
    }

    /// Resolves once `stop` was called.
    pub fn stopping(&self) -> WaitForCancellationFuture<'_> {
        self.soft.cancelled()
    }

    /// Returns whether `stop` was called.
    pub fn is_stopping(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Resolves once waiting for tasks was given up.
    pub fn abandoned(&self) -> WaitForCancellationFuture<'_> {
        self.hard.cancelled()
    }

    /// Stops, waits up to `grace` for the tasks, then abandons the rest. Returns whether all tasks
    /// ended by themselves.
    pub async fn shut_down(&self, grace: Duration) -> bool {
        self.stop();
        let clean = tokio::time::timeout(grace, self.tasks.wait()).await.is_ok();
        self.hard.cancel();
        clean
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}
