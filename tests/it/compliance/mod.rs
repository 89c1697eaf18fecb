//! The promises that compliance staff and auditors rely on.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails here")]

mod denials;
mod erasure_kills;
mod erasures;
mod export;
mod export_downloads;
mod exports;
mod forging;
mod holds;
mod ledgers;
mod proof;
mod records;
pub mod requests;
mod restores;
mod restrictions;
mod retention;
mod scale;
mod sealing;
mod tampering;
mod trail;
mod trail_pages;
mod wrapping;
