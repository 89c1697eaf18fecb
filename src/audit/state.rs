//! Where records can be made durable just now: what writer, drainer and everybody who asks agree on.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};

use crate::store::audit::StampedRecord;
use crate::telemetry::Metrics;

use super::spool::{Spool, SpoolError};

/// Furthest the clock may step back before records are refused: their times and ids would lie.
const CLOCK_SLACK_US: i64 = 5_000_000;

/// Shared by the audit's threads.
pub(super) struct AuditState {
    /// Whether Postgres takes batches, as far as is known.
    postgres: AtomicBool,
    /// Whether the spool would take one, when last looked at.
    spool_usable: AtomicBool,
    /// The latest time seen, in microseconds since 1970.
    latest_us: AtomicI64,
    /// Whether the clock is where it was or further, when last looked at.
    clock_right: AtomicBool,
    /// A stored record differed from the one to be written: nothing is recorded any more.
    differs: AtomicBool,
    /// Held for one append or one look, by the audit's own threads and by readiness.
    /// `None`: a command, which has none.
    spool: Option<Mutex<Spool>>,
    metrics: Arc<Metrics>,
}

impl AuditState {
    pub(super) fn new(spool: Option<Spool>, metrics: Arc<Metrics>) -> Self {
        Self {
            postgres: AtomicBool::new(true),
            spool_usable: AtomicBool::new(spool.is_some()),
            latest_us: AtomicI64::new(i64::MIN),
            clock_right: AtomicBool::new(true),
            differs: AtomicBool::new(false),
            spool: spool.map(Mutex::new),
            metrics,
        }
    }

    /// `None`: there is no spool.
    pub(super) fn with_spool<T>(&self, work: impl FnOnce(&mut Spool) -> T) -> Option<T> {
        let spool = self.spool.as_ref()?;
        Some(work(&mut spool.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Makes a batch durable in the spool.
    pub(super) fn append(&self, rows: &[StampedRecord]) -> Result<(), SpoolError> {
        let done = self.with_spool(|spool| (spool.append(rows), spool.bytes()));
        let (appended, bytes) = done.ok_or(SpoolError::None)?;
        self.spool_usable.store(appended.is_ok(), Ordering::Release);
        self.tell();
        self.metrics.audit_spool_bytes(bytes);
        if appended.is_ok() {
            self.metrics.audit_spooled(rows.len());
        }
        appended
    }

    /// Looks whether the spool would take a batch.
    pub(super) fn look_at_spool(&self) -> bool {
        let usable = self.with_spool(|spool| spool.usable().is_ok()).unwrap_or(false);
        self.spool_usable.store(usable, Ordering::Release);
        self.tell();
        usable
    }

    /// Looks whether the clock stepped back. Gives whether it is right.
    pub(super) fn look_at_clock(&self, now: DateTime<Utc>) -> bool {
        let now = now.timestamp_micros();
        let latest = self.latest_us.fetch_max(now, Ordering::AcqRel);
        let right = now >= latest.saturating_sub(CLOCK_SLACK_US);
        if self.clock_right.swap(right, Ordering::AcqRel) != right {
            if right {
                tracing::warn!("the clock has caught up; audit records are taken again");
            } else {
                tracing::error!(
                    "the clock stepped back by more than 5 s; replies are refused until it has caught up"
                );
            }
            self.tell();
        }
        right
    }

    pub(super) fn note_postgres_takes(&self) {
        self.postgres.store(true, Ordering::Release);
        self.tell();
    }

    pub(super) fn note_postgres_refuses(&self) {
        self.postgres.store(false, Ordering::Release);
        self.tell();
    }

    pub(super) fn note_difference(&self) {
        self.differs.store(true, Ordering::Release);
        self.tell();
    }

    fn tell(&self) {
        self.metrics.audit_available(self.is_available());
    }

    /// Whether Postgres takes batches, as far as is known.
    pub(super) fn takes_postgres(&self) -> bool {
        self.postgres.load(Ordering::Acquire)
    }

    /// Whether records can be made durable somewhere, as far as is known.
    pub(super) fn is_available(&self) -> bool {
        !self.differs.load(Ordering::Acquire)
            && self.clock_right.load(Ordering::Acquire)
            && (self.takes_postgres() || self.spool_usable.load(Ordering::Acquire))
    }
}
