//! What tests stand on: a real Postgres and Redis of the test run's own, the service on a free
//! port, a client that checks every reply against the API document, an upstream of ours.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails here")]

pub mod app;
pub mod client;
pub mod clock;
pub mod document;
pub mod folders;
pub mod link;
pub mod load;
pub mod pg_proxy;
pub mod redis_proxy;
pub mod redis_servers;
pub mod services;
pub mod upstream;

pub use app::{Builder, Tenant, TestApp};
pub use client::{Client, Reply};
pub use clock::TestClock;
pub use services::TestDb;

use std::future::Future;
use std::time::Duration;

/// Returns the number of times that a fault is made: `small` in every run, `full` in `make chaos`.
pub fn rounds(small: usize, full: usize) -> usize {
    if std::env::var_os("CHAOS").is_some() { full } else { small }
}

/// Polls until `probe` gives a value. Panics with `what` after a minute: that is no promise, but
/// the end of a test that hangs, because a busy machine recovers a killed Postgres in many seconds.
pub async fn wait_until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    let wait = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        loop {
            ticks.tick().await;
            if let Some(value) = probe().await {
                return value;
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait)
        .await
        .unwrap_or_else(|_| panic!("this did not come true: {what}"))
}
