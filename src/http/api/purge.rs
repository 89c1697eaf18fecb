//! Handles `/api/ai-cache/admin/purge`, which removes or lists the data of all tenants that are
//! past their retention.

use actix_web::{HttpRequest, HttpResponse, post, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::compliance::{Amounts, PartReport, Purge, PurgeReport, TenantReport};
use crate::domain::action::Action;
use crate::domain::fields::Fields;
use crate::domain::json::Json;
use crate::http::State;
use crate::http::body;
use crate::http::current::Current;
use crate::http::problem::Problem;

/// How to run a purge.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the shape in the API document; `parse` reads the body")]
pub struct PurgeBody {
    /// Whether the data that are due are only listed, and nothing is removed.
    dry_run: Option<bool>,
    /// Whether an operator confirms a run that waits because it would remove much or a clock
    /// jumped.
    confirm: Option<bool>,
}

/// The numbers of things that are due, or were removed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AmountsBody {
    /// The entries that are older than the retention.
    entries: u64,
    /// The rows of metrics.
    metrics: u64,
    /// The packages of exports that have expired.
    exports: u64,
    /// The closed requests of data subjects.
    requests: u64,
    /// The names of persons in requests that were completed 90 days ago.
    subjects: u64,
}

/// A partition of the audit trail whose rows are past their class.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PurgePartBody {
    /// Its name.
    name: String,
    /// The number of its rows.
    rows: u64,
    /// `due`, `dropped`, `held` (a legal hold keeps a row of it) or `busy` (a reader kept it).
    fate: &'static str,
}

/// The data of a tenant that are due, or were removed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantPurgeBody {
    /// The tenant's name in commands and routes.
    tenant: String,
    /// The time before which data are past their retention.
    cutoff: DateTime<Utc>,
    /// Whether a legal hold keeps everything of the tenant.
    held: bool,
    /// The entries past their retention that a legal hold or a restriction keeps.
    kept: u64,
    /// The numbers of things that are due, or were removed.
    #[serde(flatten)]
    amounts: AmountsBody,
}

/// The outcome of a purge.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PurgeReportBody {
    /// The id of the run.
    run_id: String,
    /// The time at which it began.
    begun_at: DateTime<Utc>,
    /// `done`, `waiting` (nothing was removed until the run is confirmed) or `dry-run`.
    state: &'static str,
    /// Why the run waits: `clocks-differ`, `clock-jumped`, `many-entries` or `many-records`; null
    /// when it does not.
    #[schema(required)]
    reason: Option<&'static str>,
    /// The numbers over all tenants.
    #[serde(flatten)]
    amounts: AmountsBody,
    /// The audit records in partitions that are due and not held, or that were dropped.
    records: u64,
    /// The partitions of the audit trail that are due.
    partitions: Vec<PurgePartBody>,
    /// The tenants of which something is due, or held.
    tenants: Vec<TenantPurgeBody>,
}

impl From<Amounts> for AmountsBody {
    fn from(amounts: Amounts) -> Self {
        let Amounts { entries, metrics, exports, requests, subjects } = amounts;
        Self { entries, metrics, exports, requests, subjects }
    }
}

impl From<PartReport> for PurgePartBody {
    fn from(part: PartReport) -> Self {
        Self { name: part.name, rows: part.rows, fate: part.fate.name() }
    }
}

impl From<TenantReport> for TenantPurgeBody {
    fn from(report: TenantReport) -> Self {
        let TenantReport { id: _, tenant, cutoff, held, kept, amounts } = report;
        Self { tenant, cutoff, held, kept, amounts: amounts.into() }
    }
}

impl From<PurgeReport> for PurgeReportBody {
    fn from(report: PurgeReport) -> Self {
        Self {
            run_id: report.run_id.to_string(),
            begun_at: report.begun_at,
            state: report.state.name(),
            reason: report.reason.map(crate::compliance::WaitReason::name),
            amounts: report.amounts.into(),
            records: report.records,
            partitions: report.partitions.into_iter().map(PurgePartBody::from).collect(),
            tenants: report.tenants.into_iter().map(TenantPurgeBody::from).collect(),
        }
    }
}

fn parse(body: Json) -> Result<Purge, Problem> {
    let mut fields = Fields::root(body)?;
    let dry_run = fields.flag("dryRun").unwrap_or(false);
    let confirm = fields.flag("confirm").unwrap_or(false);
    if dry_run && confirm {
        fields.refuse("confirm", "must not be true of a dry run");
    }
    fields.finish()?;
    Ok(match (dry_run, confirm) {
        (true, _) => Purge::DryRun,
        (false, true) => Purge::Confirmed,
        (false, false) => Purge::Guarded,
    })
}

/// Removes the data of all tenants that are past their retention, except those that a legal hold or
/// a restriction keeps. A run that looks like a mistake removes nothing and waits to be confirmed.
#[utoipa::path(
    tag = "operators",
    request_body = PurgeBody,
    responses((status = 200, description = "The data that were removed, or are due", body = PurgeReportBody)),
)]
#[post("/admin/purge")]
pub async fn post_purge(
    state: web::Data<State>,
    mut current: Current,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let how = parse(body::json(&state, &request, payload).await?)?;
    let call = current.call()?;
    let record = call.change(call.caller.tenant, Action::Purge);
    let report = state.compliance.purge(how, record).await?;
    Ok(HttpResponse::Ok().json(PurgeReportBody::from(report)))
}
