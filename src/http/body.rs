//! Reads request bodies. A body must be declared as JSON, is read up to a limit, and is parsed
//! strictly.

use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpMessage, HttpRequest, web};
use bytes::BytesMut;
use futures_util::StreamExt;

use crate::domain::json::Json;

use super::State;
use super::problem::{Problem, ProblemKind};

/// The longest accepted body, in bytes.
pub const MAX_BODY: usize = 1024 * 1024;

/// The most bytes that are allocated before a body arrives. A declared length may be false.
const FIRST_CAPACITY: usize = 16 * 1024;

/// Reads and parses a JSON body. A body that takes longer than `State::body_limit` is an error.
pub async fn json(
    state: &State,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<Json, Problem> {
    let declared = request.content_type();
    let is_json = declared.eq_ignore_ascii_case("application/json")
        || (declared.len() > 5 && declared.to_ascii_lowercase().ends_with("+json"));
    if !is_json {
        let detail = "Content-Type must be application/json";
        return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
    }
    if request.headers().contains_key(header::CONTENT_ENCODING) {
        let detail = "the body must not be compressed";
        return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
    }
    let limit = state.body_limit;
    let body = tokio::time::timeout(limit, read(request, payload)).await;
    Ok(Json::parse(&body.unwrap_or_else(|_| Err(too_slow(limit)))?)?)
}

async fn read(request: &HttpRequest, mut payload: web::Payload) -> Result<BytesMut, Problem> {
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    if declared > MAX_BODY {
        return Err(too_large());
    }
    let mut body = BytesMut::with_capacity(declared.min(FIRST_CAPACITY));
    while let Some(part) = payload.next().await {
        let part = part.map_err(|_| {
            Problem::new(ProblemKind::MalformedRequest, "the body ended before its length")
        })?;
        if body.len() + part.len() > MAX_BODY {
            return Err(too_large());
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

fn too_slow(limit: Duration) -> Problem {
    let detail = format!("a body must arrive within {} s", limit.as_secs_f32());
    Problem::new(ProblemKind::RequestTimeout, detail)
}

fn too_large() -> Problem {
    Problem::new(ProblemKind::BodyTooLarge, format!("a body has at most {MAX_BODY} bytes"))
}
