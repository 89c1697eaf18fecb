//! A tenant's statistics: the counts of this process, and the contents of the tiers.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::entry::Tier;
use crate::domain::ids::TenantId;
use crate::domain::operation::Operation;
use crate::store::entries;

use super::answered::{AnswerSource, Answered, QueryError};
use super::{Answering, Switch};
use crate::call::Totals;
use crate::call::{Call, ServiceError};

/// The contents and the hits of one tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TierView {
    /// Answers from the tier.
    pub hits: u64,
    /// Entries in the tier. `None`: the tier does not count them by tenant.
    pub entries: Option<u64>,
    /// The bytes of these entries. `None`: the tier does not count them by tenant.
    pub bytes: Option<u64>,
}

/// A tenant's statistics.
#[derive(Debug, Clone)]
pub struct StatisticsView {
    /// Whether the cache takes part.
    pub enabled: bool,
    /// The counts of questions.
    pub totals: Totals,
    /// Entries removed by invalidations.
    pub invalidations: u64,
    /// The tiers.
    pub tiers: [TierView; Tier::ALL.len()],
    /// The time since which was counted.
    pub from: DateTime<Utc>,
    /// The time until which was counted.
    pub to: DateTime<Utc>,
}

impl Answering {
    /// Returns the statistics of the caller's tenant, and records the reading.
    pub async fn statistics(
        &self,
        call: &Call,
        operation: Option<Operation>,
    ) -> Result<StatisticsView, ServiceError> {
        let tenant = call.caller.tenant;
        let now = self.parts.clock.now();
        let store = self.parts.store.long();
        let measured = store.read("measure a tenant's entries", tenant, async |mut tx| {
            entries::measure(&mut tx, call.view.generation(), now).await
        });
        let (cold_entries, cold_bytes) = measured.await?;
        let stats = self.parts.calls.stats.tenant(tenant);
        let totals = stats.totals(operation);
        let hot = Arc::clone(&self.parts.stack.hot);
        let counted = self.parts.lifecycle.spawn_blocking(move || hot.count(tenant)).await;
        let (hot_entries, hot_bytes) = counted.map_err(|_| ServiceError::TaskLost)?;
        let tier = |tier: Tier, counted: Option<(u64, u64)>| TierView {
            hits: totals.hits[tier.index()],
            entries: counted.map(|(entries, _)| entries),
            bytes: counted.map(|(_, bytes)| bytes),
        };
        let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
        let tiers = [
            tier(Tier::Hot, Some((hot_entries, hot_bytes))),
            tier(Tier::Warm, None),
            tier(Tier::Cold, Some((unsigned(cold_entries), unsigned(cold_bytes)))),
        ];
        Ok(StatisticsView {
            enabled: self.parts.switch == Switch::On,
            invalidations: stats.invalidations(),
            totals,
            tiers,
            from: self.parts.calls.stats.since,
            to: now,
        })
    }

    /// Counts an answered or failed question.
    pub(super) fn count(
        &self,
        tenant: TenantId,
        operation: Operation,
        answered: &Result<Answered, QueryError>,
        elapsed_us: u64,
    ) {
        let stats = self.parts.calls.stats.tenant(tenant);
        let stats = stats.operation(operation);
        let metrics = &self.parts.metrics;
        match answered {
            Err(QueryError::NotCached) => {
                stats.miss();
                metrics.miss(elapsed_us);
            }
            Err(_) => {
                stats.error();
                metrics.other(elapsed_us);
            }
            Ok(answered) => {
                stats.responded(elapsed_us);
                match answered.source {
                    AnswerSource::Tier(tier) | AnswerSource::Stale { tier, .. } => {
                        stats.hit(tier, answered.tokens_saved, answered.cost_saved);
                        metrics.hit(tier, elapsed_us);
                        if matches!(answered.source, AnswerSource::Stale { .. }) {
                            metrics.stale();
                        }
                        metrics.saved(answered.tokens_saved, answered.cost_saved);
                    }
                    AnswerSource::Upstream { collapsed, bypassed, .. } => {
                        if collapsed {
                            stats.collapsed();
                            metrics.collapsed();
                        }
                        if bypassed {
                            metrics.other(elapsed_us);
                        } else {
                            stats.miss();
                            metrics.miss(elapsed_us);
                        }
                    }
                    AnswerSource::Nowhere => {
                        stats.miss();
                        metrics.miss(elapsed_us);
                    }
                }
            }
        }
    }
}
