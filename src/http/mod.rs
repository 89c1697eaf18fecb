//! Owns everything that uses actix: routes, extraction, problems, replies. This module translates
//! between HTTP and the use cases. It holds no rule of the product, and never reaches a row or key.

mod access;
pub mod api;
mod audited;
mod body;
mod current;
mod document;
mod failures;
pub mod floor;
mod health;
mod limits;
mod matching;
pub mod openapi;
mod peer;
pub mod problem;
mod query_string;
mod route;
pub mod routes;
mod server;

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::administration::Administration;
use crate::answering::Answering;
use crate::auth::Authenticator;
use crate::call::Calls;
use crate::compliance::Compliance;
use crate::domain::clock::Clock;
use crate::domain::ids::Ids;
use crate::telemetry::Metrics;

pub use health::HealthParts;
pub use server::{Server, ServerError, ServerSettings};

/// The setting that decides whether `/api/metrics` is served (AI_CACHE_MONITORING_ENABLED).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Monitoring {
    /// The metrics are served.
    On,
    /// The path answers 404.
    Off,
}

/// The parts of the service that handlers and middlewares use.
pub struct State {
    /// The use cases that answer questions.
    pub answering: Arc<Answering>,
    /// The use cases of compliance staff.
    pub compliance: Arc<Compliance>,
    /// The use cases of administrators and operators.
    pub administration: Arc<Administration>,
    /// The parts that the rooms share.
    pub calls: Arc<Calls>,
    /// The parts whose health is shown.
    pub health: HealthParts,
    /// The authenticator, which finds the caller of a bearer token.
    pub authenticator: Arc<Authenticator>,
    /// The metrics that `/api/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// The clock of the service.
    pub clock: Arc<dyn Clock>,
    /// The source of new ids.
    pub ids: Arc<dyn Ids>,
    /// The networks of the proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The time that a client has to send a whole body.
    pub body_limit: Duration,
    /// The setting that decides whether metrics are served.
    pub monitoring: Monitoring,
    /// The names of the insecure development settings in force.
    pub insecure: Vec<&'static str>,
}
