//! What compliance staff and auditors rely on.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails here")]

mod denials;
mod export;
mod forging;
mod ledgers;
mod proof;
mod records;
mod scale;
mod tampering;
mod trail;
mod trail_pages;
