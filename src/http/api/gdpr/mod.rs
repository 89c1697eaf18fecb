//! Handles `/api/ai-cache/gdpr/requests`, which files, decides on, lists and shows the requests of
//! data subjects.

mod bodies;
mod export;

use actix_web::http::header::{CACHE_CONTROL, LOCATION};
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use chrono::{DateTime, Utc};

use crate::call::OnWord;
use crate::compliance::{Decision, Filing};
use crate::domain::action::Action;
use crate::domain::fields::Fields;
use crate::domain::gdpr::{RequestKind, RequestState};
use crate::domain::ids::GdprRequestId;
use crate::domain::json::Json;
use crate::domain::query;
use crate::http::State;
use crate::http::body;
use crate::http::current::Current;
use crate::http::problem::{Problem, ProblemKind};
use crate::http::query_string::Parameters;
use crate::store::gdpr::RequestFilter;

pub use bodies::{
    ApprovalBody, FilingBody, GdprEventBody, GdprRequestBody, GdprRequestPageBody, ReasonBody,
};
pub use export::get_export;

/// The number of requests on a page if the request names no limit.
const PAGE: u16 = 50;
/// The highest limit that a request may name.
const MAX_PAGE: u16 = 200;

/// The header with the client's own name of a filing. It makes repeating the filing safe.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

fn parse(body: Json, now: DateTime<Utc>) -> Result<Filing, Problem> {
    let mut fields = Fields::root(body)?;
    let kinds = "one of export, erase, restrict, lift-restriction";
    let kind = fields.parsed("type", kinds, RequestKind::parse);
    let subject = query::read_subject(&mut fields);
    let reason = fields.text("reason", 1..=2_000);
    let reference = fields.text("reference", 1..=200);
    let received_at = fields.time("receivedAt");
    if received_at.is_some_and(|at| at > now) {
        fields.refuse("receivedAt", "must not be in the future");
    }
    fields.finish()?;
    let required = |name: &str| Problem::invalid_field(name, "is required");
    Ok(Filing {
        kind: kind.ok_or_else(|| required("/type"))?,
        subject: subject.ok_or_else(|| required("/subjectId"))?,
        reason: reason.ok_or_else(|| required("/reason"))?,
        reference,
        received_at,
        idempotency_key: None,
    })
}

/// Returns the value of the header `Idempotency-Key`, which must be 1 to 128 visible ASCII
/// characters. Returns `None` if the header is absent.
fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let mut values = request.headers().get_all(IDEMPOTENCY_KEY);
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if values.next().is_some() || !visible || !(1..=128).contains(&text.len()) {
        let detail = "Idempotency-Key must be given once, as 1 to 128 visible ASCII characters";
        return Err(Problem::new(ProblemKind::MalformedRequest, detail));
    }
    Ok(Some(text.to_owned()))
}

pub(super) fn id_of(path: &str) -> Result<GdprRequestId, Problem> {
    GdprRequestId::parse(path).ok_or_else(Problem::not_found)
}

/// Files a request of a data subject. A second filing with the same Idempotency-Key returns the
/// request of the first.
#[utoipa::path(
    tag = "compliance",
    params(("Idempotency-Key" = Option<String>, Header, description = "The client's name of this filing: 1 to 128 visible ASCII characters")),
    request_body = FilingBody,
    responses((status = 202, description = "The request", body = GdprRequestBody)),
)]
#[post("/gdpr/requests")]
pub async fn post_request(
    state: web::Data<State>,
    mut current: Current,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let idempotency_key = idempotency_key(&request)?;
    let filing = parse(body::json(&state, &request, payload).await?, state.clock.now())?;
    let filing = Filing { idempotency_key, ..filing };
    let call = current.call()?;
    let record = call.change(call.caller.tenant, Action::GdprFile);
    let filed = state.compliance.file_request(&filing, record).await?;
    let shown = state.compliance.show_request(OnWord::Call(call), filed.id, 202).await?;
    Ok(HttpResponse::Accepted()
        .insert_header((LOCATION, format!("{}/{}", request.path(), filed.id)))
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(GdprRequestBody::from(shown)))
}

/// Lists the requests of the tenant, newest first.
#[utoipa::path(
    tag = "compliance",
    params(
        ("state" = Option<String>, Query, description = "Requests in this state only"),
        ("type" = Option<String>, Query, description = "Requests of this type only"),
        ("dueBefore" = Option<DateTime<Utc>>, Query, description = "Requests due before this time only"),
        ("limit" = Option<u16>, Query, description = "1 to 200, 50 when absent"),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before"),
    ),
    responses((status = 200, description = "A page", body = GdprRequestPageBody)),
)]
#[get("/gdpr/requests")]
pub async fn list_requests(
    state: web::Data<State>,
    mut current: Current,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::of(&request)?;
    let filter = RequestFilter {
        state: parameters.parsed("state", "a state of requests", RequestState::parse),
        kind: parameters.parsed("type", "a type of requests", RequestKind::parse),
        due_before: parameters.time("dueBefore"),
        before: parameters.parsed("cursor", "the nextCursor of a page", GdprRequestId::parse),
    };
    let limit = |text: &str| text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
    let limit = parameters.parsed("limit", "a whole number from 1 to 200", limit).unwrap_or(PAGE);
    parameters.finish()?;
    let page =
        state.compliance.list_requests(OnWord::Call(current.call()?), &filter, limit).await?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(GdprRequestPageBody {
        requests: page.requests.into_iter().map(GdprRequestBody::from).collect(),
        next_cursor: page.next.map(|id| id.to_string()),
    }))
}

/// Shows one request of the tenant with its history.
#[utoipa::path(
    tag = "compliance",
    params(("requestId" = String, Path, description = "The request's id")),
    responses((status = 200, description = "The request", body = GdprRequestBody)),
)]
#[get("/gdpr/requests/{requestId}")]
pub async fn get_request(
    state: web::Data<State>,
    mut current: Current,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let word = OnWord::Call(current.call()?);
    let shown = state.compliance.show_request(word, id_of(&path)?, 200).await?;
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(GdprRequestBody::from(shown)))
}

/// Shows the signed certificate of an erasure.
#[utoipa::path(
    tag = "compliance",
    params(("requestId" = String, Path, description = "The request's id")),
    responses(
        (status = 200, description = "The certificate; `ai-cache gdpr verify-certificate` verifies it", body = Object),
    ),
)]
#[get("/gdpr/requests/{requestId}/certificate")]
pub async fn get_certificate(
    state: web::Data<State>,
    mut current: Current,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let body = state.compliance.certificate(OnWord::Call(current.call()?), id_of(&path)?).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(body))
}

/// Reads the reason from the body of a decision. Returns `None` if an approval has no reason. Every
/// other decision needs a reason.
fn parse_reason(body: Json, decision: Decision) -> Result<Option<String>, Problem> {
    let mut fields = Fields::root(body)?;
    let reason = fields.text("reason", 1..=2_000);
    fields.finish()?;
    if reason.is_none() && decision != Decision::Approve {
        return Err(Problem::invalid_field("/reason", "is required"));
    }
    Ok(reason)
}

/// Decides on a request. The four handlers below differ only in their decision.
async fn decide(
    decision: Decision,
    state: &State,
    current: &mut Current,
    id: GdprRequestId,
    body: Json,
) -> Result<HttpResponse, Problem> {
    let reason = parse_reason(body, decision)?;
    let call = current.call()?;
    let record = call.change(call.caller.tenant, decision.event().action());
    state.compliance.decide_request(id, decision, reason.as_deref(), record).await?;
    let shown = state.compliance.show_request(OnWord::Call(call), id, 200).await?;
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(GdprRequestBody::from(shown)))
}

macro_rules! decisions {
    ($($(#[$doc:meta])* $name:ident $path:literal $decision:ident $body:ident;)+) => {
        $(
            $(#[$doc])*
            #[utoipa::path(
                tag = "compliance",
                params(("requestId" = String, Path, description = "The request's id")),
                request_body = $body,
                responses((status = 200, description = "The request", body = GdprRequestBody)),
            )]
            #[post($path)]
            pub async fn $name(
                state: web::Data<State>,
                mut current: Current,
                path: web::Path<String>,
                request: HttpRequest,
                payload: web::Payload,
            ) -> Result<HttpResponse, Problem> {
                let id = id_of(&path)?;
                let body = body::json(&state, &request, payload).await?;
                decide(Decision::$decision, &state, &mut current, id, body).await
            }
        )+
    };
}

decisions! {
    /// Approves a request that waits for approval, or one that failed, which is then tried again.
    /// The token that filed the request may not approve it.
    approve_request "/gdpr/requests/{requestId}/approve" Approve ApprovalBody;
    /// Rejects a request that waits for approval.
    reject_request "/gdpr/requests/{requestId}/reject" Reject ReasonBody;
    /// Cancels a request whose execution has not begun.
    cancel_request "/gdpr/requests/{requestId}/cancel" Cancel ReasonBody;
    /// Extends the deadline of a request by two months, once and before it is due (GDPR Art.
    /// 12(3)).
    extend_request "/gdpr/requests/{requestId}/extend" Extend ReasonBody;
}
