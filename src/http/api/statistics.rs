//! `GET /api/ai-cache/statistics`.

use actix_web::{HttpRequest, HttpResponse, get, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::answering::{StatisticsView, TierView};
use crate::domain::entry::Tier;
use crate::domain::operation::Operation;
use crate::http::State;
use crate::http::current::Current;
use crate::http::problem::{Problem, ProblemBody};
use crate::http::query_string::Parameters;

/// A tenant's statistics.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatisticsBody {
    /// Whether the cache takes part.
    enabled: bool,
    /// Answers from the cache.
    hits: u64,
    /// Answers that were not in it.
    misses: u64,
    /// Hits out of all answers, 0 to 1.
    hit_rate: f64,
    /// Mean in milliseconds.
    average_response_time: f64,
    /// In milliseconds.
    p50_response_time: f64,
    /// In milliseconds.
    p95_response_time: f64,
    /// In milliseconds.
    p99_response_time: f64,
    /// Entries stored.
    cache_size: u64,
    /// Bytes of their sealed fields.
    cache_bytes: u64,
    /// By tier.
    by_tier: ByTier,
    /// In US dollars.
    cost_saved_usd: String,
    /// Tokens not bought again.
    tokens_saved: u64,
    /// Entries removed by invalidations.
    invalidations: u64,
    /// Queries without a reply.
    errors: u64,
    /// Calls of the upstream.
    upstream_calls: u64,
    /// Answers shared with another caller's fetch.
    collapsed: u64,
    /// What the counts are over: since this process began.
    window: Window,
}

/// Each tier.
#[derive(Serialize, ToSchema)]
pub struct ByTier {
    /// Memory of this process.
    hot: TierBody,
    /// Redis.
    warm: TierBody,
    /// Postgres.
    cold: TierBody,
}

/// One tier.
#[derive(Serialize, ToSchema)]
pub struct TierBody {
    /// Answers from it.
    hits: u64,
    /// Entries in it; null where they are not counted by tenant.
    #[schema(required)]
    entries: Option<u64>,
    /// Their bytes; null where they are not counted by tenant.
    #[schema(required)]
    bytes: Option<u64>,
}

/// A span of time.
#[derive(Serialize, ToSchema)]
pub struct Window {
    /// Its begin.
    from: DateTime<Utc>,
    /// Its end.
    to: DateTime<Utc>,
}

impl From<TierView> for TierBody {
    fn from(view: TierView) -> Self {
        Self { hits: view.hits, entries: view.entries, bytes: view.bytes }
    }
}

impl From<StatisticsView> for StatisticsBody {
    fn from(view: StatisticsView) -> Self {
        let StatisticsView { enabled, totals, invalidations, tiers, from, to } = view;
        let cold = tiers[Tier::Cold.index()];
        Self {
            enabled,
            hits: totals.all_hits(),
            misses: totals.misses,
            hit_rate: totals.hit_rate(),
            average_response_time: totals.mean_ms(),
            p50_response_time: totals.percentile_ms(0.50),
            p95_response_time: totals.percentile_ms(0.95),
            p99_response_time: totals.percentile_ms(0.99),
            cache_size: cold.entries.unwrap_or(0),
            cache_bytes: cold.bytes.unwrap_or(0),
            by_tier: ByTier {
                hot: tiers[Tier::Hot.index()].into(),
                warm: tiers[Tier::Warm.index()].into(),
                cold: cold.into(),
            },
            cost_saved_usd: totals.cost_saved.to_string(),
            tokens_saved: totals.tokens_saved,
            invalidations,
            errors: totals.errors,
            upstream_calls: totals.upstream_calls,
            collapsed: totals.collapsed,
            window: Window { from, to },
        }
    }
}

/// What the tenant's cache did since this process began.
#[utoipa::path(
    tag = "statistics",
    params(("operation" = Option<String>, Query, description = "Of this kind only")),
    responses(
        (status = 200, description = "The statistics", body = StatisticsBody),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Failed", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = ["admin"])),
)]
#[get("/statistics")]
pub async fn get_statistics(
    state: web::Data<State>,
    mut current: Current,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::of(&request)?;
    let operation = parameters.parsed("operation", "a known operation", Operation::parse);
    parameters.finish()?;
    let view = state.answering.statistics(current.call()?, operation).await?;
    Ok(HttpResponse::Ok().json(StatisticsBody::from(view)))
}
