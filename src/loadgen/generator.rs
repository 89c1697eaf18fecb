//! Runs a plan. Owns its threads, each with a single-threaded runtime and a share of the callers,
//! and the coarse tick that ends overdue requests. It must never block the runtime that awaits it.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::CreationError;
use tokio::sync::oneshot;

use super::client::{self, SharedLoad};
use super::deadline::Watched;
use super::outcome::{LoadOutcome, LoadProgress};
use super::plan::{Amount, LoadPlan};
use super::schedule::Schedule;

const TICK: Duration = Duration::from_millis(100);

/// The reason why no load could be made.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The plan has no requests.
    #[error("a load plan needs at least one request")]
    NoRequests,
    /// A thread or its runtime could not be started.
    #[error("a thread for the load could not be started")]
    Start(#[source] io::Error),
    /// A thread ended without a result.
    #[error("a thread of the load was lost")]
    Lost,
    /// The latency histogram could not be made.
    #[error("the latency histogram could not be made")]
    Histogram(#[from] CreationError),
}

/// Runs `plan` on threads of its own and returns the sum of their counts. If the future is dropped,
/// the load ends within about a tick.
pub async fn run(plan: LoadPlan, progress: Arc<LoadProgress>) -> Result<LoadOutcome, LoadError> {
    if plan.requests.is_empty() {
        return Err(LoadError::NoRequests);
    }
    let abandon = AbandonOnDrop(Arc::new(AtomicBool::new(false)));
    let threads = plan.threads.min(plan.concurrency).get();
    let run = Arc::new(LoadRun {
        measured_from: Instant::now() + plan.warm_up(),
        next: Arc::new(AtomicU64::new(0)),
        abandoned: Arc::clone(&abandon.0),
        progress,
        plan,
    });
    let mut results = Vec::with_capacity(threads);
    for index in 0..threads {
        // Each thread sends its result once, at its end. A dropped sender means that it panicked.
        let (sender, receiver) = oneshot::channel();
        let run = Arc::clone(&run);
        let work = move || {
            // A dropped receiver means that nobody waits for the result any more.
            let _unwanted = sender.send(run_thread(&run, index, threads));
        };
        thread::Builder::new()
            .name(format!("load-{index}"))
            .spawn(work)
            .map_err(LoadError::Start)?;
        results.push(receiver);
    }
    let mut total = LoadOutcome::empty()?;
    for result in results {
        total.join(&result.await.map_err(|_| LoadError::Lost)??);
    }
    Ok(total)
}

/// The values that the threads of one run share.
struct LoadRun {
    plan: LoadPlan,
    measured_from: Instant,
    next: Arc<AtomicU64>,
    abandoned: Arc<AtomicBool>,
    progress: Arc<LoadProgress>,
}

struct AbandonOnDrop(Arc<AtomicBool>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl LoadRun {
    fn schedule(&self, caller: usize) -> Schedule {
        match self.plan.amount {
            Amount::Requests(total) => Schedule::Counted { next: Arc::clone(&self.next), total },
            Amount::For { measured, .. } => {
                Schedule::timed(self.plan.seed, caller, self.measured_from + measured)
            }
        }
    }
}

fn run_thread(run: &LoadRun, index: usize, threads: usize) -> Result<LoadOutcome, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LoadError::Start)?;
    let outcome = RefCell::new(LoadOutcome::empty()?);
    // The thread has few callers and each of them yields, so tokio's budget per poll would only
    // split the batches in which replies arrive.
    let load = tokio::task::coop::unconstrained(run_callers(run, index, threads, &outcome));
    runtime.block_on(load);
    let mut outcome = outcome.into_inner();
    outcome.elapsed = Instant::now().saturating_duration_since(run.measured_from);
    Ok(outcome)
}

async fn run_callers(run: &LoadRun, index: usize, threads: usize, outcome: &RefCell<LoadOutcome>) {
    let mine: Vec<usize> = (index..run.plan.concurrency.get()).step_by(threads).collect();
    let watched: Vec<Watched> = mine.iter().map(|_| Watched::default()).collect();
    let shared = SharedLoad {
        target: run.plan.target,
        requests: &run.plan.requests,
        measured_from: run.measured_from,
        outcome,
    };
    let callers: FuturesUnordered<_> = mine
        .iter()
        .zip(&watched)
        .map(|(&caller, watched)| client::run(&shared, watched, run.schedule(caller)))
        .collect();
    let mut published = Published::default();
    tokio::select! {
        biased;
        () = callers.for_each(|()| std::future::ready(())) => {}
        () = tick(run, &watched, outcome, &mut published) => {}
    }
    published.publish(run, outcome);
}

/// Ends overdue requests and publishes the counts, until the run is abandoned.
async fn tick(
    run: &LoadRun,
    watched: &[Watched],
    outcome: &RefCell<LoadOutcome>,
    published: &mut Published,
) {
    while !run.abandoned.load(Ordering::Relaxed) {
        tokio::time::sleep(TICK).await;
        let now = Instant::now();
        for caller in watched {
            caller.expire(now, run.plan.request_timeout);
        }
        published.publish(run, outcome);
    }
}

/// The part of a thread's counts that `LoadProgress` already has.
#[derive(Default)]
struct Published {
    requests: u64,
    failures: u64,
}

impl Published {
    fn publish(&mut self, run: &LoadRun, outcome: &RefCell<LoadOutcome>) {
        let outcome = outcome.borrow();
        let (requests, failures) = (outcome.requests, outcome.failures.total());
        run.progress.add(requests - self.requests, failures - self.failures);
        *self = Self { requests, failures };
    }
}
