//! Faults in the middle: replies are counted against records (W10, issue 2).
#![expect(clippy::unwrap_used, reason = "a test fails here")]

mod clock;
mod cluster;
mod coherence;
mod counts;
mod cut_commits;
pub mod cut_off;
mod differing;
pub mod flights;
mod floor;
mod forgetting;
mod given_up;
mod groups;
mod hang;
pub mod hurt;
mod large_groups;
mod leases;
mod plans;
mod pool;
mod postgres;
mod quotas;
pub mod redis;
mod redis_faults;
mod redis_hangups;
mod redis_pace;
mod redis_tls;
mod redis_values;
mod size;
mod soak;
pub mod spool;
mod stale;
mod tiers;
mod transactions;
mod turns;
mod uses;
