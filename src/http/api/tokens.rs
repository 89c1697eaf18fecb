//! Handles `/api/ai-cache/tokens`, which makes, lists and revokes tokens of the caller's own
//! tenant. The file `tenants` uses the same bodies.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::administration::{Grant, NewTokenText, TokenRequest};
use crate::domain::action::Action;
use crate::domain::caller::{Role, Roles};
use crate::domain::fields::Fields;
use crate::domain::ids::{TenantId, TokenId};
use crate::domain::json::Json;
use crate::http::State;
use crate::http::body;
use crate::http::current::Current;
use crate::http::problem::Problem;
use crate::store::tokens::TokenRow;

/// The longest life of a token, ten years.
const MAX_LIFE_SECONDS: u64 = 315_360_000;

/// The token to make.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the shape in the API document; `parse` reads the body")]
pub struct NewTokenBody {
    /// The roles, at least one of app, admin, compliance, operator. The caller must be allowed to
    /// grant each.
    roles: Vec<String>,
    /// The seconds until the token expires. It never expires when this is absent.
    expires_in_seconds: Option<u64>,
}

/// A token that was made.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MadeTokenBody {
    /// The token's id.
    id: String,
    /// The token's roles.
    roles: Vec<String>,
    /// The time at which the token expires; null: never.
    #[schema(required)]
    expires_at: Option<DateTime<Utc>>,
    /// The token itself. It is shown only here.
    token: String,
}

/// A token without its secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenBody {
    /// The token's id.
    id: String,
    /// The token's roles.
    roles: Vec<String>,
    /// The time at which the token was made.
    created_at: DateTime<Utc>,
    /// The time at which the token expires; null: never.
    #[schema(required)]
    expires_at: Option<DateTime<Utc>>,
    /// The time at which the token was revoked; null: it was not.
    #[schema(required)]
    revoked_at: Option<DateTime<Utc>>,
}

/// The tokens of a tenant.
#[derive(Serialize, ToSchema)]
pub struct TokenListBody {
    /// The tokens, newest first.
    tokens: Vec<TokenBody>,
}

impl From<Vec<TokenRow>> for TokenListBody {
    fn from(rows: Vec<TokenRow>) -> Self {
        let body = |row: TokenRow| TokenBody {
            id: row.id.to_string(),
            roles: row.roles.names(),
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        };
        Self { tokens: rows.into_iter().map(body).collect() }
    }
}

/// The token that a request asks for.
pub(super) struct AskedToken {
    roles: Roles,
    expires_in: Option<TimeDelta>,
}

/// Reads the body of a request for a token.
pub(super) fn parse(body: Json) -> Result<AskedToken, Problem> {
    let mut fields = Fields::root(body)?;
    let names = fields.texts("roles", 4, 1..=32).unwrap_or_default();
    let roles: Option<Roles> = names.iter().map(|name| Role::parse(name)).collect();
    if roles.is_none_or(Roles::is_empty) {
        fields.refuse("roles", "must hold at least one of app, admin, compliance, operator");
    }
    let seconds = fields.number("expiresInSeconds", 1..=MAX_LIFE_SECONDS);
    fields.finish()?;
    let expires_in = seconds.and_then(|seconds| i64::try_from(seconds).ok());
    Ok(AskedToken {
        roles: roles.unwrap_or_default(),
        expires_in: expires_in.map(TimeDelta::seconds),
    })
}

/// Makes a token of `tenant`. The caller grants it in `role`: only the grants that this role allows
/// count, whatever other roles the caller has.
pub(super) async fn make(
    state: &State,
    current: &mut Current,
    tenant: TenantId,
    role: Role,
    new: &AskedToken,
) -> Result<NewTokenText, Problem> {
    let call = current.call()?;
    let grant = Grant::By(call.caller.token, [role].into_iter().collect());
    let record = call.change(tenant, Action::TokenCreate);
    let expires_at = new.expires_in.map(|life| state.clock.now() + life);
    let request = TokenRequest { tenant, roles: new.roles, expires_at };
    Ok(state.administration.create_token(request, grant, record).await?)
}

/// Makes the reply that shows a new token. No cache may keep the reply.
pub(super) fn made(new: &NewTokenText, location: &str) -> HttpResponse {
    let body = MadeTokenBody {
        id: new.row.id.to_string(),
        roles: new.row.roles.names(),
        expires_at: new.row.expires_at,
        token: new.text.to_string(),
    };
    HttpResponse::Created()
        .insert_header((header::LOCATION, format!("{location}/{}", new.row.id)))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(body)
}

/// Lists the tenant's tokens, without their secrets.
#[utoipa::path(
    tag = "tokens",
    responses((status = 200, description = "The tokens", body = TokenListBody)),
)]
#[get("/tokens")]
pub async fn list_tokens(
    state: web::Data<State>,
    mut current: Current,
) -> Result<HttpResponse, Problem> {
    let tenant = current.call()?.caller.tenant;
    let rows = state.administration.list_tokens(tenant).await?;
    Ok(HttpResponse::Ok().json(TokenListBody::from(rows)))
}

/// Makes a token of the tenant: with the roles app and admin only.
#[utoipa::path(
    tag = "tokens",
    request_body = NewTokenBody,
    responses((status = 201, description = "The token, shown this once", body = MadeTokenBody)),
)]
#[post("/tokens")]
pub async fn post_token(
    state: web::Data<State>,
    mut current: Current,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let new = parse(body::json(&state, &request, payload).await?)?;
    let tenant = current.call()?.caller.tenant;
    let token = make(&state, &mut current, tenant, Role::Admin, &new).await?;
    Ok(made(&token, request.path()))
}

/// Revokes a token of the tenant.
#[utoipa::path(
    tag = "tokens",
    params(("tokenId" = String, Path, description = "The token's id")),
    responses((status = 204, description = "Revoked")),
)]
#[delete("/tokens/{tokenId}")]
pub async fn delete_token(
    state: web::Data<State>,
    mut current: Current,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = TokenId::parse(&path).ok_or_else(Problem::not_found)?;
    let call = current.call()?;
    let tenant = call.caller.tenant;
    let record = call.change(tenant, Action::TokenRevoke);
    state.administration.revoke_token(tenant, id, record).await?;
    Ok(HttpResponse::NoContent().finish())
}
