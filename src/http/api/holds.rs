//! Handles `/api/ai-cache/gdpr/legal-holds`, which lists, sets and lifts legal holds.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, get, put, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::compliance::{HoldView, NewHoldText};
use crate::domain::action::Action;
use crate::domain::fields::Fields;
use crate::domain::ids::HoldId;
use crate::domain::json::Json;
use crate::domain::query;
use crate::http::State;
use crate::http::body;
use crate::http::current::Current;
use crate::http::problem::Problem;

/// The legal hold to set, or the one to lift.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the shape in the API document; `parse` reads the body")]
pub struct HoldChangeBody {
    /// To set a hold: the person. Without it everything of the tenant is held.
    subject_id: Option<String>,
    /// To set a hold: the time from which it is in force; from now on when absent.
    from: Option<DateTime<Utc>>,
    /// To set a hold: the time until which it is in force; until it is lifted when absent.
    until: Option<DateTime<Utc>>,
    /// To lift a hold: the hold's id.
    hold_id: Option<String>,
    /// Whether the hold `holdId` is lifted. Otherwise a hold is set.
    lift: Option<bool>,
    /// The reason: 1 to 2,000 bytes.
    reason: String,
}

/// A legal hold.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldBody {
    /// The hold's id.
    id: String,
    /// The person; null when everything of the tenant is held.
    #[schema(required)]
    subject_id: Option<String>,
    /// The time from which it is in force.
    from: DateTime<Utc>,
    /// The time until which it is in force; null: until it is lifted.
    #[schema(required)]
    until: Option<DateTime<Utc>>,
    /// The reason why it was set.
    reason: String,
    /// The time at which it was set.
    set_at: DateTime<Utc>,
    /// The id of the token that set it; null: the command line did.
    #[schema(required)]
    set_by: Option<String>,
    /// The time at which it was lifted; null: it was not.
    #[schema(required)]
    lifted_at: Option<DateTime<Utc>>,
    /// The id of the token that lifted it; null: it was not lifted, or the command line lifted it.
    #[schema(required)]
    lifted_by: Option<String>,
    /// The reason why it was lifted; null: it was not.
    #[schema(required)]
    lift_reason: Option<String>,
}

/// The holds of a tenant.
#[derive(Serialize, ToSchema)]
pub struct HoldListBody {
    /// At most 1,000 holds. Those that are not lifted come first, the newest before the others.
    holds: Vec<HoldBody>,
}

impl From<HoldView> for HoldBody {
    fn from(view: HoldView) -> Self {
        let HoldView { row, subject, reason, lift_reason } = view;
        Self {
            id: row.id.to_string(),
            subject_id: subject,
            from: row.from,
            until: row.until,
            reason,
            set_at: row.set_at,
            set_by: row.set_by.map(|id| id.to_string()),
            lifted_at: row.lifted_at,
            lifted_by: row.lifted_by.map(|id| id.to_string()),
            lift_reason,
        }
    }
}

/// The change that a request asks for.
enum HoldChange {
    Set(NewHoldText),
    Lift(HoldId, String),
}

fn parse(body: Json, now: DateTime<Utc>) -> Result<HoldChange, Problem> {
    let mut fields = Fields::root(body)?;
    let required = |name: &str| Problem::invalid_field(name, "is required");
    let reason = fields.text("reason", 1..=2_000);
    if fields.flag("lift") == Some(true) {
        let id = fields.parsed("holdId", "the id of a legal hold", HoldId::parse);
        fields.finish()?;
        let id = id.ok_or_else(|| required("/holdId"))?;
        return Ok(HoldChange::Lift(id, reason.ok_or_else(|| required("/reason"))?));
    }
    let subject = query::read_subject(&mut fields);
    let from = fields.time("from");
    let until = fields.time("until");
    if until.is_some_and(|until| until <= from.unwrap_or(now) || until <= now) {
        fields.refuse("until", "must be after from, and in the future");
    }
    fields.finish()?;
    let reason = reason.ok_or_else(|| required("/reason"))?;
    Ok(HoldChange::Set(NewHoldText { subject, from, until, reason }))
}

/// Lists the legal holds of the tenant, including lifted ones.
#[utoipa::path(
    tag = "compliance",
    responses((status = 200, description = "The holds", body = HoldListBody)),
)]
#[get("/gdpr/legal-holds")]
pub async fn list_holds(
    state: web::Data<State>,
    mut current: Current,
) -> Result<HttpResponse, Problem> {
    let holds = state.compliance.list_holds(current.call()?, None).await?;
    let holds = holds.into_iter().map(HoldBody::from).collect();
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(HoldListBody { holds }))
}

/// Sets a legal hold on a person's data or on everything of the tenant, or lifts a hold. While a
/// hold is in force, nothing that it covers is removed, neither by a retention nor by a request.
#[utoipa::path(
    tag = "compliance",
    request_body = HoldChangeBody,
    responses((status = 200, description = "The hold", body = HoldBody)),
)]
#[put("/gdpr/legal-holds")]
pub async fn put_hold(
    state: web::Data<State>,
    mut current: Current,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let change = parse(body::json(&state, &request, payload).await?, state.clock.now())?;
    let call = current.call()?;
    let (compliance, tenant) = (&state.compliance, call.caller.tenant);
    let id = match change {
        HoldChange::Set(new) => {
            compliance.set_hold(&new, call.change(tenant, Action::HoldSet)).await?
        }
        HoldChange::Lift(id, reason) => {
            call.note(|record| record.action = Action::HoldLift);
            compliance.lift_hold(id, &reason, call.change(tenant, Action::HoldLift)).await?;
            id
        }
    };
    let shown = compliance.list_holds(call, Some(id)).await?;
    let hold = shown.into_iter().next().ok_or_else(Problem::not_found)?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(HoldBody::from(hold)))
}
