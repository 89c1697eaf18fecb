//! Health and metrics, open to everybody: states and numbers, never a tenant's.

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

use super::problem::{Problem, ProblemBody, ProblemKind};
use super::{Monitoring, State};

/// The parts whose health is shown.
#[derive(Clone)]
pub struct HealthParts {
    /// Postgres.
    pub store: Store,
    /// The audit trail.
    pub audit: Audit,
    /// What is still true.
    pub coherence: Arc<Coherence>,
    /// Memory, Redis and Postgres, where answers are.
    pub stack: Stack,
    /// The model that answers what is not cached.
    pub upstream: Arc<dyn Upstream>,
    /// Stop signals and tasks.
    pub lifecycle: Lifecycle,
    /// Whether the cache takes part.
    pub switch: Switch,
}

/// That the process serves.
#[derive(Serialize, ToSchema)]
pub struct StatusBody {
    /// `ok`.
    status: &'static str,
}

/// What readiness depends on.
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
    /// Round trip; null where there is none.
    #[schema(required)]
    latency_ms: Option<f64>,
    /// Entries held by this process; null where they are not counted.
    #[schema(required)]
    entries: Option<u64>,
    /// Their bytes.
    #[schema(required)]
    bytes: Option<u64>,
    /// Bytes allowed.
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
    /// Memory, Redis, Postgres.
    tiers: TiersBody,
    /// Whether memory and Redis may be served from.
    freshness: FreshnessBody,
    /// The audit trail: `up`, `down` or `off`.
    audit: &'static str,
    /// Whether nothing that was erased may be here again: `up` or `down`.
    erasures: &'static str,
    /// The upstream's configured name.
    upstream: String,
    /// Hits out of all answers of this process, 0 to 1.
    hit_rate: f64,
    /// Insecure development settings in force.
    insecure: Vec<&'static str>,
    /// When this was true.
    timestamp: DateTime<Utc>,
}

/// How this process stands to the invalidations of all.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FreshnessBody {
    /// Whether it is known that none was missed. If not, every question is a miss in memory and Redis.
    proven: bool,
    /// How far they were followed.
    position: i64,
    /// How many processes follow them, this one among them.
    live_replicas: u32,
}

/// Each tier.
#[derive(Serialize, ToSchema)]
pub struct TiersBody {
    /// Memory.
    hot: PartBody,
    /// Redis.
    warm: PartBody,
    /// Postgres.
    cold: PartBody,
}

fn up(is_up: bool) -> &'static str {
    if is_up { "up" } else { "down" }
}

fn part(state: &'static str, latency: Option<Duration>) -> PartBody {
    let latency_ms = latency.map(|latency| latency.as_secs_f64() * 1_000.0);
    PartBody { state, latency_ms, entries: None, bytes: None, capacity_bytes: None }
}

/// That the process serves; asks nothing of any other part.
#[utoipa::path(tag = "health", responses((status = 200, description = "It does", body = StatusBody)), security(()))]
#[get("/health")]
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(StatusBody { status: "ok" })
}

/// That the process serves, under the replaced system's path.
#[utoipa::path(tag = "health", responses((status = 200, description = "It does", body = StatusBody)), security(()))]
#[get("/api/health")]
pub async fn api_health() -> HttpResponse {
    HttpResponse::Ok().json(StatusBody { status: "ok" })
}

/// Longest wait for Postgres, and so for readiness: load balancers do not wait long.
const PROBE: Duration = Duration::from_millis(500);

/// Whether the process can serve and audit.
#[utoipa::path(
    tag = "health",
    responses(
        (status = 200, description = "It can", body = ReadyBody),
        (status = 503, description = "It cannot", body = ReadyBody),
    ),
    security(()),
)]
#[get("/health/ready")]
pub async fn ready(state: web::Data<State>) -> HttpResponse {
    let parts = &state.health;
    let trail = parts.audit.clone();
    let looking = parts.lifecycle.spawn_blocking(move || trail.look());
    let asking = tokio::time::timeout(PROBE, parts.store.ping());
    let (looked, asked) = tokio::join!(looking, asking);
    let postgres = matches!(asked, Ok(Ok(())));
    // Without Postgres hits are served, and audited into the spool.
    let audit = looked.unwrap_or(false);
    let erasures = state.compliance.erasures_hold();
    let is_ready = audit && erasures && !parts.lifecycle.is_stopping();
    let status = if is_ready { "ready" } else { "not-ready" };
    let (audit, erasures) = (up(audit), up(erasures));
    let body = ReadyBody { status, postgres: up(postgres), audit, erasures };
    if is_ready {
        HttpResponse::Ok().json(body)
    } else {
        HttpResponse::ServiceUnavailable().json(body)
    }
}

/// The tiers, their states and latencies.
#[utoipa::path(tag = "health", responses((status = 200, description = "The state", body = CacheHealthBody)), security(()))]
#[get("/health/cache")]
pub async fn cache(state: web::Data<State>) -> HttpResponse {
    let parts = &state.health;
    let asked = Instant::now();
    let postgres = parts.store.ping().await;
    let cold = part(up(postgres.is_ok()), postgres.is_ok().then(|| asked.elapsed()));
    let warm = match parts.stack.warm.ping().await {
        None => part("off", None),
        Some(Ok(latency)) => part("up", Some(latency)),
        Some(Err(_)) => part("down", None),
    };
    let hot = &parts.stack.hot;
    let hot = PartBody {
        entries: Some(u64::try_from(hot.len()).unwrap_or(u64::MAX)),
        bytes: Some(hot.bytes()),
        capacity_bytes: Some(hot.capacity()),
        ..part("up", None)
    };
    let audit = if parts.audit.is_on() { up(parts.audit.is_available()) } else { "off" };
    let coherence = &parts.coherence;
    let freshness = FreshnessBody {
        proven: coherence.is_proven(),
        position: coherence.position().0,
        live_replicas: coherence.live_replicas(),
    };
    let erasures = up(state.compliance.erasures_hold());
    let degraded = [cold.state, warm.state, audit, erasures].contains(&"down") || !freshness.proven;
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

/// The series for Prometheus.
#[utoipa::path(
    tag = "health",
    responses(
        (status = 200, description = "Text exposition format 0.0.4", body = String, content_type = "text/plain"),
        (status = "4XX", description = "Monitoring is off", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", description = "Failed", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(()),
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
