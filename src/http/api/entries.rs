//! Handles `/api/ai-cache/entries`, which lists, shows and removes the entries of the tenant. It
//! never shows their answers.

use actix_web::{HttpRequest, HttpResponse, delete, get, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::administration::{EntryQuery, EntryView};
use crate::call::{Invalidated, Invalidation};
use crate::domain::action::Action;
use crate::domain::ids::EntryId;
use crate::domain::operation::Operation;
use crate::http::State;
use crate::http::current::Current;
use crate::http::problem::Problem;
use crate::http::query_string::Parameters;

/// The number of entries on a page if the request names no limit.
const PAGE: u16 = 50;
/// The highest limit that a request may name.
const MAX_PAGE: u16 = 500;

/// An entry without its answer.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryBody {
    /// The entry's id.
    entry_id: String,
    /// The kind of question that it answers.
    operation: String,
    /// Whether it belongs to one person alone.
    private: bool,
    /// The location as the question gave it; null without one.
    #[schema(required)]
    location: Option<String>,
    /// The vendor types in their normal form: lower case, sorted, each once.
    vendor_types: Vec<String>,
    /// The tags as the questions gave them.
    tags: Vec<String>,
    /// The size of its sealed fields in bytes.
    size_bytes: i64,
    /// How many times it was served.
    access_count: i64,
    /// The time at which it was made.
    created_at: DateTime<Utc>,
    /// The time at which it was last served; null before the first time.
    #[schema(required)]
    last_accessed_at: Option<DateTime<Utc>>,
    /// The seconds since it was made.
    age_seconds: i64,
    /// The time at which it expires.
    expires_at: DateTime<Utc>,
    /// The tiers that hold it.
    tiers: Vec<&'static str>,
}

/// A page of entries.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryListBody {
    /// The entries, newest first. A page looks at 20,000 entries at most. So it may be short, even
    /// empty, although another page follows.
    entries: Vec<EntryBody>,
    /// The cursor of the next page; null on the last page.
    #[schema(required)]
    next_cursor: Option<String>,
}

impl From<EntryView> for EntryBody {
    fn from(view: EntryView) -> Self {
        Self {
            entry_id: view.id.to_string(),
            operation: view.operation.name().to_owned(),
            private: view.private,
            location: view.labels.location,
            vendor_types: view.labels.vendor_types,
            tags: view.labels.tags,
            size_bytes: view.size_bytes,
            access_count: view.access_count,
            created_at: view.created_at,
            last_accessed_at: view.last_accessed_at,
            age_seconds: view.age_seconds,
            expires_at: view.expires_at,
            tiers: view.tiers.into_iter().map(crate::domain::entry::Tier::name).collect(),
        }
    }
}

fn parse(request: &HttpRequest) -> Result<EntryQuery, Problem> {
    let mut parameters = Parameters::of(request)?;
    let text = |text: &str| (1..=256).contains(&text.len()).then(|| text.to_owned());
    let limit = |text: &str| text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
    let query = EntryQuery {
        operation: parameters.parsed("operation", "a known operation", Operation::parse),
        location: parameters.parsed("location", "1 to 256 bytes", text),
        tag: parameters.parsed("tag", "1 to 64 bytes", text),
        after: parameters.parsed("cursor", "the nextCursor of a page", EntryId::parse),
        limit: parameters.parsed("limit", "a whole number from 1 to 500", limit).unwrap_or(PAGE),
    };
    parameters.finish()?;
    Ok(query)
}

/// Lists entries, newest first.
#[utoipa::path(
    tag = "entries",
    params(
        ("operation" = Option<String>, Query, description = "Entries of this kind only"),
        ("location" = Option<String>, Query, description = "Entries at this location only"),
        ("tag" = Option<String>, Query, description = "Entries with this tag only"),
        ("limit" = Option<u16>, Query, description = "1 to 500, 50 when absent"),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before"),
    ),
    responses((status = 200, description = "A page", body = EntryListBody)),
)]
#[get("/entries")]
pub async fn list_entries(
    state: web::Data<State>,
    mut current: Current,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query = parse(&request)?;
    let page = state.administration.list_entries(current.call()?, &query).await?;
    Ok(HttpResponse::Ok().json(EntryListBody {
        entries: page.entries.into_iter().map(EntryBody::from).collect(),
        next_cursor: page.next.map(|id| id.to_string()),
    }))
}

/// Shows one entry.
#[utoipa::path(
    tag = "entries",
    params(("entryId" = String, Path, description = "The entry")),
    responses((status = 200, description = "The entry", body = EntryBody)),
)]
#[get("/entries/{entryId}")]
pub async fn get_entry(
    state: web::Data<State>,
    mut current: Current,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = EntryId::parse(&path).ok_or_else(Problem::not_found)?;
    let view = state.administration.entry(current.call()?, id).await?;
    Ok(HttpResponse::Ok().json(EntryBody::from(view)))
}

/// Removes one entry.
#[utoipa::path(
    tag = "entries",
    params(("entryId" = String, Path, description = "The entry")),
    responses((status = 204, description = "Removed")),
)]
#[delete("/entries/{entryId}")]
pub async fn delete_entry(
    state: web::Data<State>,
    mut current: Current,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = EntryId::parse(&path).ok_or_else(Problem::not_found)?;
    let what = Invalidation::Entry(id);
    let call = current.call()?;
    let removed =
        state.calls.invalidate(call, what, Invalidated::ForReal, Action::EntryDelete).await?;
    if removed == 0 { Err(Problem::not_found()) } else { Ok(HttpResponse::NoContent().finish()) }
}
