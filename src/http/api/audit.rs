//! Handles `/api/ai-cache/audit`, which gives the audit trail of the caller's tenant, in pages and
//! as a stream.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse, get};
use chrono::{DateTime, Utc};
use futures_util::stream::{self, Stream};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::call::{OnWord, ServiceError};
use crate::compliance::{TrailExport, TrailQuery};
use crate::domain::action::Action;
use crate::domain::audit_record::Actor;
use crate::domain::audit_row::{AuditRow, ndjson};
use crate::domain::ids::{AuditId, EntryId, RequestId, TokenId};
use crate::domain::query::SubjectId;
use crate::http::State;
use crate::http::current::Current;
use crate::http::problem::Problem;
use crate::http::query_string::Parameters;
use crate::store::audit_rows::ActorFilter;

/// The number of records on a page if the request names no limit.
const PAGE: u16 = 100;
/// The highest limit that a request may name.
const MAX_PAGE: u16 = 1_000;

/// The filters of the audit trail.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "the parameters in the API document; `filters` reads them")]
struct TrailParameters {
    /// Records from this time on
    from: Option<DateTime<Utc>>,
    /// Records before this time
    to: Option<DateTime<Utc>>,
    /// Records of this action only
    action: Option<String>,
    /// Records of this actor only: a token's id, or one of token, anonymous, command-line, service
    actor: Option<String>,
    /// Records about this person only
    subject_id: Option<String>,
    /// Records about this entry only
    entry_id: Option<String>,
    /// Records of this request only
    request_id: Option<String>,
}

/// A page of the trail.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditPageBody {
    /// The records, newest first.
    records: Vec<AuditRow>,
    /// The cursor of the next page, also after a short or empty page; null on the last page.
    #[schema(required)]
    next_cursor: Option<String>,
}

fn parse_actor(text: &str) -> Option<ActorFilter> {
    let kind = Actor::KINDS.into_iter().find(|kind| *kind == text).map(ActorFilter::Kind);
    kind.or_else(|| TokenId::parse(text).map(ActorFilter::Token))
}

fn filters(parameters: &mut Parameters) -> TrailQuery {
    let actor = "a token's id, or one of token, anonymous, command-line, service";
    let query = TrailQuery {
        from: parameters.time("from"),
        to: parameters.time("to"),
        action: parameters.parsed("action", "a known action", Action::parse),
        actor: parameters.parsed("actor", actor, parse_actor),
        subject: parameters.parsed("subjectId", "1 to 256 bytes", SubjectId::parse),
        entry: parameters.parsed("entryId", "an entry's id", EntryId::parse),
        request: parameters.parsed("requestId", "a request's id", RequestId::parse),
    };
    if let (Some(from), Some(to)) = (query.from, query.to)
        && from > to
    {
        parameters.refuse("to", "must not be before from");
    }
    query
}

/// Lists the audit trail of the tenant, newest first. The reading is itself recorded. A search that
/// takes longer than 5 seconds returns a short or even empty page, with a nextCursor that continues
/// there. Only a nextCursor of null is the end.
#[utoipa::path(
    tag = "audit",
    params(
        TrailParameters,
        ("limit" = Option<u16>, Query, description = "1 to 1000, 100 when absent"),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before"),
    ),
    responses((status = 200, description = "A page", body = AuditPageBody)),
)]
#[get("/audit")]
pub async fn list_audit(
    state: web::Data<State>,
    mut current: Current,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::of(&request)?;
    let query = filters(&mut parameters);
    let limit = |text: &str| text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
    let limit = parameters.parsed("limit", "a whole number from 1 to 1000", limit).unwrap_or(PAGE);
    let before = parameters.parsed("cursor", "the nextCursor of a page", AuditId::parse);
    parameters.finish()?;
    let page = state.compliance.read_trail(current.call()?, &query, before, limit).await?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(AuditPageBody {
        records: page.rows,
        next_cursor: page.next.map(|id| id.to_string()),
    }))
}

/// Exports the audit trail of the tenant as a stream, one JSON object a line, oldest first. It ends
/// with the record of its own beginning; its end has a record too. It is cut short when the token
/// is revoked or the tenant disabled. A stream that is cut short, for whatever reason, lacks the
/// last chunk of the transfer coding.
#[utoipa::path(
    tag = "audit",
    params(TrailParameters),
    responses(
        (status = 200, description = "The records, one a line", body = AuditRow, content_type = "application/x-ndjson"),
    ),
)]
#[get("/audit/export")]
pub async fn export_audit(
    state: web::Data<State>,
    mut current: Current,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::of(&request)?;
    let query = filters(&mut parameters);
    parameters.finish()?;
    let export = state.compliance.export_trail(OnWord::Call(current.call()?), &query).await?;
    Ok(HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(lines(export)))
}

/// Returns the stream of an export, with a chunk for each page. actix drops the stream, and the
/// export with it, when the client closes the connection.
fn lines(export: TrailExport) -> impl Stream<Item = Result<Bytes, ServiceError>> {
    stream::unfold(Some(export), async |export| {
        let mut export = export?;
        let page = match export.next().await {
            Ok(None) => return None,
            Ok(Some(rows)) => ndjson(&rows).map(Bytes::from).map_err(|_| ServiceError::Malformed),
            Err(error) => Err(error),
        };
        match page {
            Ok(chunk) => Some((Ok(chunk), Some(export))),
            Err(error) => {
                tracing::warn!(%error, "an export of the audit trail was cut short");
                Some((Err(error), None))
            }
        }
    })
}
