//! What a run of the purge came to.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::domain::ids::TenantId;
use crate::store::audit_parts::AuditPart;
use crate::store::retention::TenantDue;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PurgeState {
    /// It removed what was due.
    Done,
    /// It removed nothing: a person must confirm it.
    Waiting,
    /// It was only to tell what is due.
    DryRun,
}

impl PurgeState {
    /// As stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Waiting => "waiting",
            Self::DryRun => "dry-run",
        }
    }
}

/// Why a run waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitReason {
    /// The service's clock and Postgres' differ.
    ClocksDiffer,
    /// It is not the time it should be by the last run.
    ClockJumped,
    /// More than a fifth of all entries would go.
    ManyEntries,
    /// More than a fifth of all audit records would go.
    ManyRecords,
}

impl WaitReason {
    /// As stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClocksDiffer => "clocks-differ",
            Self::ClockJumped => "clock-jumped",
            Self::ManyEntries => "many-entries",
            Self::ManyRecords => "many-records",
        }
    }
}

/// What became of a partition of the trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartFate {
    /// It is due.
    Due,
    /// It is dropped.
    Dropped,
    /// It is due, and a legal hold keeps a row of it.
    Held,
    /// It is due, and was read for longer than the run would wait.
    Busy,
}

impl PartFate {
    /// As stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Dropped => "dropped",
            Self::Held => "held",
            Self::Busy => "busy",
        }
    }
}

/// A partition of the trail whose rows are past their class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartReport {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// What became of it.
    pub fate: PartFate,
}

/// How many of each kind are due, or were removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Amounts {
    /// Entries.
    pub entries: u64,
    /// Rows of metrics.
    pub metrics: u64,
    /// Packages of exports.
    pub exports: u64,
    /// Closed requests.
    pub requests: u64,
    /// Names of persons in completed requests.
    pub subjects: u64,
}

impl Amounts {
    /// All together.
    pub const fn sum(&self) -> u64 {
        let Self { entries, metrics, exports, requests, subjects } = *self;
        entries + metrics + exports + requests + subjects
    }

    fn add(&mut self, other: &Self) {
        self.entries += other.entries;
        self.metrics += other.metrics;
        self.exports += other.exports;
        self.requests += other.requests;
        self.subjects += other.subjects;
    }
}

/// What is due of a tenant's, or was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantReport {
    /// Whose.
    #[serde(skip)]
    pub id: TenantId,
    /// Its name in commands and routes.
    pub tenant: String,
    /// What was made before is past its retention.
    pub cutoff: DateTime<Utc>,
    /// Whether all of it is held.
    pub held: bool,
    /// Entries past it that a hold or a restriction keeps.
    pub kept: u64,
    /// What is due, or was removed.
    #[serde(flatten)]
    pub amounts: Amounts,
}

impl From<TenantDue> for TenantReport {
    fn from(due: TenantDue) -> Self {
        let TenantDue { tenant, slug, cutoff, held, kept, .. } = due;
        let TenantDue { entries, metrics, exports, requests, subjects, .. } = due;
        let amounts = Amounts { entries, metrics, exports, requests, subjects };
        Self { id: tenant, tenant: slug, cutoff, held, kept, amounts }
    }
}

/// What a run came to: what is due, or what was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PurgeReport {
    /// The run.
    pub run_id: Uuid,
    /// When it began.
    pub begun_at: DateTime<Utc>,
    /// How it ended.
    pub state: PurgeState,
    /// Why it waits.
    pub reason: Option<WaitReason>,
    /// Of all tenants.
    #[serde(flatten)]
    pub amounts: Amounts,
    /// Records of the trail in partitions that are due and not held, or that were dropped.
    pub records: u64,
    /// Partitions that are due.
    pub partitions: Vec<PartReport>,
    /// Tenants of which something is due, or held.
    pub tenants: Vec<TenantReport>,
}

impl PurgeReport {
    /// What is due.
    pub(super) fn of(
        run_id: Uuid,
        begun_at: DateTime<Utc>,
        due: Vec<TenantDue>,
        parts: &[AuditPart],
    ) -> Self {
        let partitions = parts.iter().filter(|part| part.due).map(|part| PartReport {
            name: part.name.clone(),
            rows: part.rows,
            fate: if part.held { PartFate::Held } else { PartFate::Due },
        });
        let mut report = Self {
            run_id,
            begun_at,
            state: PurgeState::DryRun,
            reason: None,
            amounts: Amounts::default(),
            records: 0,
            partitions: partitions.collect(),
            tenants: due.into_iter().map(TenantReport::from).collect(),
        };
        report.add_up();
        report
    }

    /// Brings the sums up to date.
    pub(super) fn add_up(&mut self) {
        self.amounts = Amounts::default();
        for tenant in &self.tenants {
            self.amounts.add(&tenant.amounts);
        }
        let counted = |part: &&PartReport| matches!(part.fate, PartFate::Due | PartFate::Dropped);
        self.records = self.partitions.iter().filter(counted).map(|part| part.rows).sum();
    }
}
