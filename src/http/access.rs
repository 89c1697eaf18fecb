//! Owns the outermost middleware. It gives every request an id and an access line, and every error
//! reply a body. It never logs a query string, a header's value or a body.

use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, web};

use crate::call::CallStart;
use crate::domain::ids::RequestId;

use super::State;
use super::matching;
use super::problem::{Problem, ProblemKind};

/// The header that holds the request's id, in requests and in replies.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Wraps every route of the service. Gives the request its id and writes the access line.
pub async fn trace(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(state) = request.app_data::<web::Data<State>>().cloned() else {
        return next.call(request).await.map(ServiceResponse::map_into_boxed_body);
    };
    let at = state.clock.now();
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let id = given.and_then(RequestId::parse);
    let id = id.unwrap_or_else(|| RequestId::fresh(&*state.ids, at));
    let start = CallStart { request: id, at, arrived: Instant::now() };
    request.extensions_mut().insert(start);
    let reply = next.call(request).await?.map_into_boxed_body();
    let mut reply = with_problem_body(reply, id);
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        reply.headers_mut().insert(REQUEST_ID, value);
    }
    note(&state, &reply, &start);
    Ok(reply)
}

/// Writes the body of an error reply. The error is a `Problem`, or one that actix or the browser of
/// the API document made.
fn with_problem_body(reply: ServiceResponse, id: RequestId) -> ServiceResponse {
    let status = reply.status();
    if !status.is_client_error() && !status.is_server_error() {
        return reply;
    }
    let error = reply.response().error();
    let ours = error.and_then(|error| error.as_error::<Problem>()).cloned();
    let foreign = error.is_some() || !reply.headers().contains_key(header::CONTENT_TYPE);
    let problem = match ours {
        Some(problem) => problem,
        None if foreign => foreign_problem(status.as_u16()),
        None => return reply,
    };
    let kept: Vec<_> = reply
        .headers()
        .iter()
        .filter(|(name, _)| {
            let name = name.as_str();
            name.starts_with("x-") || name.starts_with("ratelimit")
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut body = problem.reply(reply.request().path(), id);
    for (name, value) in kept {
        body.headers_mut().insert(name, value);
    }
    reply.into_response(body)
}

fn foreign_problem(status: u16) -> Problem {
    let kind = match status {
        404 => ProblemKind::NotFound,
        413 => ProblemKind::BodyTooLarge,
        415 => ProblemKind::UnsupportedMediaType,
        400..=499 => ProblemKind::MalformedRequest,
        _ => ProblemKind::Internal,
    };
    Problem::new(kind, "the request could not be read")
}

/// Writes the access line and counts the request. A success is logged at debug level only, because
/// the metrics and the audit trail hold it too.
fn note(state: &State, reply: &ServiceResponse, start: &CallStart) {
    let elapsed = start.arrived.elapsed();
    let status = reply.status().as_u16();
    let route = matching::label(reply.request());
    state.metrics.request(route, status);
    let (request, us) = (start.request, u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
    match status {
        500.. => tracing::warn!(target: "ai_cache::access", %request, route, status, us),
        400..=499 => tracing::info!(target: "ai_cache::access", %request, route, status, us),
        _ => tracing::debug!(target: "ai_cache::access", %request, route, status, us),
    }
}
