//! Pure values and rules: what the service's words mean. No async, no I/O, no time or id is made
//! here but by `clock::SystemClock` and `ids::SystemIds`.

pub mod action;
pub mod audit_record;
pub mod audit_row;
pub mod breaker;
mod by_name;
pub mod cache_key;
pub mod caller;
pub mod candidate;
pub mod canonical;
pub mod certificate;
pub mod clock;
pub mod context;
pub mod deadline;
pub mod decimal;
pub mod directives;
pub mod entry;
pub mod fields;
pub mod gdpr;
pub mod gdpr_execution;
pub mod ids;
pub mod json;
pub mod money;
pub mod network;
pub mod normalize;
pub mod operation;
pub mod prompt;
pub mod query;
pub mod seal;
pub mod selector;
pub mod token;
