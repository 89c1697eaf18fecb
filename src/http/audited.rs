//! The middleware around every authenticated route, and the one place that decides who may pass:
//! authenticates, holds the tenant to its limit, checks the route's role, and holds the reply until
//! its record is durable.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, web};

use crate::audit::Durability;
use crate::auth::{AuthError, Standing};
use crate::call::{Call, CallStart, Origin, Settled};
use crate::domain::audit_record::{Action, Outcome};
use crate::domain::caller::{Role, Roles};
use crate::telemetry::AuthFailure;

use super::State;
use super::api;
use super::current::{CallSlot, start_of};
use super::limits;
use super::peer;
use super::problem::{Problem, ProblemKind};
use super::route::{self, Route};

/// The id of the request's audit record, in replies.
pub const AUDIT_ID: HeaderName = HeaderName::from_static("x-audit-id");

/// Where that record is, when not in Postgres yet.
pub const AUDIT_DURABILITY: HeaderName = HeaderName::from_static("x-audit-durability");

/// How many milliseconds a caller waits for a refusal that is one of many, so that one who comes back
/// at once costs others little. Each waits another time: those who came together do not come back
/// together, again and again.
const REFUSAL_PAUSE_MS: RangeInclusive<u64> = 50..=150;

/// Wraps every authenticated route.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(state) = request.app_data::<web::Data<State>>().cloned() else {
        return Ok(request.error_response(Problem::unauthenticated()));
    };
    let found = route::find(request.request());
    let (start, origin, standing) = match authenticate(&request, &state).await {
        Ok(caller) => caller,
        Err(refused) => {
            record_denial(&request, &state, &refused);
            return Ok(request.error_response(refused));
        }
    };
    let roles = origin.caller.roles;
    let action = found.map_or(Action::Unrouted, |route| route.action);
    let limited = is_limited(found, roles).then(|| state.calls.admit(&origin.view)).flatten();
    let refused = limited.and_then(|allowance| Problem::spent(&allowance));
    if let (Some(refused), Some(allowance)) = (&refused, &limited)
        && state.calls.counts_refusal(&origin, action, refused.kind().status())
    {
        tokio::time::sleep(Duration::from_millis(rand::random_range(REFUSAL_PAUSE_MS))).await;
        let reply = request.error_response(refused.clone());
        return Ok(limits::show(reply, allowance));
    }
    let (audit, ids) = (state.health.audit.clone(), Arc::clone(&state.ids));
    let slot = CallSlot::default();
    let call = Call::new(start, origin, action, audit, ids);
    slot.put(Box::new(call.of_standing(standing)));
    request.extensions_mut().insert(slot.clone());
    let reply = match (refused, found) {
        (Some(refused), _) => request.error_response(refused),
        // A handler is reached only through a route of the table, whose role is checked here: the
        // framework also knows other ways to write a path, such as one letter as its code.
        (None, None) => {
            let refused = api::no_route(request.request());
            request.error_response(refused)
        }
        (None, Some(route)) if !roles.has(route.role) => {
            let refused = Problem::new(ProblemKind::Forbidden, "the token lacks the role for this");
            request.error_response(refused)
        }
        // Whoever may have been refused elsewhere gets what anybody could buy, and changes nothing.
        (None, Some(route)) if standing == Standing::Believed && route.action != Action::Query => {
            let detail = "the token cannot be looked up now";
            request.error_response(Problem::new(ProblemKind::AuthUnavailable, detail))
        }
        // Not ready is not enough: whoever asks this replica all the same must not be answered.
        (None, Some(_)) if !state.compliance.erasures_hold() => {
            let detail = "the erasure ledger must be applied first";
            request.error_response(Problem::new(ProblemKind::ErasuresPending, detail))
        }
        (None, Some(_)) => next.call(request).await?.map_into_boxed_body(),
    };
    let reply = settle(reply, &slot).await;
    Ok(match &limited {
        Some(allowance) => limits::show(reply, allowance),
        None => reply,
    })
}

/// Whether a request counts against its tenant's limit: all but what a token is for that has another
/// role than app. So a flood of an app's shuts out no admin and no compliance staff.
fn is_limited(route: Option<&Route>, roles: Roles) -> bool {
    route.is_none_or(|route| route.role == Role::App || !roles.has(route.role))
}

/// When the request came and from whom.
async fn authenticate(
    request: &ServiceRequest,
    state: &State,
) -> Result<(CallStart, Origin, Standing), Problem> {
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
    let origin = Origin {
        caller: verified.caller,
        roles: Arc::clone(&verified.roles),
        view: Arc::clone(&verified.view),
        network,
    };
    Ok((start, origin, standing))
}

/// Who is refused here has no trail of their own: the installation's tells of it.
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

/// The token of the one `Authorization` header (RFC 6750 §2.1).
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

/// Makes the record durable if the handler has not, then lets the reply go; without it there is no
/// reply but the one that says so.
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
