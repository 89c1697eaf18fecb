//! Starts the audit trail: its ledger, writer and sealer.

use std::sync::Arc;

use crate::audit::{
    self, Audit, AuditParts, CheckpointFile, PresentLedger, Sealer, SealerParts, Stamper,
};
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
    let parts = AuditParts {
        store: store.clone(),
        stamper,
        writer: WriterId::fresh(&*deps.ids, now),
        accepted: ledger.accepted,
        spool: settings.spool.clone(),
        clock: Arc::clone(&deps.clock),
        metrics: Arc::clone(metrics),
    };
    let audit = Audit::start(parts, lifecycle)?;
    if is_service {
        let parts = SealerParts {
            store: store.clone(),
            ledger: ledger.id,
            key: deps.keys.audit_signing_key()?,
            key_id: deps.keys.active_id().as_str().to_owned(),
            checkpoint,
            clock: Arc::clone(&deps.clock),
            metrics: Arc::clone(metrics),
        };
        let sealer = Sealer::new(parts, audit.clone(), lifecycle.clone());
        lifecycle.spawn(Box::pin(sealer.run()));
    }
    Ok((audit, ledger))
}
