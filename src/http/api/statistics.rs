//! Handles `GET /api/ai-cache/statistics`, which shows a tenant's statistics.

use actix_web::{HttpRequest, HttpResponse, get, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::answering::{StatisticsView, TierView};
use crate::domain::entry::Tier;
use crate::domain::operation::Operation;
use crate::http::State;
use crate::http::current::Current;
use crate::http::problem::Problem;
use crate::http::query_string::Parameters;

/// A tenant's statistics.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatisticsBody {
    /// Whether the cache takes part.
    enabled: bool,
    /// The answers that came from the cache.
    hits: u64,
    /// The answers that were not in the cache.
    misses: u64,
    /// The share of hits in all answers, 0 to 1.
    hit_rate: f64,
    /// The mean response time in milliseconds.
    average_response_time: f64,
    /// The median response time in milliseconds.
    p50_response_time: f64,
    /// The 95th percentile of the response time in milliseconds.
    p95_response_time: f64,
    /// The 99th percentile of the response time in milliseconds.
    p99_response_time: f64,
    /// The number of stored entries.
    cache_size: u64,
    /// The size of their sealed fields in bytes.
    cache_bytes: u64,
    /// The statistics of each tier.
    by_tier: ByTier,
    /// The cost that hits saved, in US dollars.
    cost_saved_usd: String,
    /// The tokens that hits saved.
    tokens_saved: u64,
    /// The entries that invalidations removed.
    invalidations: u64,
    /// The queries that failed.
    errors: u64,
    /// The calls of the upstream.
    upstream_calls: u64,
    /// The answers that came from another caller's fetch.
    collapsed: u64,
    /// The span of time that the counts cover. It begins with this process.
    window: Window,
}

/// The statistics of each tier.
#[derive(Serialize, ToSchema)]
pub struct ByTier {
    /// The memory of this process.
    hot: TierBody,
    /// Redis.
    warm: TierBody,
    /// Postgres.
    cold: TierBody,
}

/// The statistics of one tier.
#[derive(Serialize, ToSchema)]
pub struct TierBody {
    /// The answers that came from the tier.
    hits: u64,
    /// The entries of the tenant in the tier; null where the tier does not count them by tenant.
    #[schema(required)]
    entries: Option<u64>,
    /// The size of those entries in bytes; null where the tier does not count it by tenant.
    #[schema(required)]
    bytes: Option<u64>,
}

/// A span of time.
#[derive(Serialize, ToSchema)]
pub struct Window {
    /// The beginning.
    from: DateTime<Utc>,
    /// The end.
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

/// Shows what the tenant's cache has done since this process began.
#[utoipa::path(
    tag = "statistics",
    params(("operation" = Option<String>, Query, description = "Questions of this kind only")),
    responses((status = 200, description = "The statistics", body = StatisticsBody)),
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
