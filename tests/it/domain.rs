//! The rules of `domain`, tried on values made up at random and on the ones that are easy to get
//! wrong.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is the test's failure")]

mod cache_key;
mod deadline;
mod decimal;
mod directives;
mod encoding;
mod json;
mod records;
mod token;
mod values;
