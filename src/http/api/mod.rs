//! Holds the handlers of `/api/ai-cache`, one file per resource. A handler parses the request,
//! calls the use case and shapes the reply.

pub mod audit;
pub mod entries;
pub mod gdpr;
pub mod holds;
pub mod invalidate;
pub mod purge;
pub mod query;
pub mod statistics;
pub mod tenants;
pub mod tokens;
pub mod verification;
