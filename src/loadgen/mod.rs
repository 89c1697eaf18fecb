//! Makes the closed-loop HTTP/1.1 load with which `bench` and the load test measure. It runs on the
//! same machine as the measured service, so a request costs it two system calls and no timer. It
//! must never reach into the service other than through a socket.

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
