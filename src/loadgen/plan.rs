//! What one run of load is: how many callers, what they ask, for how long. Pure values.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::Request;

/// How much load a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// That many requests in all, each in the order of the plan's requests, then from the front.
    Requests(u64),
    /// Load for a time, each request drawn uniformly from the plan's.
    For {
        /// Time before measuring, not counted.
        warm_up: Duration,
        /// Time measured; a request under way at its end is finished and counted.
        measured: Duration,
    },
}

/// One run of load.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// Where connections are opened.
    pub target: SocketAddr,
    /// Connections, each with one request under way at a time.
    pub concurrency: NonZeroUsize,
    /// Threads that drive them; no more than there are connections are used.
    pub threads: NonZeroUsize,
    /// How much.
    pub amount: Amount,
    /// What is asked; not empty.
    pub requests: Arc<[Request]>,
    /// Seed of the draws, so that a run can be repeated.
    pub seed: u64,
    /// How long a connection attempt or a reply may take.
    pub request_timeout: Duration,
}

impl LoadPlan {
    /// The timeout of a run that does not say otherwise.
    pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

    /// A plan on one thread with the usual timeout.
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
