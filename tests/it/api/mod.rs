//! The HTTP contract (api.md), route by route and rule by rule.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failure in a test's helper is the test's failure"
)]

mod bad_body;
mod bad_field;
mod bad_request;
mod entries;
mod failures;
mod invalidate;
mod lifetime;
mod modes;
pub mod open;
mod paths;
mod query;
pub mod raw;
mod sameness;
mod shapes;
mod sharing;
mod statistics;
mod tenants;
mod tiers;
mod tokens;

use crate::support::{Client, Reply};

/// Sends JSON text as it is written here.
async fn query_text(client: &Client, body: &str) -> Reply {
    client.send_raw("POST", "/api/ai-cache/query", body.as_bytes().to_vec()).await
}
