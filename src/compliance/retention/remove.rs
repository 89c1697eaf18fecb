//! Removes what is due: the rows of each tenant in batches, then whole partitions of the trail.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::audit::make_partitions;
use crate::call::ServiceError;
use crate::compliance::Compliance;
use crate::domain::action::Action;
use crate::domain::audit_record::AuditRecord;
use crate::domain::ids::{RequestId, TenantId};
use crate::domain::selector::{Change, Selector};
use crate::store::retention::{self, NAMED_FOR};
use crate::store::{self, Ending, StoreError, WriteTx, audit_parts, invalidations};

use super::report::{Amounts, PartFate, PartReport, PurgeReport, TenantReport};

/// The most rows of one batch, and the most packages, whose parts are large.
const BATCH: i64 = 500;
const PACKAGES: i64 = 10;

/// The time for which a partition that somebody reads is waited for, and the time between tries.
/// Inserts may have to queue for up to a fifth of a second at each try.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_secs(1);

/// The kind of a tenant's rows that are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PurgedKind {
    Entries,
    Metrics,
    Exports,
    Subjects,
    Requests,
}

impl PurgedKind {
    const ALL: [Self; 5] =
        [Self::Entries, Self::Metrics, Self::Exports, Self::Subjects, Self::Requests];

    const fn of(self, amounts: &mut Amounts) -> &mut u64 {
        match self {
            Self::Entries => &mut amounts.entries,
            Self::Metrics => &mut amounts.metrics,
            Self::Exports => &mut amounts.exports,
            Self::Subjects => &mut amounts.subjects,
            Self::Requests => &mut amounts.requests,
        }
    }

    const fn batch(self) -> i64 {
        if matches!(self, Self::Exports) { PACKAGES } else { BATCH }
    }
}

impl Compliance {
    /// Removes what a report says is due. From then on the report tells what was removed.
    pub(super) async fn remove_due(
        &self,
        report: &mut PurgeReport,
        request: RequestId,
    ) -> Result<(), ServiceError> {
        // The records of the purge need the partitions of their month.
        make_partitions(&self.parts.store, self.parts.clock.now()).await?;
        let run = report.run_id;
        for tenant in &mut report.tenants {
            self.remove_of_tenant(run, tenant, request).await?;
        }
        for part in &mut report.partitions {
            if part.fate == PartFate::Due {
                self.remove_part(run, part, request).await?;
            }
        }
        report.add_up();
        Ok(())
    }

    async fn remove_of_tenant(
        &self,
        run: Uuid,
        tenant: &mut TenantReport,
        request: RequestId,
    ) -> Result<(), ServiceError> {
        for kind in PurgedKind::ALL {
            if std::mem::take(kind.of(&mut tenant.amounts)) == 0 {
                continue;
            }
            loop {
                let gone = self.remove_batch(tenant.id, tenant.cutoff, kind, request).await?;
                *kind.of(&mut tenant.amounts) += gone;
                self.prolong_purge(run).await?;
                if gone < kind.batch().unsigned_abs() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Prolongs the lease of a run. Fails if the lease ran out, so that the run goes no further.
    async fn prolong_purge(&self, run: Uuid) -> Result<(), ServiceError> {
        let store = &self.parts.store;
        let prolonged = store.system("prolong the claim of a purge", async |mut tx| {
            retention::prolong(&mut tx, run).await
        });
        if prolonged.await? { Ok(()) } else { Err(ServiceError::TaskLost) }
    }

    /// Removes a batch together with its record. Returns the number of removed rows.
    async fn remove_batch(
        &self,
        tenant: TenantId,
        cutoff: DateTime<Utc>,
        kind: PurgedKind,
        request: RequestId,
    ) -> Result<u64, StoreError> {
        let (store, now) = (self.parts.store.long(), self.parts.clock.now());
        let removed = store.change("remove what is past its retention", tenant, async |mut tx| {
            invalidations::lock_for_invalidation(&mut tx, now).await?;
            let most = kind.batch();
            let gone = match kind {
                PurgedKind::Entries => self.remove_entries(&mut tx, cutoff, now).await?,
                PurgedKind::Metrics => {
                    retention::delete_metrics(&mut tx, cutoff, now, most).await?
                }
                PurgedKind::Exports => retention::delete_exports(&mut tx, now, most).await?,
                PurgedKind::Requests => {
                    retention::delete_requests(&mut tx, cutoff, now, most).await?
                }
                PurgedKind::Subjects => {
                    retention::update_unnamed(&mut tx, now - NAMED_FOR, now, most).await?
                }
            };
            if gone == 0 {
                return Ok(Ending::RollBack(0));
            }
            let mut record = self.parts.calls.service_record(tenant, request, Action::Purge);
            record.count = i64::try_from(gone).unwrap_or(i64::MAX);
            let row = self.parts.audit.stamp(record);
            let recorded = store::audit::insert(&mut tx, &row).await?;
            Ok(Ending::Commit(recorded, gone))
        });
        removed.await
    }

    /// Removes a batch of entries that were made before `cutoff`, and invalidates those that memory
    /// or Redis may still hold. Returns the number of removed entries.
    async fn remove_entries(
        &self,
        tx: &mut WriteTx,
        cutoff: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let gone = retention::delete_entries(tx, cutoff, now, BATCH).await?;
        let useless = now - self.parts.usable_for;
        for (id, key, expires_at) in &gone {
            if *expires_at > useless {
                let selector = Selector::Entry { id: *id, key: Some(*key) };
                invalidations::append(tx, &Change::Entries(selector), now).await?;
            }
        }
        Ok(gone.len() as u64)
    }

    /// Drops a partition of the trail, or says why it stays.
    async fn remove_part(
        &self,
        run: Uuid,
        part: &mut PartReport,
        request: RequestId,
    ) -> Result<(), ServiceError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.try_remove_part(&part.name, request).await {
                Ok(Some(rows)) => (part.rows, part.fate) = (rows, PartFate::Dropped),
                Ok(None) => part.fate = PartFate::Held,
                Err(StoreError::Contended(_)) if Instant::now() < until => {
                    self.prolong_purge(run).await?;
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(StoreError::Contended(_)) => {
                    tracing::warn!(part = part.name, "a partition of the trail is being read");
                    part.fate = PartFate::Busy;
                }
                Err(error) => return Err(error.into()),
            }
            return Ok(());
        }
    }

    /// Drops a partition of the trail and returns the number of its rows. Returns `None` if a legal
    /// hold keeps one of its rows.
    async fn try_remove_part(
        &self,
        part: &str,
        request: RequestId,
    ) -> Result<Option<u64>, StoreError> {
        let store = self.parts.store.within(audit_parts::LIMIT);
        let (now, tenant) = (self.parts.clock.now(), self.parts.installation);
        let record = self.parts.calls.service_record(tenant, request, Action::AuditPurge);
        let dropped =
            store.change("drop a partition of the audit trail", tenant, async |mut tx| {
                let Some(rows) = audit_parts::delete(&mut tx, part, now, record.id).await? else {
                    return Ok(Ending::RollBack(None));
                };
                let object = audit_parts::find_object(&mut tx, part).await?;
                let count = i64::try_from(rows).unwrap_or(i64::MAX);
                let row = self.parts.audit.stamp(AuditRecord { object, count, ..record.clone() });
                let recorded = store::audit::insert(&mut tx, &row).await?;
                Ok(Ending::Commit(recorded, Some(rows)))
            });
        dropped.await
    }
}
