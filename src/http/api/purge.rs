//! `/api/ai-cache/admin/purge`: operators have what is past its retention removed, or told.

use actix_web::{HttpRequest, HttpResponse, post, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::compliance::{Amounts, PartReport, Purge, PurgeReport, TenantReport};
use crate::domain::audit_record::Action;
use crate::domain::fields::Fields;
use crate::domain::json::Json;
use crate::http::State;
use crate::http::body;
use crate::http::current::Current;
use crate::http::problem::{Problem, ProblemBody};

/// How to purge.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the shape in the API document; `parse` reads the body")]
pub struct PurgeBody {
    /// Only tell what is due.
    dry_run: Option<bool>,
    /// Remove it although it is much or a clock jumped: somebody has looked.
    confirm: Option<bool>,
}

/// How many of each kind are due, or were removed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AmountsBody {
    /// Entries made before the retention.
    entries: u64,
    /// Rows of metrics.
    metrics: u64,
    /// Packages of exports whose time is over.
    exports: u64,
    /// Closed requests of data subjects.
    requests: u64,
    /// Names of persons in requests completed 90 days ago.
    subjects: u64,
}

/// A partition of the audit trail whose rows are past their class.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PurgePartBody {
    /// Its name.
    name: String,
    /// Its rows.
    rows: u64,
    /// due, dropped, held (a legal hold keeps a row of it) or busy (it was being read).
    fate: &'static str,
}

/// What is due of a tenant's, or was removed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantPurgeBody {
    /// Its name in commands and routes.
    tenant: String,
    /// What was made before is past its retention.
    cutoff: DateTime<Utc>,
    /// Whether all of it is held.
    held: bool,
    /// Entries past it that a hold or a restriction keeps.
    kept: u64,
    /// What is due, or was removed.
    #[serde(flatten)]
    amounts: AmountsBody,
}

/// What is due, or was removed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PurgeReportBody {
    /// The run.
    run_id: String,
    /// When it began.
    begun_at: DateTime<Utc>,
    /// done, waiting (nothing was removed; it must be confirmed) or dry-run.
    state: &'static str,
    /// Why it waits: clocks-differ, clock-jumped, many-entries or many-records.
    #[schema(required)]
    reason: Option<&'static str>,
    /// Of all tenants.
    #[serde(flatten)]
    amounts: AmountsBody,
    /// Audit records in partitions that are due and not held, or that were dropped.
    records: u64,
    /// Partitions of the audit trail that are due.
    partitions: Vec<PurgePartBody>,
    /// Tenants of which something is due, or held.
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

/// Removes what is past its retention, of all tenants, save what a legal hold or a restriction keeps.
/// A run that looks like a mistake removes nothing and waits to be confirmed.
#[utoipa::path(
    tag = "operators",
    request_body = PurgeBody,
    responses(
        (status = 200, description = "What was removed, or is due", body = PurgeReportBody),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Failed", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = ["operator"])),
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
