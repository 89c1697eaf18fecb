//! Owns the values and rules of the service. This module is never async and does no I/O. Only
//! `clock::SystemClock` reads the time here, and only `ids::SystemIds` makes ids.

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
