//! Owns the plan of one run of load: the number of callers, their requests, and the amount. It has
//! values only and never does I/O.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::Request;

/// The amount of load in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// A number of requests over all callers. They follow the order of the plan's requests and
    /// begin again at the first one after the last.
    Requests(u64),
    /// Load for a time. Each request is drawn uniformly from the plan's requests.
    For {
        /// The time before measuring. Its requests are not counted.
        warm_up: Duration,
        /// The time that is measured. A request under way at its end is finished and counted.
        measured: Duration,
    },
}

/// One run of load.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// The address to which connections are opened.
    pub target: SocketAddr,
    /// The number of connections. Each has one request under way at a time.
    pub concurrency: NonZeroUsize,
    /// The number of threads that drive the connections. A run uses no more threads than
    /// connections.
    pub threads: NonZeroUsize,
    /// The amount of load.
    pub amount: Amount,
    /// The requests that callers send. They must not be empty.
    pub requests: Arc<[Request]>,
    /// The seed of the random draws, so that a run can be repeated.
    pub seed: u64,
    /// The longest time that a connection attempt or a reply may take.
    pub request_timeout: Duration,
}

impl LoadPlan {
    /// The value of `request_timeout` that `LoadPlan::new` sets.
    pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

    /// Makes a plan for one thread, with `REQUEST_TIMEOUT`.
    pub fn new(
        target: SocketAddr,
        concurrency: NonZeroUsize,
        amount: Amount,
        requests: Arc<[Request]>,
    ) -> Self {
        Self {
            target,
            concurrency,
            threads: NonZeroUsize::MIN,
            amount,
            requests,
            seed: 1,
            request_timeout: Self::REQUEST_TIMEOUT,
        }
    }

    pub(super) fn warm_up(&self) -> Duration {
        match self.amount {
            Amount::Requests(_) => Duration::ZERO,
            Amount::For { warm_up, .. } => warm_up,
        }
    }
}
