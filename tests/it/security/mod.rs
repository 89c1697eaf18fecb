//! Walls between tenants, sealing, roles (G5, W9, issue 2).
#![expect(clippy::unwrap_used, reason = "a test fails here")]

mod dump;
mod routes;
mod rows;
mod swaps;
