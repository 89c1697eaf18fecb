//! Owns the state that the audit's threads share: whether records can be made durable now, and
//! where.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};

use crate::store::audit::StampedRecord;
use crate::telemetry::Metrics;

use super::spool::{Spool, SpoolError};

/// The furthest that the clock may step back. Beyond it records are refused, because their times
/// and ids would lie.
const CLOCK_SLACK_US: i64 = 5_000_000;

/// The state that the audit's threads share.
pub(super) struct AuditState {
    /// Whether Postgres takes batches, as far as is known.
    postgres: AtomicBool,
    /// Whether the spool would take a batch, as of the last look.
    spool_usable: AtomicBool,
    /// The latest time that was seen, in microseconds since 1970.
    latest_us: AtomicI64,
    /// Whether the clock had not stepped back too far at the last look.
    clock_right: AtomicBool,
    /// Whether a stored record differed from the one to be written. If so, nothing is recorded any
    /// more.
    differs: AtomicBool,
    /// The spool. The lock is held for one append or one look, by the audit's own threads and by
    /// readiness. A command has no spool and has `None` here.
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

    /// Runs `work` on the spool. Returns `None` if there is no spool.
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

    /// Looks whether the spool would take a batch, and remembers the answer.
    pub(super) fn look_at_spool(&self) -> bool {
        let usable = self.with_spool(|spool| spool.usable().is_ok()).unwrap_or(false);
        self.spool_usable.store(usable, Ordering::Release);
        self.tell();
        usable
    }

    /// Looks whether the clock stepped back too far. Returns true if it did not.
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

    /// Returns whether Postgres takes batches, as far as is known.
    pub(super) fn takes_postgres(&self) -> bool {
        self.postgres.load(Ordering::Acquire)
    }

    /// Returns whether records can be made durable somewhere, as far as is known.
    pub(super) fn is_available(&self) -> bool {
        !self.differs.load(Ordering::Acquire)
            && self.clock_right.load(Ordering::Acquire)
            && (self.takes_postgres() || self.spool_usable.load(Ordering::Acquire))
    }
}
