//! The one test binary: everything through HTTP or the command line, over a real Postgres and a
//! real Redis; only the upstream and the clock are ours.

mod api;
mod architecture;
mod bench;
mod cli;
mod compile_fail;
mod compliance;
mod crypto;
mod documents;
mod domain;
mod embedded;
mod loadgen;
mod openapi;
mod resilience;
mod security;
mod settings;
mod support;
mod upstream;
