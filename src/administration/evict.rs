//! Keeps the cold tier within its limits. It removes the entries that nobody can be given any more,
//! then the least recently used of the surplus. One replica does it for all, in batches with a
//! record each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use crate::crypto;
use crate::domain::action::Action;
use crate::domain::audit_record::AuditRecord;
use crate::domain::cache_key::CacheKey;
use crate::domain::ids::TenantId;
use crate::domain::selector::Generation;
use crate::keyring::KeyringError;
use crate::store::evictions::{self, Bounds, Counted, Sample, Unusable};
use crate::store::{self, Ending, StoreError, SystemTx};
use crate::telemetry::Eviction;

use super::Administration;
use crate::call::ServiceError;

/// The most entries of one batch.
const BATCH: i64 = 500;

/// The number of entries that are looked at for a batch, and the share of them that may go: an
/// entry of the more lately used half stays. A tenant with no more entries is looked at whole.
const SAMPLE: i64 = 2_000;
const SHARE: f64 = 0.25;

/// The places where samples begin. Each begins the golden part of all keys behind the one before,
/// so that no part of the keys is looked at much more often than another (a Weyl sequence). Random
/// places would meet some part so often that only its latest used entries are left.
#[derive(Debug)]
pub(super) struct Samples(AtomicU64);

impl Samples {
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

    /// Begins at any place.
    pub(super) fn new(now: DateTime<Utc>) -> Self {
        Self(AtomicU64::new(now.timestamp_micros().cast_unsigned().wrapping_mul(Self::STEP)))
    }

    /// Returns the place where the next sample begins.
    fn next(&self) -> CacheKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.0.fetch_add(Self::STEP, Ordering::Relaxed).to_be_bytes());
        CacheKey(key)
    }
}

/// The longest time for which one turn removes entries of either kind. The rest is left for the
/// next turn. It is less than a transaction may be idle (15 s), because the turn is one.
const LIMIT: Duration = Duration::from_secs(5);

/// The longest time of a whole turn. It covers the two searches, which are three statements that
/// Postgres ends after 10 s each, and twice [`LIMIT`] together with the batch that is under way at
/// its end.
const TURN_LIMIT: Duration = Duration::from_mins(1);

/// The limits of the cold tier.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// The most entries of all tenants together.
    pub max_entries: u64,
    /// The time for which an entry is of use after its own time.
    pub usable_for: TimeDelta,
}

/// The number of entries that a turn removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Entries that had expired, or were of an older generation.
    pub unusable: u64,
    /// Good entries that were too many.
    pub idle: u64,
}

/// The entries of one batch.
#[derive(Debug, Clone, Copy)]
enum EvictBatch {
    Unusable { expired: DateTime<Utc>, generation: Generation },
    Idle { sample: Sample, most: i64 },
}

/// The surplus of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Excess {
    tenant: TenantId,
    entries: u64,
    left: u64,
}

/// Each tenant gives up the entries beyond its own limit. The surplus that is left in all is shared
/// in proportion to what each tenant has then, rounded up.
fn excesses(counted: &[Counted], most: u64) -> Vec<Excess> {
    let own = |tenant: &Counted| match tenant.most {
        0 => 0,
        most => tenant.entries.saturating_sub(most),
    };
    let kept: u64 = counted.iter().map(|tenant| tenant.entries - own(tenant)).sum();
    let over = u128::from(kept.saturating_sub(most));
    let excess = |tenant: &Counted| {
        let rest = tenant.entries - own(tenant);
        let share = (over * u128::from(rest)).div_ceil(u128::from(kept.max(1)));
        let left = own(tenant) + u64::try_from(share).unwrap_or(rest);
        Excess { tenant: tenant.tenant, entries: tenant.entries, left }
    };
    counted.iter().map(excess).filter(|excess| excess.left > 0).collect()
}

impl Administration {
    /// Takes one turn, if this is the eldest replica. All replicas count alike, so one does it for
    /// all.
    pub async fn evict_if_eldest(&self) -> Result<Option<Evicted>, ServiceError> {
        if self.parts.coherence.is_eldest() { self.evict().await } else { Ok(None) }
    }

    /// Takes one turn at evicting and returns what was removed. `None` means that another replica has
    /// the turn.
    pub async fn evict(&self) -> Result<Option<Evicted>, ServiceError> {
        let store = self.parts.store.within(TURN_LIMIT);
        let turn = store.system("keep the turn to evict", async |mut turn| {
            if !evictions::take_turn(&mut turn).await? {
                return Ok::<_, StoreError>(None);
            }
            let mut evicted = Evicted::default();
            // Every batch commits by itself, so the turn must not begin anew when a batch fails: the
            // error is a value of the turn.
            let done = self.evict_all(&mut turn, &mut evicted).await;
            Ok(Some((evicted, done)))
        });
        let Some((evicted, done)) = turn.await? else { return Ok(None) };
        let Evicted { unusable, idle } = evicted;
        if unusable + idle > 0 {
            tracing::info!(unusable, idle, "entries were evicted");
        }
        done.map(|()| Some(evicted))
    }

    async fn evict_all(
        &self,
        turn: &mut SystemTx,
        evicted: &mut Evicted,
    ) -> Result<(), ServiceError> {
        // A random tenant comes first, so that every tenant has its turn also when time is short.
        let [random, ..] = crypto::random::<1>().map_err(KeyringError::from)?;
        if self.evict_unusable(turn, evicted, random).await? {
            self.evict_idle(turn, evicted, random).await?;
        }
        Ok(())
    }

    /// Removes unusable entries. Returns whether all could be removed in time.
    async fn evict_unusable(
        &self,
        turn: &mut SystemTx,
        evicted: &mut Evicted,
        random: u8,
    ) -> Result<bool, ServiceError> {
        let now = self.parts.clock.now();
        let expired = now - self.parts.capacity.usable_for;
        let mut tenants = evictions::list_unusable(turn, expired, now).await?;
        turn_by(&mut tenants, random);
        // The time of the search does not count.
        let until = Instant::now() + LIMIT;
        while !tenants.is_empty() {
            let mut left = Vec::new();
            for unusable in tenants {
                if Instant::now() >= until {
                    return Ok(false);
                }
                let Unusable { tenant, generation } = unusable;
                let batch = EvictBatch::Unusable { expired, generation };
                let gone = self.evict_batch(tenant, batch).await?;
                evicted.unusable += gone;
                if gone >= BATCH.unsigned_abs() {
                    left.push(unusable);
                }
            }
            tenants = left;
        }
        Ok(true)
    }

    async fn evict_idle(
        &self,
        turn: &mut SystemTx,
        evicted: &mut Evicted,
        random: u8,
    ) -> Result<(), ServiceError> {
        let counted = evictions::count(turn, random).await?;
        let mut tenants = excesses(&counted, self.parts.capacity.max_entries);
        turn_by(&mut tenants, random);
        // The time of the counting does not count.
        let until = Instant::now() + LIMIT;
        while !tenants.is_empty() {
            for excess in &mut tenants {
                if Instant::now() >= until {
                    return Ok(());
                }
                let whole = excess.entries <= SAMPLE.unsigned_abs();
                let from = if whole { CacheKey([0; 32]) } else { self.samples.next() };
                let share = if whole { 1.0 } else { SHARE };
                let sample = Sample { from, size: SAMPLE, share };
                let most = i64::try_from(excess.left).unwrap_or(BATCH).min(BATCH);
                let gone =
                    self.evict_batch(excess.tenant, EvictBatch::Idle { sample, most }).await?;
                evicted.idle += gone;
                excess.entries = excess.entries.saturating_sub(gone);
                // If none are gone, others hold them or the count was too high. The next turn will
                // see.
                excess.left = if gone == 0 { 0 } else { excess.left.saturating_sub(gone) };
            }
            tenants.retain(|excess| excess.left > 0);
        }
        Ok(())
    }

    /// Removes one tenant's batch together with its record. Returns the number of removed entries.
    async fn evict_batch(&self, tenant: TenantId, batch: EvictBatch) -> Result<u64, StoreError> {
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        let removed = store.change("evict a batch of entries", tenant, async |mut tx| {
            let gone = match batch {
                EvictBatch::Unusable { expired, generation } => {
                    let bounds = Bounds { expired, generation, now };
                    evictions::delete_unusable(&mut tx, bounds, BATCH).await?
                }
                EvictBatch::Idle { sample, most } => {
                    evictions::delete_idle(&mut tx, sample, most, now).await?
                }
            };
            if gone == 0 {
                return Ok::<_, StoreError>(Ending::RollBack(0));
            }
            let count = i64::try_from(gone).unwrap_or(i64::MAX);
            let record = self.parts.calls.service_record(
                tenant,
                self.parts.calls.fresh_request(),
                Action::Evict,
            );
            let row = self.parts.audit.stamp(AuditRecord { count, ..record });
            let recorded = store::audit::insert(&mut tx, &row).await?;
            Ok(Ending::Commit(recorded, gone))
        });
        let gone = removed.await?;
        let reason = match batch {
            EvictBatch::Unusable { .. } => Eviction::Unusable,
            EvictBatch::Idle { .. } => Eviction::Idle,
        };
        self.parts.metrics.evicted(reason, gone);
        Ok(gone)
    }
}

fn turn_by<T>(tenants: &mut [T], random: u8) {
    if !tenants.is_empty() {
        tenants.rotate_left(usize::from(random) * tenants.len() / 256);
    }
}
