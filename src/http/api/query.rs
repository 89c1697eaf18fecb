//! Handles `POST /api/ai-cache/query`, which answers a question. The reply holds the JSON text of
//! the answer as it is stored. The text is not parsed again.

use std::fmt::Write as _;

use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpRequest, HttpResponse, post, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::answering::{AnswerSource, Answered};
use crate::domain::ids::RequestId;
use crate::domain::query::QueryRequest;
use crate::http::State;
use crate::http::body;
use crate::http::current::Current;
use crate::http::problem::Problem;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// A question to answer.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the shape in the API document; domain::query reads the body")]
pub struct QueryBody {
    /// 1 to 16,384 bytes of UTF-8.
    query: String,
    /// The circumstances of the question. Unknown members are kept and are part of the cache key.
    wedding_context: Option<WeddingContextBody>,
    /// One of the known operations; `wedding-query` when absent.
    operation: Option<String>,
    /// The person whom the answer is about or for. The entry then belongs to that person alone.
    subject_id: Option<String>,
    /// The model of the upstream; the configured one when absent.
    model: Option<String>,
    /// The parameters for the upstream, except model, messages, stream, n and user.
    parameters: Option<serde_json::Map<String, serde_json::Value>>,
    /// How the cache treats the question.
    cache: Option<CacheBody>,
    /// Not available in this release.
    stream: Option<bool>,
}

/// The circumstances of a question.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the shape in the API document; domain::context reads the body")]
pub struct WeddingContextBody {
    /// 1 to 256 bytes.
    location: Option<String>,
    /// At most 32. Case, outer white space, order and repetition do not count.
    vendor_types: Option<Vec<String>>,
    /// The budget, at least 0.
    budget: Option<f64>,
    /// The date of the wedding, such as 2027-06-12.
    wedding_date: Option<String>,
    /// The number of guests, at most 1,000,000.
    guest_count: Option<u64>,
}

/// How the cache treats a question.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the shape in the API document; domain::directives reads the body")]
pub struct CacheBody {
    /// `default`, `bypass`, `refresh` or `only-if-cached`.
    mode: Option<String>,
    /// The seconds for which the answer may be served: 1 to 31,536,000.
    ttl_seconds: Option<u64>,
    /// The age in seconds of the oldest acceptable answer.
    max_age_seconds: Option<u64>,
    /// At most 16 labels to invalidate by.
    tags: Option<Vec<String>>,
}

/// An answered question.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryReply {
    /// Always true.
    success: bool,
    /// The answer; null when nothing is cached and there is no upstream.
    #[schema(required)]
    data: Option<AnswerData>,
    /// Whether the answer came from the cache.
    cached: bool,
    /// The tier `hot`, `warm` or `cold` that held the answer, or the upstream's name.
    cache_source: String,
    /// The seconds since the answer was made.
    cache_age: i64,
    /// The seconds until the entry expires; 0 when the answer is not stored.
    expires_in: i64,
    /// Whether the answer is served although its entry has expired.
    stale: bool,
    /// `exact` on a hit; null on a miss.
    #[schema(required)]
    r#match: Option<String>,
    /// The entry's id; null when the answer is not stored.
    #[schema(required)]
    entry_id: Option<String>,
    /// The cost that this reply saved, in US dollars.
    cost_saved_usd: String,
    /// The request's id.
    request_id: String,
}

/// An answer.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnswerData {
    /// The answer: text, or any JSON.
    response: serde_json::Value,
    /// The model that gave the answer.
    model: String,
    /// The tokens that the answer took.
    usage: Option<UsageData>,
}

/// The tokens that an answer took.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageData {
    /// The tokens of the question.
    prompt_tokens: u32,
    /// The tokens of the answer.
    completion_tokens: u32,
}

/// Answers a question from the cache or, once for all callers who ask it, from the upstream.
#[utoipa::path(
    tag = "query",
    request_body = QueryBody,
    responses((status = 200, description = "The answer", body = QueryReply)),
)]
#[post("/query")]
pub async fn post_query(
    state: web::Data<State>,
    mut current: Current,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = body::json(&state, &request, payload).await?;
    let mut question = QueryRequest::parse(body)?;
    for value in request.headers().get_all(header::CACHE_CONTROL) {
        let text = value.to_str().unwrap_or("no-store");
        question.directives = question.directives.with_header(text);
    }
    let call = current.call()?;
    let id = call.request;
    let answered = state.answering.query(call, question).await?;
    Ok(reply(&answered, id))
}

fn reply(answered: &Answered, request: RequestId) -> HttpResponse {
    let (cached, source) = match answered.source {
        AnswerSource::Tier(tier) | AnswerSource::Stale { tier, .. } => (true, tier.name()),
        AnswerSource::Upstream { .. } | AnswerSource::Nowhere => {
            (false, answered.upstream.as_str())
        }
    };
    let data = answered.data.as_ref().map_or(b"null".as_slice(), |data| data.as_bytes());
    let mut tail = String::with_capacity(320);
    // Upstream names and ids need no escaping in JSON. `config` checks the names.
    let _infallible = write!(
        tail,
        ",\"cached\":{cached},\"cacheSource\":\"{source}\",\"cacheAge\":{},\"expiresIn\":{},\
         \"stale\":{},\"match\":{},\"entryId\":",
        answered.age_seconds,
        answered.expires_in_seconds.max(0),
        matches!(answered.source, AnswerSource::Stale { .. }),
        if cached { "\"exact\"" } else { "null" },
    );
    let _infallible = match answered.entry {
        Some(entry) => write!(tail, "\"{entry}\""),
        None => write!(tail, "null"),
    };
    let saved = answered.cost_saved;
    let _infallible = write!(tail, ",\"costSavedUsd\":\"{saved}\",\"requestId\":\"{request}\"}}");
    let head = b"{\"success\":true,\"data\":";
    let mut body = Vec::with_capacity(head.len() + data.len() + tail.len());
    body.extend_from_slice(head);
    body.extend_from_slice(data);
    body.extend_from_slice(tail.as_bytes());
    let mut reply = HttpResponse::Ok();
    reply.content_type("application/json");
    reply.insert_header((CACHE_STATUS, cache_status(answered)));
    reply.insert_header((X_CACHE, x_cache(answered.source)));
    // A shared cache between this service and the client must not keep a tenant's answers.
    reply.insert_header((header::CACHE_CONTROL, "private, no-store"));
    if cached {
        reply.insert_header((header::AGE, answered.age_seconds.to_string()));
    }
    reply.body(body)
}

/// Returns the value of the header `Cache-Status` (RFC 9211).
fn cache_status(answered: &Answered) -> String {
    let left = answered.expires_in_seconds;
    match answered.source {
        AnswerSource::Tier(tier) | AnswerSource::Stale { tier, asked: false } => {
            format!("ai-cache; hit; ttl={left}; detail={}", tier.name())
        }
        AnswerSource::Stale { tier, asked: true } => {
            format!("ai-cache; fwd=stale; ttl={left}; detail={}", tier.name())
        }
        AnswerSource::Upstream { bypassed: true, .. } => "ai-cache; fwd=bypass".to_owned(),
        AnswerSource::Upstream { stored, collapsed, bypassed: false } => {
            let stored = if stored { "; stored" } else { "" };
            let collapsed = if collapsed { "; collapsed" } else { "" };
            format!("ai-cache; fwd=miss{stored}{collapsed}")
        }
        AnswerSource::Nowhere => "ai-cache; fwd=miss".to_owned(),
    }
}

const fn x_cache(source: AnswerSource) -> &'static str {
    match source {
        AnswerSource::Tier(_) => "HIT",
        AnswerSource::Stale { .. } => "STALE",
        AnswerSource::Upstream { bypassed: true, .. } => "BYPASS",
        AnswerSource::Upstream { .. } | AnswerSource::Nowhere => "MISS",
    }
}
