//! The retention purge removes what is past its retention, in batches with a record each. It leaves
//! what a legal hold or a restriction keeps. One run at a time, once a day, on the first replica
//! that comes to it.

mod guard;
mod remove;
mod report;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::domain::action::Action;
use crate::domain::audit_record::{AuditRecord, Outcome};
use crate::store::audit_parts;
use crate::store::retention::{self, Clocks, NAMED_FOR, RunEnd};
use crate::store::{StoreError, evictions};

use super::Compliance;
use crate::call::ServiceError;

pub use report::{
    Amounts, PartFate, PartReport, PurgeReport, PurgeState, TenantReport, WaitReason,
};

use guard::{Share, wait_reason};

/// The time between two purges.
const EVERY: TimeDelta = TimeDelta::hours(24);

/// The ways to ask for a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purge {
    /// It tells what is due and removes nothing.
    DryRun,
    /// It removes what is due, unless that looks like a mistake.
    Guarded,
    /// It removes what is due, because a person has looked.
    Confirmed,
}

/// The reason why there was no purge.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// Something of the service failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Another run is under way.
    #[error("another purge is under way")]
    UnderWay,
}

impl From<StoreError> for PurgeError {
    fn from(error: StoreError) -> Self {
        Self::Service(error.into())
    }
}

/// The amounts that are due, and what decides whether they may go.
struct MeasuredDue {
    report: PurgeReport,
    clocks: Clocks,
    entries: Share,
    records: Share,
}

impl Compliance {
    /// Purges once a day, on the first replica that comes to it. Returns `None` if no purge is due.
    pub async fn purge_when_due(&self) -> Result<Option<PurgeReport>, ServiceError> {
        let (ids, now) = (&*self.parts.ids, self.parts.clock.now());
        let (run, since) = (ids.next(now), now - EVERY);
        if !self.claim_purge(run, Some(since)).await? {
            return Ok(None);
        }
        let request = self.parts.calls.fresh_request();
        let record =
            self.parts.calls.service_record(self.parts.installation, request, Action::Purge);
        let report = self.run_purge(run, Purge::Guarded, record).await?;
        if let Some(reason) = report.reason {
            tracing::error!(
                reason = reason.name(),
                entries = report.amounts.entries,
                records = report.records,
                "the retention purge waits: look, then run `ai-cache purge --confirm`"
            );
        }
        Ok(Some(report))
    }

    /// Purges for a caller or an operator, whom `record` names. It goes on when the caller hangs
    /// up.
    pub async fn purge(
        self: &Arc<Self>,
        how: Purge,
        record: AuditRecord,
    ) -> Result<PurgeReport, PurgeError> {
        let run = self.parts.ids.next(self.parts.clock.now());
        if how != Purge::DryRun && !self.claim_purge(run, None).await? {
            return Err(PurgeError::UnderWay);
        }
        let compliance = Arc::clone(self);
        // A stop cuts the purge off between two batches, or rolls one back. The next run goes on.
        let task = async move {
            tokio::select! {
                () = compliance.parts.lifecycle.stopping() => Err(ServiceError::TaskLost),
                done = compliance.run_purge(run, how, record) => done,
            }
        };
        let done = self.parts.lifecycle.spawn(task).await;
        Ok(done.map_err(|_| ServiceError::TaskLost)??)
    }

    async fn claim_purge(
        &self,
        run: Uuid,
        since: Option<DateTime<Utc>>,
    ) -> Result<bool, StoreError> {
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        let claimed = store.system("claim the retention purge", async |mut tx| {
            retention::claim(&mut tx, run, now, since).await
        });
        claimed.await
    }

    async fn run_purge(
        &self,
        run: Uuid,
        how: Purge,
        record: AuditRecord,
    ) -> Result<PurgeReport, ServiceError> {
        let begun = self.parts.clock.now();
        let MeasuredDue { mut report, clocks, entries, records } = self.measure(run).await?;
        if how == Purge::Guarded {
            report.reason = wait_reason(begun, &clocks, entries, records);
        }
        report.state = match (how, report.reason) {
            (Purge::DryRun, _) => PurgeState::DryRun,
            (_, Some(_)) => PurgeState::Waiting,
            (_, None) => PurgeState::Done,
        };
        if report.state == PurgeState::Done {
            self.remove_due(&mut report, record.request).await?;
        }
        self.keep_report(&report).await?;
        let removed = if report.state == PurgeState::Done {
            report.amounts.sum() + report.records
        } else {
            0
        };
        let record = AuditRecord {
            tenant: self.parts.installation,
            action: Action::Purge,
            outcome: if report.reason.is_some() { Outcome::Denied } else { Outcome::Done },
            object: Some(run),
            count: i64::try_from(removed).unwrap_or(i64::MAX),
            ..record
        };
        let _receipt = self.parts.audit.record(record).await?;
        tracing::info!(
            state = report.state.name(),
            removed,
            records = report.records,
            "the retention purge has run"
        );
        Ok(report)
    }

    /// Measures what is due now.
    async fn measure(&self, run: Uuid) -> Result<MeasuredDue, StoreError> {
        let store = self.parts.store.within(audit_parts::LIMIT);
        let now = self.parts.clock.now();
        let measured = store.system("measure what is past its retention", async |mut tx| {
            let clocks = retention::read_clocks(&mut tx).await?;
            let (named, days) = (now - NAMED_FOR, self.parts.retention_days);
            let due = retention::list_due(&mut tx, now, named, days).await?;
            let counted = evictions::count(&mut tx, run.as_bytes()[15]).await?;
            let parts = audit_parts::list(&mut tx, now).await?;
            let report = PurgeReport::of(run, now, due, &parts);
            let all = counted.iter().map(|tenant| tenant.entries).sum();
            let entries = Share { due: report.amounts.entries, all };
            let all = parts.iter().map(|part| part.rows).sum();
            let records = Share { due: report.records, all };
            Ok(MeasuredDue { report, clocks, entries, records })
        });
        measured.await
    }

    async fn keep_report(&self, report: &PurgeReport) -> Result<(), ServiceError> {
        let json = serde_json::to_string(report).map_err(|_| ServiceError::Malformed)?;
        let mut tenants = Vec::with_capacity(report.tenants.len());
        for tenant in &report.tenants {
            let text = serde_json::to_string(tenant).map_err(|_| ServiceError::Malformed)?;
            tenants.push((tenant.id, text));
        }
        let (store, now) = (self.parts.store.long(), self.parts.clock.now());
        let end = RunEnd {
            id: report.run_id,
            begun_at: report.begun_at,
            ended_at: now,
            state: report.state.name(),
            reason: report.reason.map(WaitReason::name),
            report: &json,
        };
        let kept = store.system("keep the report of a purge", async |mut tx| {
            retention::end(&mut tx, &end).await?;
            for (tenant, text) in &tenants {
                retention::insert_report(&mut tx, *tenant, report.run_id, text).await?;
            }
            Ok::<_, StoreError>(())
        });
        Ok(kept.await?)
    }
}
