//! Everything actix: routes, extraction, problems, replies. Translates between HTTP and the use cases;
//! holds no rule of the product and never reaches a row or a key.

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
pub mod openapi;
mod peer;
pub mod problem;
mod query_string;
pub mod route;
mod routes;
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

/// Whether `/api/metrics` answers (AI_CACHE_MONITORING_ENABLED).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Monitoring {
    /// It does.
    On,
    /// It is not there.
    Off,
}

/// What handlers reach.
pub struct State {
    /// Answers to questions.
    pub answering: Arc<Answering>,
    /// Use cases of compliance staff.
    pub compliance: Arc<Compliance>,
    /// Use cases of administrators and operators.
    pub administration: Arc<Administration>,
    /// What the rooms of use cases share.
    pub calls: Arc<Calls>,
    /// The parts whose health is shown.
    pub health: HealthParts,
    /// Bearer token → caller.
    pub authenticator: Arc<Authenticator>,
    /// Series for operators.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub ids: Arc<dyn Ids>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Time a client has to send a body, however slowly it trickles.
    pub body_limit: Duration,
    /// Whether metrics are served.
    pub monitoring: Monitoring,
    /// Names of insecure development settings in force.
    pub insecure: Vec<&'static str>,
}
