//! Closed-loop HTTP/1.1 load from outside: what `bench` and the load test measure with.
//! It shares the machine with what it measures, so a request costs it two system calls and no
//! timer; it must never reach into the service other than through a socket.

mod address;
mod client;
mod deadline;
mod generator;
mod outcome;
mod plan;
mod reply;
mod request;
mod schedule;

pub use address::{Address, AddressError};
pub use generator::{LoadError, run};
pub use outcome::{FailureKind, Failures, LoadOutcome, LoadProgress};
pub use plan::{Amount, LoadPlan};
pub use request::Request;
