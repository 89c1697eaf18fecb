//! Starts the audit trail: its ledger, writer and sealer.

use std::sync::Arc;

use crate::audit::{
    self, Audit, AuditParts, CheckpointFile, ErasureLedger, PresentLedger, RetentionClasses,
    Sealing, Stamper,
};
use crate::domain::ids::{LedgerId, WriterId};
use crate::lifecycle::Lifecycle;
use crate::store::{Store, StoreError, tenants};
use crate::telemetry::Metrics;

use super::{AppError, AppSettings, Auditing, Deps, LedgerHold, Process};

/// Returns the checkpoint file, which keeps seals outside the database. Returns `None` if none is
/// configured.
pub(super) fn checkpoint(settings: &AppSettings) -> Option<CheckpointFile> {
    settings.checkpoint.clone().map(CheckpointFile::new)
}

/// Finds the retention classes of records, from the periods of each tenant and the default.
pub(super) async fn find_classes(
    store: &Store,
    default_days: u32,
) -> Result<Arc<RetentionClasses>, StoreError> {
    let own = store.system("find retention periods of tenants' own", async |mut tx| {
        let own = tenants::list_retention(&mut tx).await?;
        Ok::<_, StoreError>(own)
    });
    let classes = Arc::new(RetentionClasses::new(default_days));
    for (tenant, days) in own.await? {
        classes.set(tenant, days);
    }
    Ok(classes)
}

/// Returns the erasure ledger's file, which keeps erasures outside the database. Returns `None` if
/// none is configured.
pub(super) fn erasures(settings: &AppSettings, deps: &Deps) -> Option<ErasureLedger> {
    let path = settings.erasure_ledger.clone()?;
    Some(ErasureLedger::new(path, Arc::clone(&deps.keys)))
}

/// The parts that the audit trail needs.
pub(super) struct TrailNeeds<'a> {
    pub(super) store: &'a Store,
    /// The name of this process in the numbers of its records and in its spool's folder.
    pub(super) writer: WriterId,
    pub(super) classes: &'a Arc<RetentionClasses>,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) lifecycle: &'a Lifecycle,
}

/// Starts the audit trail of this process.
pub(super) async fn start(
    settings: &AppSettings,
    deps: &Deps,
    needs: TrailNeeds<'_>,
) -> Result<(Audit, PresentLedger), AppError> {
    let TrailNeeds { store, writer, classes, metrics, lifecycle } = needs;
    let now = deps.clock.now();
    let fresh = LedgerId::fresh(&*deps.ids, now);
    let checkpoint = checkpoint(settings);
    let ledger = match settings.process {
        Process::Service { .. } | Process::Command { hold: LedgerHold::Restoring } => {
            audit::find_or_begin(store, checkpoint.as_ref(), fresh, now).await?
        }
        Process::Command { hold: LedgerHold::Shared } => {
            audit::find_ledger(store, fresh, now).await?
        }
    };
    let stamper = Stamper::new(&deps.keys, ledger.id, Arc::clone(classes));
    if settings.auditing == Auditing::Off {
        return Ok((Audit::off(stamper), ledger));
    }
    let sealing = Sealing {
        key: deps.keys.audit_signing_key()?,
        key_id: deps.keys.active_id().as_str().to_owned(),
        checkpoint,
    };
    let spool = settings.process.spool().cloned();
    let parts = AuditParts {
        store: store.clone(),
        stamper,
        writer,
        ledger,
        // A command leaves the sealing to the services.
        sealing: spool.is_some().then_some(sealing),
        spool,
        clock: Arc::clone(&deps.clock),
        metrics: Arc::clone(metrics),
    };
    Ok((Audit::start(parts, lifecycle)?, ledger))
}
