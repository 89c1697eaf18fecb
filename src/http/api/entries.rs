//! `/api/ai-cache/entries`: what may be told of entries without their answers.

use actix_web::{HttpRequest, HttpResponse, delete, get, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::administration::{EntryQuery, EntryView};
use crate::call::{Invalidated, Invalidation};
use crate::domain::audit_record::Action;
use crate::domain::ids::EntryId;
use crate::domain::operation::Operation;
use crate::http::State;
use crate::http::current::Current;
use crate::http::problem::{Problem, ProblemBody};
use crate::http::query_string::Parameters;

/// Entries on a page unless asked otherwise, and at most.
const PAGE: u16 = 50;
const MAX_PAGE: u16 = 500;

/// An entry without its answer.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryBody {
    /// The entry.
    entry_id: String,
    /// Its kind.
    operation: String,
    /// Whether it is one person's own.
    private: bool,
    /// As given.
    #[schema(required)]
    location: Option<String>,
    /// Normalized.
    vendor_types: Vec<String>,
    /// As given.
    tags: Vec<String>,
    /// Bytes of its sealed fields.
    size_bytes: i64,
    /// Times it was served.
    access_count: i64,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// When it was served last.
    #[schema(required)]
    last_accessed_at: Option<DateTime<Utc>>,
    /// Seconds since it was made.
    age_seconds: i64,
    /// When it stops being good.
    expires_at: DateTime<Utc>,
    /// Tiers that hold it.
    tiers: Vec<&'static str>,
}

/// A page of entries.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryListBody {
    /// Newest first. A page may be short, even empty, and yet have a next one: it looks at 20,000
    /// entries.
    entries: Vec<EntryBody>,
    /// Where the next page continues; null at the end.
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
        ("operation" = Option<String>, Query, description = "Of this kind only"),
        ("location" = Option<String>, Query, description = "At this location only"),
        ("tag" = Option<String>, Query, description = "With this tag only"),
        ("limit" = Option<u16>, Query, description = "1 to 500, 50 when absent"),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before"),
    ),
    responses(
        (status = 200, description = "A page", body = EntryListBody),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Failed", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = ["admin"])),
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

/// Tells of one entry.
#[utoipa::path(
    tag = "entries",
    params(("entryId" = String, Path, description = "The entry")),
    responses(
        (status = 200, description = "The entry", body = EntryBody),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Failed", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = ["admin"])),
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
    responses(
        (status = 204, description = "Removed"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Failed", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = ["admin"])),
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
