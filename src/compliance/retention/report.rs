//! The report of a run of the purge.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::domain::ids::TenantId;
use crate::store::audit_parts::AuditPart;
use crate::store::retention::TenantDue;

/// The way a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PurgeState {
    /// The run removed what was due.
    Done,
    /// The run removed nothing, because a person must confirm it.
    Waiting,
    /// The run only told what is due.
    DryRun,
}

impl PurgeState {
    /// Returns the name, as it is stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Waiting => "waiting",
            Self::DryRun => "dry-run",
        }
    }
}

/// The reason why a run waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitReason {
    /// The service's clock and Postgres' differ.
    ClocksDiffer,
    /// The time is not what it should be since the last run.
    ClockJumped,
    /// More than a fifth of all entries would go.
    ManyEntries,
    /// More than a fifth of all audit records would go.
    ManyRecords,
}

impl WaitReason {
    /// Returns the name, as it is stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClocksDiffer => "clocks-differ",
            Self::ClockJumped => "clock-jumped",
            Self::ManyEntries => "many-entries",
            Self::ManyRecords => "many-records",
        }
    }
}

/// The fate of a partition of the trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartFate {
    /// The partition is due.
    Due,
    /// The partition is dropped.
    Dropped,
    /// The partition is due, and a legal hold keeps one of its rows.
    Held,
    /// The partition is due, and was read for longer than the run would wait.
    Busy,
}

impl PartFate {
    /// Returns the name, as it is stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Dropped => "dropped",
            Self::Held => "held",
            Self::Busy => "busy",
        }
    }
}

/// A partition of the trail whose rows are past their retention class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartReport {
    /// The name.
    pub name: String,
    /// The number of its rows.
    pub rows: u64,
    /// Its fate.
    pub fate: PartFate,
}

/// The amounts that are due or were removed.
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
    /// Returns the sum of all amounts.
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

/// The amounts of a tenant that are due or were removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantReport {
    /// The tenant.
    #[serde(skip)]
    pub id: TenantId,
    /// The tenant's slug.
    pub tenant: String,
    /// The time before which rows are past their retention.
    pub cutoff: DateTime<Utc>,
    /// Whether a legal hold keeps everything.
    pub held: bool,
    /// The entries past their retention that a hold or a restriction keeps.
    pub kept: u64,
    /// The amounts that are due or were removed.
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

/// The result of a run: what is due, or what was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PurgeReport {
    /// The run.
    pub run_id: Uuid,
    /// The time when it began.
    pub begun_at: DateTime<Utc>,
    /// The way it ended.
    pub state: PurgeState,
    /// The reason why it waits.
    pub reason: Option<WaitReason>,
    /// The amounts of all tenants together.
    #[serde(flatten)]
    pub amounts: Amounts,
    /// The records of the trail in partitions that are due and not held, or that were dropped.
    pub records: u64,
    /// The partitions that are due.
    pub partitions: Vec<PartReport>,
    /// The tenants with rows that are due or held.
    pub tenants: Vec<TenantReport>,
}

impl PurgeReport {
    /// Makes the report of what is due.
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
