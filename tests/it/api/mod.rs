//! The HTTP contract, route by route.

mod query;
