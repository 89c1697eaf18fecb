//! Owns the middleware around every guarded route. Only this file decides whether a request may
//! pass: it authenticates the caller, applies the tenant's limit and checks the route's role. It
//! holds the reply until its audit record is durable.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, web};

use crate::audit::Durability;
use crate::auth::{AuthError, TokenStanding};
use crate::call::{Call, CallOrigin, CallStart, Settled};
use crate::domain::action::Action;
use crate::domain::audit_record::Outcome;
use crate::domain::caller::{Role, Roles};
use crate::telemetry::AuthFailure;

use super::State;
use super::current::{CallSlot, start_of};
use super::limits;
use super::matching;
use super::peer;
use super::problem::{Problem, ProblemKind};
use super::route::Route;

/// The reply header that holds the id of the request's audit record.
pub const AUDIT_ID: HeaderName = HeaderName::from_static("x-audit-id");

/// The reply header that has the value `spool` if the audit record is not in Postgres yet.
pub const AUDIT_DURABILITY: HeaderName = HeaderName::from_static("x-audit-durability");

/// The milliseconds for which a refusal that is only counted waits, so that a caller that repeats a
/// request at once costs others little. Each refusal waits a random time, so that callers that came
/// together do not come back together.
const REFUSAL_PAUSE_MS: RangeInclusive<u64> = 50..=150;

/// Wraps every guarded route. Lets a request pass only if its caller may use the route.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(state) = request.app_data::<web::Data<State>>().cloned() else {
        return Ok(request.error_response(Problem::unauthenticated()));
    };
    let route = matching::find(request.request());
    let (start, origin, standing) = match authenticate(&request, &state).await {
        Ok(caller) => caller,
        Err(refused) => {
            record_denial(&request, &state, &refused);
            return Ok(request.error_response(refused));
        }
    };
    let roles = origin.caller.roles;
    let action = route.map_or(Action::Unrouted, |route| route.action);
    let limited = is_limited(route, roles).then(|| state.calls.admit(&origin.view)).flatten();
    let spent = limited.and_then(|allowance| Problem::spent(&allowance));
    if let (Some(spent), Some(allowance)) = (&spent, &limited)
        && state.calls.counts_refusal(&origin, action, spent.kind().status())
    {
        tokio::time::sleep(Duration::from_millis(rand::random_range(REFUSAL_PAUSE_MS))).await;
        let reply = request.error_response(spent.clone());
        return Ok(limits::show(reply, allowance));
    }
    let (audit, ids) = (state.health.audit.clone(), Arc::clone(&state.ids));
    let slot = CallSlot::default();
    let call = Call::new(start, origin, action, audit, ids);
    slot.put(Box::new(call.of_standing(standing)));
    request.extensions_mut().insert(slot.clone());
    let refused = spent.or_else(|| barred(request.request(), &state, route, roles, standing));
    let reply = match refused {
        Some(refused) => request.error_response(refused),
        None => next.call(request).await?.map_into_boxed_body(),
    };
    let reply = settle(reply, &slot).await;
    Ok(match &limited {
        Some(allowance) => limits::show(reply, allowance),
        None => reply,
    })
}

/// Returns the reason why an authenticated request may not reach its handler. Returns `None` if it
/// may.
fn barred(
    request: &HttpRequest,
    state: &State,
    route: Option<&Route>,
    roles: Roles,
    standing: TokenStanding,
) -> Option<Problem> {
    // The role is checked here alone, so no handler may be reached without a route of the table.
    // The framework also knows other ways to write a path, such as one letter as its percent code.
    let Some(route) = route else {
        return Some(matching::no_route(request));
    };
    if !roles.has(route.role) {
        return Some(Problem::new(ProblemKind::Forbidden, "the token lacks the role for this"));
    }
    // A token that was only believed may have been revoked elsewhere. It may ask questions, whose
    // answers anybody could buy, but it may change nothing.
    if standing == TokenStanding::Believed && route.action != Action::Query {
        let detail = "the token cannot be looked up now";
        return Some(Problem::new(ProblemKind::AuthUnavailable, detail));
    }
    // Readiness is red at this time, but a client may send a request to this replica all the same.
    if !state.compliance.erasures_hold() {
        let detail = "the erasure ledger must be applied first";
        return Some(Problem::new(ProblemKind::ErasuresPending, detail));
    }
    None
}

/// Returns true if a request counts against its tenant's limit. Returns false if the route needs a
/// role other than app and the token has it. So many requests of an app do not keep out an
/// administrator or a compliance officer.
fn is_limited(route: Option<&Route>, roles: Roles) -> bool {
    route.is_none_or(|route| route.role == Role::App || !roles.has(route.role))
}

/// Finds the caller of a request. Returns an error if its token was not accepted.
async fn authenticate(
    request: &ServiceRequest,
    state: &State,
) -> Result<(CallStart, CallOrigin, TokenStanding), Problem> {
    let start = start_of(request).ok_or_else(Problem::unauthenticated)?;
    let network = peer::network_of(request, &state.trusted_proxies);
    let text = bearer(request).inspect_err(|_| {
        state.metrics.auth_failure(AuthFailure::Missing);
    })?;
    let verified = state.authenticator.authenticate(text, network).await;
    let (verified, standing) = verified.map_err(|error| {
        state.metrics.auth_failure(failure(&error));
        Problem::from(error)
    })?;
    let origin = CallOrigin {
        caller: verified.caller,
        roles: Arc::clone(&verified.roles),
        view: Arc::clone(&verified.view),
        network,
    };
    Ok((start, origin, standing))
}

/// Records that a token was not accepted. The record stands in the installation's own trail,
/// because the request belongs to no tenant.
fn record_denial(request: &ServiceRequest, state: &State, refused: &Problem) {
    if let Some(start) = start_of(request) {
        let network = peer::network_of(request, &state.trusted_proxies);
        state.calls.record_denial(start, network, refused.kind().status());
    }
}

const fn failure(error: &AuthError) -> AuthFailure {
    match error {
        AuthError::Malformed => AuthFailure::Malformed,
        AuthError::Refused => AuthFailure::Refused,
        AuthError::Limited { .. } => AuthFailure::Limited,
        AuthError::Overloaded | AuthError::Unavailable(_) | AuthError::Hasher(_) => {
            AuthFailure::Unavailable
        }
    }
}

/// Returns the bearer token of the header `Authorization` (RFC 6750 §2.1). A second such header is
/// an error.
fn bearer(request: &ServiceRequest) -> Result<&str, Problem> {
    let mut headers = request.headers().get_all(header::AUTHORIZATION);
    let Some(value) = headers.next() else {
        return Err(Problem::unauthenticated());
    };
    if headers.next().is_some() {
        let detail = "there is more than one Authorization header";
        return Err(Problem::new(ProblemKind::MalformedRequest, detail));
    }
    let text = value.to_str().map_err(|_| Problem::unauthenticated())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(Problem::unauthenticated)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(token.trim())
    } else {
        Err(Problem::unauthenticated())
    }
}

/// Makes the audit record durable unless the handler did, and adds its id to the reply. If the
/// record cannot be made durable, a problem replaces the reply.
async fn settle(mut reply: ServiceResponse<BoxBody>, slot: &CallSlot) -> ServiceResponse<BoxBody> {
    let Some(mut call) = slot.take() else {
        return reply;
    };
    let status = reply.status();
    let failed = status.is_client_error() || status.is_server_error();
    let settled = match call.settled() {
        Some(settled) if !failed => settled,
        _ => match settle_now(&mut call, status.as_u16()).await {
            Ok(settled) => settled,
            Err(unrecorded) => return reply.error_response(unrecorded),
        },
    };
    if let Ok(value) = HeaderValue::from_str(&settled.audit.to_string()) {
        reply.headers_mut().insert(AUDIT_ID, value);
    }
    if settled.durability == Durability::Spool {
        reply.headers_mut().insert(AUDIT_DURABILITY, HeaderValue::from_static("spool"));
    }
    reply
}

async fn settle_now(call: &mut Call, status: u16) -> Result<Settled, Problem> {
    let outcome = match status {
        0..=399 => Outcome::Done,
        401 | 403 => Outcome::Denied,
        404 | 410 => Outcome::NotFound,
        429 => Outcome::Limited,
        451 => Outcome::Restricted,
        400..=499 => Outcome::Invalid,
        _ => Outcome::Error,
    };
    let receipt = call
        .settle(|record| {
            record.outcome = outcome;
            record.status = status;
        })
        .await?;
    Ok(Settled { audit: receipt.audit(), durability: receipt.durability() })
}
