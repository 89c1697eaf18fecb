//! Handles `/api/ai-cache/admin/tenants`, where operators make and change tenants and their tokens.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::administration::TenantSlug;
use crate::domain::action::Action;
use crate::domain::caller::Role;
use crate::domain::deadline::Zone;
use crate::domain::fields::Fields;
use crate::domain::ids::TokenId;
use crate::domain::json::Json;
use crate::http::State;
use crate::http::body;
use crate::http::current::Current;
use crate::http::problem::Problem;
use crate::store::tenants::{TenantChange, TenantLimits, TenantRow};

use super::tokens::{self, MadeTokenBody, NewTokenBody, TokenListBody};

/// The tenant to make.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the shape in the API document; `parse_new` reads the body")]
pub struct NewTenantBody {
    /// The name in commands and routes: 1 to 63 characters of a-z, 0-9 and -.
    slug: String,
    /// The name for people: 1 to 200 bytes.
    name: String,
    /// The requests that its app tokens may send in a minute, over all replicas. 0, the default,
    /// means no limit.
    requests_per_minute: Option<u32>,
    /// The entries that it may have in Postgres. 0, the default, means no limit of its own.
    max_entries: Option<u64>,
}

/// The changes of a tenant, at least one.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the shape in the API document; `parse_change` reads the body")]
pub struct TenantChangeBody {
    /// Whether the tenant's tokens are accepted.
    active: Option<bool>,
    /// The requests that its app tokens may send in a minute, over all replicas. 0 means no limit.
    requests_per_minute: Option<u32>,
    /// The entries that it may have in Postgres. 0 means no limit of its own.
    max_entries: Option<u64>,
    /// Whether another person must approve a data subject's request before it is executed.
    gdpr_approval: Option<bool>,
    /// The IANA name of the time zone in which days and months of deadlines are counted.
    time_zone: Option<String>,
    /// The days for which its data are kept, up to 36500. 0 means as the installation says.
    retention_days: Option<u32>,
}

/// A tenant of the installation.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantBody {
    /// The tenant's id.
    id: String,
    /// The tenant's name in commands and routes.
    slug: String,
    /// The tenant's name for people.
    name: String,
    /// Whether its tokens are accepted.
    active: bool,
    /// The time at which it was made.
    created_at: DateTime<Utc>,
    /// The requests that its app tokens may send in a minute, over all replicas. 0 means no limit.
    requests_per_minute: u32,
    /// The entries that it may have in Postgres. 0 means no limit of its own.
    max_entries: u64,
    /// Whether another person must approve a data subject's request before it is executed.
    gdpr_approval: bool,
    /// The IANA name of the time zone in which days and months of deadlines are counted.
    time_zone: String,
    /// The days for which its data are kept. 0 means as the installation says.
    retention_days: u32,
}

/// Every tenant of the installation.
#[derive(Serialize, ToSchema)]
pub struct TenantListBody {
    /// The tenants, ordered by slug.
    tenants: Vec<TenantBody>,
}

impl From<TenantRow> for TenantBody {
    fn from(row: TenantRow) -> Self {
        Self {
            id: row.id.to_string(),
            slug: row.slug,
            name: row.name,
            active: row.active,
            created_at: row.created_at,
            requests_per_minute: row.limits.requests_per_minute,
            max_entries: row.limits.max_entries,
            gdpr_approval: row.rules.approval,
            time_zone: row.rules.zone.name().to_owned(),
            retention_days: row.rules.retention_days,
        }
    }
}

/// The highest limit of requests in a minute. No machine serves more.
const MOST_REQUESTS: u64 = 1_000_000_000;
/// The highest limit of entries. No machine stores more.
const MOST_ENTRIES: u64 = 1_000_000_000_000;

/// The longest retention in days, a hundred years.
const MOST_DAYS: u64 = 36_500;

const NAME_RULE: &str = "1 to 200 bytes of UTF-8 without control characters";

/// Reads the name of a tenant. Returns `None` if it has the wrong length or a control character.
/// Postgres stores no text with the character 0, and no name needs any other control character.
fn parse_name(text: &str) -> Option<String> {
    let shown = !text.contains(char::is_control);
    (shown && (1..=200).contains(&text.len())).then(|| text.to_owned())
}

/// Returns the limits of requests in a minute and of entries that a body names. A limit is `None`
/// if the body does not name it.
fn parse_limits(fields: &mut Fields) -> (Option<u32>, Option<u64>) {
    let requests = fields.number("requestsPerMinute", 0..=MOST_REQUESTS);
    let requests = requests.and_then(|number| u32::try_from(number).ok());
    (requests, fields.number("maxEntries", 0..=MOST_ENTRIES))
}

fn parse_new(body: Json) -> Result<(TenantSlug, String, TenantLimits), Problem> {
    let mut fields = Fields::root(body)?;
    let slug = fields.parsed("slug", TenantSlug::RULE, TenantSlug::parse);
    let name = fields.parsed("name", NAME_RULE, parse_name);
    let (requests_per_minute, max_entries) = parse_limits(&mut fields);
    fields.finish()?;
    let limits = TenantLimits {
        requests_per_minute: requests_per_minute.unwrap_or(0),
        max_entries: max_entries.unwrap_or(0),
    };
    match (slug, name) {
        (Some(slug), Some(name)) => Ok((slug, name, limits)),
        (None, _) => Err(Problem::invalid_field("/slug", "is required")),
        (_, None) => Err(Problem::invalid_field("/name", "is required")),
    }
}

fn parse_change(body: Json) -> Result<TenantChange, Problem> {
    let mut fields = Fields::root(body)?;
    let active = fields.flag("active");
    let (requests_per_minute, max_entries) = parse_limits(&mut fields);
    let gdpr_approval = fields.flag("gdprApproval");
    let zone = fields.parsed("timeZone", "an IANA name such as Europe/Berlin", Zone::parse);
    let retention_days = fields.number("retentionDays", 0..=MOST_DAYS);
    let retention_days = retention_days.and_then(|days| u32::try_from(days).ok());
    fields.finish()?;
    let change = TenantChange {
        active,
        requests_per_minute,
        max_entries,
        gdpr_approval,
        zone,
        retention_days,
    };
    if change == TenantChange::default() {
        let rule = "must name something to change";
        return Err(Problem::invalid_field("", rule));
    }
    Ok(change)
}

fn slug_of(text: &str) -> Result<TenantSlug, Problem> {
    TenantSlug::parse(text).ok_or_else(Problem::not_found)
}

/// Lists every tenant.
#[utoipa::path(
    tag = "operators",
    responses((status = 200, description = "The tenants", body = TenantListBody)),
)]
#[get("/admin/tenants")]
pub async fn list_tenants(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let rows = state.administration.list_tenants().await?;
    let tenants = rows.into_iter().map(TenantBody::from).collect();
    Ok(HttpResponse::Ok().json(TenantListBody { tenants }))
}

/// Makes a tenant and its keys.
#[utoipa::path(
    tag = "operators",
    request_body = NewTenantBody,
    responses((status = 201, description = "The tenant", body = TenantBody)),
)]
#[post("/admin/tenants")]
pub async fn post_tenant(
    state: web::Data<State>,
    mut current: Current,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let (slug, name, limits) = parse_new(body::json(&state, &request, payload).await?)?;
    let call = current.call()?;
    let record = call.change(call.caller.tenant, Action::TenantCreate);
    let row = state.administration.create_tenant(&slug, &name, limits, record).await?;
    let location = format!("{}/{slug}", request.path());
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, location))
        .json(TenantBody::from(row)))
}

/// Changes the settings and limits of a tenant. They are in force from the reply on, on every
/// replica.
#[utoipa::path(
    tag = "operators",
    params(("slug" = String, Path, description = "The tenant")),
    request_body = TenantChangeBody,
    responses((status = 200, description = "The tenant", body = TenantBody)),
)]
#[patch("/admin/tenants/{slug}")]
pub async fn patch_tenant(
    state: web::Data<State>,
    mut current: Current,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let slug = slug_of(&path)?;
    let change = parse_change(body::json(&state, &request, payload).await?)?;
    let call = current.call()?;
    let record = call.change(call.caller.tenant, Action::TenantUpdate);
    let row = state.administration.update_tenant(&slug, change, record).await?;
    Ok(HttpResponse::Ok().json(TenantBody::from(row)))
}

/// Lists a tenant's tokens, without their secrets.
#[utoipa::path(
    tag = "operators",
    params(("slug" = String, Path, description = "The tenant")),
    responses((status = 200, description = "The tokens", body = TokenListBody)),
)]
#[get("/admin/tenants/{slug}/tokens")]
pub async fn list_tenant_tokens(
    state: web::Data<State>,
    mut current: Current,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let tenant = state.administration.find_tenant(&slug_of(&path)?).await?;
    current.call()?.note(|record| record.object = Some(tenant.id.0));
    let rows = state.administration.list_tokens(tenant.id).await?;
    Ok(HttpResponse::Ok().json(TokenListBody::from(rows)))
}

/// Makes an admin or compliance token of a tenant. The tenant's own audit trail shows it.
#[utoipa::path(
    tag = "operators",
    params(("slug" = String, Path, description = "The tenant")),
    request_body = NewTokenBody,
    responses((status = 201, description = "The token, shown this once", body = MadeTokenBody)),
)]
#[post("/admin/tenants/{slug}/tokens")]
pub async fn post_tenant_token(
    state: web::Data<State>,
    mut current: Current,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let new = tokens::parse(body::json(&state, &request, payload).await?)?;
    let tenant = state.administration.find_tenant(&slug_of(&path)?).await?;
    let token = tokens::make(&state, &mut current, tenant.id, Role::Operator, &new).await?;
    Ok(tokens::made(&token, request.path()))
}

/// Revokes a tenant's token.
#[utoipa::path(
    tag = "operators",
    params(
        ("slug" = String, Path, description = "The tenant"),
        ("tokenId" = String, Path, description = "The token's id"),
    ),
    responses((status = 204, description = "Revoked")),
)]
#[delete("/admin/tenants/{slug}/tokens/{tokenId}")]
pub async fn delete_tenant_token(
    state: web::Data<State>,
    mut current: Current,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (slug, id) = path.into_inner();
    let tenant = state.administration.find_tenant(&slug_of(&slug)?).await?;
    let id = TokenId::parse(&id).ok_or_else(Problem::not_found)?;
    let record = current.call()?.change(tenant.id, Action::TokenRevoke);
    state.administration.revoke_token(tenant.id, id, record).await?;
    Ok(HttpResponse::NoContent().finish())
}
