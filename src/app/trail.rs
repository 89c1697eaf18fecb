//! Starts the audit trail: its ledger, writer and sealer.

use std::sync::Arc;

use crate::audit::{self, Audit, AuditParts, CheckpointFile, PresentLedger, Sealing, Stamper};
use crate::domain::ids::{LedgerId, WriterId};
use crate::lifecycle::Lifecycle;
use crate::store::Store;
use crate::telemetry::Metrics;

use super::{AppError, AppSettings, Auditing, Deps};

/// Where seals are kept outside.
pub(super) fn checkpoint(settings: &AppSettings) -> Option<CheckpointFile> {
    settings.checkpoint.clone().map(CheckpointFile::new)
}

pub(super) async fn start(
    settings: &AppSettings,
    deps: &Deps,
    store: &Store,
    metrics: &Arc<Metrics>,
    lifecycle: &Lifecycle,
) -> Result<(Audit, PresentLedger), AppError> {
    let now = deps.clock.now();
    let fresh = LedgerId::fresh(&*deps.ids, now);
    let checkpoint = checkpoint(settings);
    // A command, which has no spool, leaves ledgers and seals to the services.
    let is_service = settings.spool.is_some();
    let ledger = if is_service {
        audit::find_or_begin(store, checkpoint.as_ref(), fresh, now).await?
    } else {
        audit::find_ledger(store, fresh, now).await?
    };
    let stamper = Stamper::new(&deps.keys, ledger.id);
    if settings.auditing == Auditing::Off {
        return Ok((Audit::off(stamper), ledger));
    }
    let sealing = Sealing {
        key: deps.keys.audit_signing_key()?,
        key_id: deps.keys.active_id().as_str().to_owned(),
        checkpoint,
    };
    let parts = AuditParts {
        store: store.clone(),
        stamper,
        writer: WriterId::fresh(&*deps.ids, now),
        ledger,
        sealing: is_service.then_some(sealing),
        spool: settings.spool.clone(),
        clock: Arc::clone(&deps.clock),
        metrics: Arc::clone(metrics),
    };
    Ok((Audit::start(parts, lifecycle)?, ledger))
}
