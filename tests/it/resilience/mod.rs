//! Faults in the middle: replies are counted against records (W10, issue 2).
#![expect(clippy::unwrap_used, reason = "a test fails here")]

mod clock;
mod counts;
mod cut_commits;
mod differing;
mod flights;
mod given_up;
mod groups;
mod hang;
pub mod hurt;
mod postgres;
mod redis;
mod redis_values;
pub mod spool;
