//! The parts that replicas share through Redis, or their substitutes when there is no Redis.

use std::sync::Arc;

use crate::coherence::FloorPlace;
use crate::domain::ids::TenantId;
use crate::lifecycle::Lifecycle;
use crate::redis::{FloorKey, Leases, LeasesOff, Redis, RedisLeases};
use crate::telemetry::Metrics;
use crate::tiers::{RedisTier, Warm, WarmOff};

use super::{AppError, AppSettings, Deps};

/// The uses of Redis.
pub(super) struct Shared {
    pub(super) warm: Arc<dyn Warm>,
    pub(super) leases: Arc<dyn Leases>,
    pub(super) floor: FloorPlace,
}

impl Shared {
    pub(super) fn start(
        settings: &AppSettings,
        deps: &Deps,
        installation: TenantId,
        metrics: &Arc<Metrics>,
        lifecycle: &Lifecycle,
    ) -> Result<Self, AppError> {
        let Some(redis) = &settings.redis else {
            let (warm, leases) = (Arc::new(WarmOff), Arc::new(LeasesOff));
            return Ok(Self { warm, leases, floor: FloorPlace::Nowhere });
        };
        let redis = Redis::new(redis, Arc::clone(&deps.clock), lifecycle)?;
        let leases = RedisLeases::new(redis.clone(), Arc::clone(metrics));
        let floor = FloorPlace::Redis {
            redis: redis.clone(),
            key: FloorKey::of(installation.0),
            ids: Arc::clone(&deps.ids),
            clock: Arc::clone(&deps.clock),
        };
        let (clock, metrics) = (Arc::clone(&deps.clock), Arc::clone(metrics));
        let warm = RedisTier::start(redis, clock, metrics, settings.stale, lifecycle);
        Ok(Self { warm: Arc::new(warm), leases: Arc::new(leases), floor })
    }
}
