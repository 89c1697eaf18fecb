//! Handlers of `/api/ai-cache`, a file per resource: parse, call the use case, shape the reply.

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

use actix_web::{HttpRequest, HttpResponse};

use super::problem::{Problem, ProblemKind};
use super::route;

/// Answers what no route takes.
pub async fn unrouted(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Err(no_route(&request))
}

/// Why no route takes a request: another method, or a path that is not there.
pub fn no_route(request: &HttpRequest) -> Problem {
    let allow = route::methods(request);
    if allow.is_empty() {
        return Problem::not_found();
    }
    let detail = format!("this path takes {}", allow.join(", "));
    Problem { allow, ..Problem::new(ProblemKind::MethodNotAllowed, detail) }
}
