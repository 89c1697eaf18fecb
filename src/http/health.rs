//! Shows health and metrics. They are open to everybody, so they must show only states and numbers,
//! and never those of a tenant.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::{HttpResponse, get, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::answering::Switch;
use crate::audit::Audit;
use crate::coherence::Coherence;
use crate::lifecycle::Lifecycle;
use crate::store::Store;
use crate::tiers::Stack;
use crate::upstream::Upstream;

use super::problem::{Problem, ProblemKind};
use super::{Monitoring, State};

/// The parts whose health is shown.
#[derive(Clone)]
pub struct HealthParts {
    /// Postgres.
    pub store: Store,
    /// The audit trail.
    pub audit: Audit,
    /// The knowledge of the invalidations that this process has followed.
    pub coherence: Arc<Coherence>,
    /// The tiers that hold answers: memory, Redis and Postgres.
    pub stack: Stack,
    /// The model that answers what is not cached.
    pub upstream: Arc<dyn Upstream>,
    /// The stop signals and tasks.
    pub lifecycle: Lifecycle,
    /// The switch that decides whether the cache takes part.
    pub switch: Switch,
}

/// The process serves requests.
#[derive(Serialize, ToSchema)]
pub struct StatusBody {
    /// `ok`.
    status: &'static str,
}

/// The parts that readiness depends on.
#[derive(Serialize, ToSchema)]
pub struct ReadyBody {
    /// `ready` or `not-ready`.
    status: &'static str,
    /// Whether Postgres answers: `up` or `down`. Hits are served without it for a while.
    postgres: &'static str,
    /// Whether records can be made durable, in Postgres or in the spool: `up` or `down`.
    audit: &'static str,
    /// Whether nothing that was erased may be here again, as it may after a restoration until
    /// `ai-cache restore apply-ledger` has been run: `up` or `down`.
    erasures: &'static str,
}

/// The state of a part.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartBody {
    /// `up`, `down` or `off`.
    state: &'static str,
    /// The time of a round trip in milliseconds; null where there is none.
    #[schema(required)]
    latency_ms: Option<f64>,
    /// The entries that this process holds; null where they are not counted.
    #[schema(required)]
    entries: Option<u64>,
    /// The size of those entries in bytes; null where it is not counted.
    #[schema(required)]
    bytes: Option<u64>,
    /// The highest size in bytes; null where there is none.
    #[schema(required)]
    capacity_bytes: Option<u64>,
}

/// The state of the cache.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheHealthBody {
    /// `ok` or `degraded`.
    status: &'static str,
    /// Whether the cache takes part.
    enabled: bool,
    /// The states of memory, Redis and Postgres.
    tiers: TiersBody,
    /// Whether answers may be served from memory and Redis.
    freshness: FreshnessBody,
    /// The state of the audit trail: `up`, `down` or `off`.
    audit: &'static str,
    /// Whether nothing that was erased may be here again: `up` or `down`.
    erasures: &'static str,
    /// The upstream's configured name.
    upstream: String,
    /// The share of hits in all answers of this process, 0 to 1.
    hit_rate: f64,
    /// The insecure development settings in force.
    insecure: Vec<&'static str>,
    /// The time of this reply.
    timestamp: DateTime<Utc>,
}

/// How far this process has followed the invalidations of all processes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FreshnessBody {
    /// Whether it is proven that none was missed. Without the proof every question is a miss in
    /// memory and in Redis.
    proven: bool,
    /// The position of the last invalidation that was followed.
    position: i64,
    /// The number of processes that follow the invalidations, including this one.
    live_replicas: u32,
}

/// The state of each tier.
#[derive(Serialize, ToSchema)]
pub struct TiersBody {
    /// The memory of this process.
    hot: PartBody,
    /// Redis.
    warm: PartBody,
    /// Postgres.
    cold: PartBody,
}

const UP: &str = "up";
const DOWN: &str = "down";
const OFF: &str = "off";

fn part(state: &'static str, latency: Option<Duration>) -> PartBody {
    let latency_ms = latency.map(|latency| latency.as_secs_f64() * 1_000.0);
    PartBody { state, latency_ms, entries: None, bytes: None, capacity_bytes: None }
}

/// Shows that the process serves requests. It asks no other part of the service.
#[utoipa::path(tag = "health", responses((status = 200, description = "The process serves", body = StatusBody)))]
#[get("/health")]
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(StatusBody { status: "ok" })
}

/// Shows that the process serves requests, under the path of the replaced system.
#[utoipa::path(tag = "health", responses((status = 200, description = "The process serves", body = StatusBody)))]
#[get("/api/health")]
pub async fn api_health() -> HttpResponse {
    HttpResponse::Ok().json(StatusBody { status: "ok" })
}

/// The longest time that readiness waits for Postgres. Load balancers do not wait long.
const PROBE: Duration = Duration::from_millis(500);

/// Shows whether the process can serve requests and record them.
#[utoipa::path(
    tag = "health",
    responses(
        (status = 200, description = "The process is ready", body = ReadyBody),
        (status = 503, description = "The process is not ready", body = ReadyBody),
    ),
)]
#[get("/health/ready")]
pub async fn ready(state: web::Data<State>) -> HttpResponse {
    let parts = &state.health;
    let trail = parts.audit.clone();
    let looking = parts.lifecycle.spawn_blocking(move || trail.look());
    let asking = tokio::time::timeout(PROBE, parts.store.ping());
    let (looked, asked) = tokio::join!(looking, asking);
    let postgres = if matches!(asked, Ok(Ok(()))) { UP } else { DOWN };
    // Postgres is not needed to be ready: without it, hits are served and audited into the spool.
    let audit = if looked.unwrap_or(false) { UP } else { DOWN };
    let erasures = erasures(&state);
    let is_ready = audit == UP && erasures == UP && !parts.lifecycle.is_stopping();
    let status = if is_ready { "ready" } else { "not-ready" };
    let body = ReadyBody { status, postgres, audit, erasures };
    if is_ready {
        HttpResponse::Ok().json(body)
    } else {
        HttpResponse::ServiceUnavailable().json(body)
    }
}

/// Returns `up` if nothing that was erased may be here again, and `down` otherwise.
fn erasures(state: &State) -> &'static str {
    if state.compliance.erasures_hold() { UP } else { DOWN }
}

/// Shows the states and latencies of the tiers.
#[utoipa::path(tag = "health", responses((status = 200, description = "The state", body = CacheHealthBody)))]
#[get("/health/cache")]
pub async fn cache(state: web::Data<State>) -> HttpResponse {
    let parts = &state.health;
    let asked = Instant::now();
    let cold = match parts.store.ping().await {
        Ok(()) => part(UP, Some(asked.elapsed())),
        Err(_) => part(DOWN, None),
    };
    let warm = match parts.stack.warm.ping().await {
        None => part(OFF, None),
        Some(Ok(latency)) => part(UP, Some(latency)),
        Some(Err(_)) => part(DOWN, None),
    };
    let hot = &parts.stack.hot;
    let hot = PartBody {
        entries: Some(u64::try_from(hot.len()).unwrap_or(u64::MAX)),
        bytes: Some(hot.bytes()),
        capacity_bytes: Some(hot.capacity()),
        ..part(UP, None)
    };
    let audit = match (parts.audit.is_on(), parts.audit.is_available()) {
        (false, _) => OFF,
        (true, true) => UP,
        (true, false) => DOWN,
    };
    let coherence = &parts.coherence;
    let freshness = FreshnessBody {
        proven: coherence.is_proven(),
        position: coherence.position().0,
        live_replicas: coherence.live_replicas(),
    };
    let erasures = erasures(&state);
    let degraded = [cold.state, warm.state, audit, erasures].contains(&DOWN) || !freshness.proven;
    HttpResponse::Ok().json(CacheHealthBody {
        status: if degraded { "degraded" } else { "ok" },
        enabled: parts.switch == Switch::On,
        tiers: TiersBody { hot, warm, cold },
        freshness,
        audit,
        erasures,
        upstream: parts.upstream.name().to_owned(),
        hit_rate: state.metrics.hit_rate(),
        insecure: state.insecure.clone(),
        timestamp: state.clock.now(),
    })
}

/// Shows the metrics for Prometheus.
#[utoipa::path(
    tag = "health",
    responses(
        (status = 200, description = "Text exposition format 0.0.4", body = String, content_type = "text/plain"),
        (status = "4XX", description = "Monitoring is off"),
        (status = "5XX", description = "Failed"),
    ),
)]
#[get("/api/metrics")]
pub async fn metrics(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    if state.monitoring == Monitoring::Off {
        return Err(Problem::not_found());
    }
    let parts = &state.health;
    let hot = &parts.stack.hot;
    state.metrics.hot_tier(hot.bytes(), hot.capacity(), hot.len());
    state.metrics.unproven(parts.coherence.unproven_for());
    let text = state.metrics.render().map_err(|error| {
        tracing::error!(%error, "metrics cannot be rendered");
        Problem::new(ProblemKind::Internal, "the series cannot be written")
    })?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}
