//! Handles `POST /api/ai-cache/invalidate`, which removes entries.

use actix_web::{HttpRequest, HttpResponse, post, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::call::{Invalidated, Invalidation};
use crate::domain::action::Action;
use crate::domain::fields::Fields;
use crate::domain::ids::EntryId;
use crate::domain::json::Json;
use crate::domain::normalize;
use crate::domain::operation::Operation;
use crate::domain::query;
use crate::http::State;
use crate::http::body;
use crate::http::current::Current;
use crate::http::problem::Problem;

const VENDOR_TYPE: &str = "1 to 64 bytes of UTF-8, not only white space";

const ONE: &str = "must name exactly one of invalidateAll, entryId, operation, tag, location, \
                   vendorType and subjectId";

/// The entries to remove. Exactly one selector must be given.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the shape in the API document; `parse` reads the body")]
pub struct InvalidateBody {
    /// Every entry of the tenant. Only true is accepted.
    invalidate_all: Option<bool>,
    /// The entry with this id.
    entry_id: Option<String>,
    /// Every entry of this kind.
    operation: Option<String>,
    /// Every entry with this tag: 1 to 64 bytes.
    tag: Option<String>,
    /// Every entry at this location, as it was given: 1 to 256 bytes.
    location: Option<String>,
    /// Every entry with this vendor type: 1 to 64 bytes; case and outer white space do not count.
    vendor_type: Option<String>,
    /// Every entry that belongs to this person.
    subject_id: Option<String>,
    /// Whether the entries are only counted, and none is removed.
    dry_run: Option<bool>,
    /// Not available in this release.
    namespace: Option<String>,
}

/// The outcome of an invalidation.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InvalidateReply {
    /// Always true.
    success: bool,
    /// The number of entries that were removed or, on a dry run, would have been.
    invalidated_count: u64,
}

fn parse(body: Json) -> Result<(Invalidation, Invalidated), Problem> {
    let mut fields = Fields::root(body)?;
    let all = fields.flag("invalidateAll");
    if all == Some(false) {
        fields.refuse("invalidateAll", "must be true when it is given");
    }
    let selectors = [
        all.map(|_| Invalidation::All),
        fields.parsed("entryId", "an entry's id", EntryId::parse).map(Invalidation::Entry),
        fields
            .parsed("operation", "a known operation", Operation::parse)
            .map(Invalidation::Operation),
        fields.text("tag", 1..=64).map(Invalidation::Tag),
        fields.text("location", 1..=256).map(Invalidation::Location),
        fields.parsed("vendorType", VENDOR_TYPE, vendor_type).map(Invalidation::VendorType),
        query::read_subject(&mut fields).map(Invalidation::Subject),
    ];
    if fields.take("namespace").is_some() {
        fields.refuse("namespace", "is not available in this release");
    }
    let how = match fields.flag("dryRun") {
        Some(true) => Invalidated::DryRun,
        Some(false) | None => Invalidated::ForReal,
    };
    fields.finish()?;
    let mut given = selectors.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(what), None) => Ok((what, how)),
        _ => Err(Problem::invalid_field("", ONE)),
    }
}

/// Returns the vendor type in the form in which entries hold it. Returns `None` if `text` breaks
/// the rule `VENDOR_TYPE`.
fn vendor_type(text: &str) -> Option<String> {
    if !(1..=64).contains(&text.len()) {
        return None;
    }
    normalize::name_set([text]).pop()
}

/// Removes entries. Requests that arrive after the reply are not served what was removed.
#[utoipa::path(
    tag = "entries",
    request_body = InvalidateBody,
    responses((status = 200, description = "How many", body = InvalidateReply)),
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
    let invalidated_count = state.calls.invalidate(call, what, how, Action::Invalidate).await?;
    Ok(HttpResponse::Ok().json(InvalidateReply { success: true, invalidated_count }))
}
