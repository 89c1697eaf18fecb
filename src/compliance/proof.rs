//! The proof of the audit trail: its ledgers, its daily verification, and the state of both.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::audit::verify::{Verification, Verifier, VerifyError};
use crate::audit::{AuditError, Checkpoint, CheckpointFile, LineFileError, PresentLedger};
use crate::domain::action::Action;
use crate::domain::audit_record::AuditRecord;
use crate::domain::ids::{LedgerId, TenantId};
use crate::domain::seal::Seal;
use crate::store::verifications::{self, VerificationRow};
use crate::store::{StoreError, ledgers, seals, trail};

use super::Compliance;
use crate::call::ServiceError;

/// The time between two verifications of the trail, and the time for which one under way keeps
/// others from it.
const EVERY: TimeDelta = TimeDelta::hours(24);
const CLAIM: TimeDelta = TimeDelta::hours(6);

/// The most findings that are logged one by one.
const MOST_LOGGED: usize = 100;

/// The state of the proof of the trail.
pub struct ProofState {
    /// The present ledger.
    pub ledger: LedgerId,
    /// The reason why it was begun.
    pub reason: String,
    /// Whether an operator accepted it, where one must.
    pub accepted: bool,
    /// The newest seal.
    pub seal: Option<Seal>,
    /// The last line of the checkpoint file.
    pub checkpoint: Option<Checkpoint>,
    /// The last verification that came to its end.
    pub verified: Option<VerificationRow>,
    /// The time now.
    pub now: DateTime<Utc>,
}

/// The reason why the state of the proof is not known.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint file failed.
    #[error(transparent)]
    Checkpoint(#[from] LineFileError),
    /// The record of the reading could not be made durable.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl From<VerifyError> for ProofError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Store(error) => Self::Store(error),
            VerifyError::Checkpoint(error) => Self::Checkpoint(error),
        }
    }
}

impl Compliance {
    /// Records that this start began a ledger, and that seals are signed with another key.
    pub async fn note_ledger(&self, present: PresentLedger) -> Result<(), StoreError> {
        if let Some(reason) = present.begun {
            self.note(Action::LedgerBegin, present.id);
            if !present.accepted {
                tracing::error!(
                    reason = reason.name(),
                    "a new audit ledger was begun, records may be lost: not ready until \
                     `ai-cache audit accept-ledger` has been run"
                );
            }
        }
        let store = &self.parts.store;
        let newest = store.system("find the key of the newest seal", async |mut tx| {
            seals::newest(&mut tx, present.id).await
        });
        let newest = newest.await?;
        let key = self.parts.keys.active_id().as_str();
        if newest.is_some_and(|seal| seal.content.key_id != key) {
            self.note(Action::SealKeyChange, present.id);
        }
        Ok(())
    }

    /// Writes a record about a ledger in the installation's own trail, without waiting for it.
    fn note(&self, action: Action, ledger: LedgerId) {
        let mut record = self.own_record(action);
        record.object = Some(ledger.0);
        record.count = 1;
        self.parts.audit.record_detached(record);
    }

    fn own_record(&self, action: Action) -> AuditRecord {
        self.parts.calls.service_record(
            self.parts.installation,
            self.parts.calls.fresh_request(),
            action,
        )
    }

    /// Records that an operator accepts the reason why the present ledger was begun. Returns the
    /// ledger, and whether nobody had accepted it before.
    pub async fn accept_ledger(
        &self,
        record: AuditRecord,
    ) -> Result<(LedgerId, bool), ServiceError> {
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        let newest = store
            .system("find the present audit ledger", async |mut tx| ledgers::newest(&mut tx).await)
            .await?;
        let ledger = newest.ok_or(StoreError::UnknownValue("ledger"))?.id;
        let (tenant, object) = (self.parts.installation, Some(ledger.0));
        let record = AuditRecord { action: Action::LedgerAccept, tenant, object, ..record };
        let _receipt = self.parts.audit.record(record).await?;
        let accepted = store.system("accept the present audit ledger", async |mut tx| {
            ledgers::accept_all(&mut tx, now).await
        });
        Ok((ledger, accepted.await?))
    }

    /// Verifies the trail for a caller, and records that.
    pub async fn verify_on_request(
        &self,
        tenant: Option<TenantId>,
        checkpoint: Option<&CheckpointFile>,
        record: AuditRecord,
    ) -> Result<Verification, ProofError> {
        let checkpoint = checkpoint.or(self.parts.checkpoint.as_ref());
        let verification = self.verify(tenant, checkpoint).await?;
        let count = i64::try_from(verification.found()).unwrap_or(i64::MAX);
        let (action, tenant) = (Action::AuditVerify, self.parts.installation);
        let record = AuditRecord { tenant, action, count, ..record };
        let _receipt = self.parts.audit.record(record).await?;
        Ok(verification)
    }

    /// Verifies the trail once a day, on the first replica that comes to it. Returns the result, or
    /// `None` if no verification is due.
    pub async fn verify_when_due(&self) -> Result<Option<Verification>, ProofError> {
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        self.look_at_default_partitions().await;
        let id = self.parts.ids.next(now);
        let claimed = store.system("claim the daily verification", async |mut tx| {
            verifications::claim(&mut tx, id, now, EVERY, CLAIM).await
        });
        if !claimed.await? {
            self.tell_last_verification().await?;
            return Ok(None);
        }
        let verification = self.verify(None, self.parts.checkpoint.as_ref()).await?;
        for finding in verification.findings.iter().take(MOST_LOGGED) {
            tracing::error!(kind = %finding.kind, place = finding.place, "the audit trail is broken: {}", finding.detail);
        }
        let found = verification.found();
        let kinds: BTreeMap<String, u64> =
            verification.kinds.iter().map(|(kind, count)| (kind.to_string(), *count)).collect();
        if found > 0 {
            tracing::error!(
                found,
                ?kinds,
                "the audit trail is broken: run `ai-cache audit verify`"
            );
        }
        let ended = self.parts.clock.now();
        let counts = [verification.rows, verification.seals, verification.checkpoints, found];
        let kept = store.system("keep the daily verification", async |mut tx| {
            verifications::end(&mut tx, id, ended, counts, &kinds).await
        });
        kept.await?;
        let mut record = self.own_record(Action::AuditVerify);
        record.count = i64::try_from(found).unwrap_or(i64::MAX);
        self.parts.audit.record_detached(record);
        self.tell_last_verification().await?;
        Ok(Some(verification))
    }

    /// Sets the metrics of the last verification that came to its end on any replica. When no
    /// replica verifies any more, its time stands still.
    async fn tell_last_verification(&self) -> Result<(), StoreError> {
        let store = &self.parts.store;
        let last = store.system("read the last verification", async |mut tx| {
            verifications::newest(&mut tx).await
        });
        if let Some(last) = last.await? {
            let found = u64::try_from(last.findings).unwrap_or(u64::MAX);
            self.parts.metrics.audit_verified(found, last.ended_at);
        }
        Ok(())
    }

    /// Alarms when rows lie where the partition of their month can no longer be made.
    async fn look_at_default_partitions(&self) {
        let store = &self.parts.store;
        let counted = store.system("count rows without a month's partition", async |mut tx| {
            trail::count_default_rows(&mut tx).await
        });
        match counted.await {
            Ok(rows) => {
                self.parts.metrics.audit_default_rows(u64::try_from(rows).unwrap_or(0));
                if rows > 0 {
                    tracing::error!(
                        rows,
                        "audit rows lie in default partitions: their months' are missing"
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "default partitions could not be looked at"),
        }
    }

    /// Verifies the trail. Only findings about rows of `tenant` are told, or all findings.
    async fn verify(
        &self,
        tenant: Option<TenantId>,
        checkpoint: Option<&CheckpointFile>,
    ) -> Result<Verification, VerifyError> {
        let verifier = Verifier {
            store: &self.parts.store,
            keys: &self.parts.keys,
            checkpoint,
            tenant,
            now: self.parts.clock.now(),
        };
        Box::pin(verifier.run()).await
    }

    /// Returns how far the trail is proven.
    pub async fn proof_state(&self) -> Result<ProofState, ProofError> {
        let checkpoint = match self.parts.checkpoint.clone() {
            None => None,
            Some(file) => {
                let last = self.parts.lifecycle.spawn_blocking(move || file.last()).await;
                last.unwrap_or(Ok(None))?
            }
        };
        let store = &self.parts.store;
        let read = store.system("read how far the audit trail is proven", async |mut tx| {
            let ledger = ledgers::newest(&mut tx).await?;
            let ledger = ledger.ok_or(StoreError::UnknownValue("ledger"))?;
            let seal = seals::newest(&mut tx, ledger.id).await?;
            let verified = verifications::newest(&mut tx).await?;
            Ok::<_, StoreError>((ledger, seal, verified))
        });
        let (ledger, seal, verified) = read.await?;
        let now = self.parts.clock.now();
        let (reason, accepted) = (ledger.reason, ledger.accepted);
        Ok(ProofState { ledger: ledger.id, reason, accepted, seal, checkpoint, verified, now })
    }
}
