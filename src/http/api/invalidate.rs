//! `POST /api/ai-cache/invalidate`.

use actix_web::{HttpRequest, HttpResponse, post, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::audit_record::Action;
use crate::domain::fields::Fields;
use crate::domain::ids::EntryId;
use crate::domain::json::Json;
use crate::http::State;
use crate::http::body;
use crate::http::current::Current;
use crate::http::problem::{Problem, ProblemBody};
use crate::service::{Invalidated, Invalidation};

/// Selectors of the contract that this release does not take yet.
const LATER: [&str; 6] = ["operation", "tag", "location", "vendorType", "subjectId", "namespace"];

/// What to remove: exactly one of the two.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the shape in the API document; `parse` reads the body")]
pub struct InvalidateBody {
    /// Everything of the tenant; true when given.
    invalidate_all: Option<bool>,
    /// One entry.
    entry_id: Option<String>,
    /// Only count.
    dry_run: Option<bool>,
}

/// What was removed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InvalidateReply {
    /// Always true.
    success: bool,
    /// Entries removed or, on a dry run, that would be.
    invalidated_count: u64,
}

fn parse(body: Json) -> Result<(Invalidation, Invalidated), Problem> {
    let mut fields = Fields::root(body)?;
    let all = fields.flag("invalidateAll");
    if all == Some(false) {
        fields.refuse("invalidateAll", "must be true when it is given");
    }
    let entry = fields.parsed("entryId", "an entry's id", EntryId::parse);
    for name in LATER {
        if fields.take(name).is_some() {
            fields.refuse(name, "is not available in this release");
        }
    }
    let how = match fields.flag("dryRun") {
        Some(true) => Invalidated::DryRun,
        Some(false) | None => Invalidated::ForReal,
    };
    fields.finish()?;
    match (all, entry) {
        (Some(_), None) => Ok((Invalidation::All, how)),
        (None, Some(id)) => Ok((Invalidation::Entry(id), how)),
        _ => Err(Problem::invalid_field("", "must name exactly one of invalidateAll and entryId")),
    }
}

/// Removes entries. Requests that arrive after the reply are not served what was removed.
#[utoipa::path(
    tag = "entries",
    request_body = InvalidateBody,
    responses(
        (status = 200, description = "How many", body = InvalidateReply),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Failed", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = ["admin"])),
)]
#[post("/invalidate")]
pub async fn post_invalidate(
    state: web::Data<State>,
    mut current: Current,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let (what, how) = parse(body::json(&state, &request, payload).await?)?;
    let call = current.call()?;
    let invalidated_count = state.service.invalidate(call, what, how, Action::Invalidate).await?;
    Ok(HttpResponse::Ok().json(InvalidateReply { success: true, invalidated_count }))
}
