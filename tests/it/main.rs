//! The one test binary: everything through HTTP or the command line, over a real Postgres and a
//! real Redis; only the upstream and the clock are ours.

mod api;
mod bench;
mod embedded;
mod loadgen;
mod support;
mod upstream;
