//! The worker takes requests that are to be executed, one replica each, and executes them step by
//! step. Each step commits how far it has come, so that another process can go on after this one
//! ended anywhere.

use std::sync::Arc;

use chrono::TimeDelta;

use crate::call::ServiceError;
use crate::compliance::Compliance;
use crate::domain::action::Action;
use crate::domain::audit_record::AuditRecord;
use crate::domain::gdpr::{RequestEvent, RequestKind};
use crate::domain::ids::{GdprRequestId, RequestId, TenantId};
use crate::store::gdpr::work::{self, Lease, Progress};
use crate::store::gdpr::{RequestRow, history};
use crate::store::{self, Ending, Recorded, StoreError, WriteTx, gdpr};

use super::outside::OutsideError;
use super::{GdprError, Happening, about};

/// The most requests of one turn.
const TURN: i64 = 16;

/// The executions that may fail before the request has failed.
const MOST_ATTEMPTS: i32 = 8;

/// The pause after the first failure, and the longest one. Each further failure makes the pause
/// four times as long; the eight take half a day.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(5);
const LONGEST_PAUSE: TimeDelta = TimeDelta::hours(6);

/// The pause while a part of the installation is out of reach. That is no failure, however long it
/// takes.
const WAITING: TimeDelta = TimeDelta::seconds(2);

/// A request that this process executes.
pub(super) struct Execution {
    pub(super) tenant: TenantId,
    pub(super) row: RequestRow,
    lease: Lease,
    /// The id that groups its records.
    request: RequestId,
}

/// The way an execution ended for now.
pub(super) enum Ended {
    /// It ended for good, and its last step is committed.
    Done,
    /// A part of the installation is out of reach.
    Waits,
}

/// The reason why an execution did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExecutionError {
    /// A part of it failed.
    #[error(transparent)]
    Failed(#[from] GdprError),
    /// A fact that must be known outside the database first is not known there.
    #[error(transparent)]
    Outside(#[from] OutsideError),
    /// Another execution has the request.
    #[error("another execution has taken the request over")]
    LeaseLost,
}

impl<E: Into<ServiceError>> From<E> for ExecutionError {
    fn from(error: E) -> Self {
        Self::Failed(GdprError::Service(error.into()))
    }
}

impl Compliance {
    /// Executes the requests that are ready. Returns the number of requests that it took up.
    pub async fn work_on_requests(self: &Arc<Self>) -> Result<usize, ServiceError> {
        if !self.erasures_hold() {
            // A request in a restored database may have been executed before.
            return Ok(0);
        }
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        let found = store.system("find requests that are to be executed", async |mut tx| {
            let unheld = work::list_unheld(&mut tx, now, TURN).await?;
            let ready = work::list_ready(&mut tx, now, TURN).await?;
            Ok::<_, StoreError>((unheld, ready))
        });
        let (unheld, ready) = found.await?;
        for (tenant, id) in unheld {
            if let Err(error) = self.resume(tenant, id).await {
                tracing::warn!(request = %id, %error, "an erasure could not be resumed");
            }
        }
        let mut taken = 0;
        for (tenant, id) in ready {
            // A request that cannot be taken up or given back keeps no other one waiting.
            match self.take_up(tenant, id).await {
                Ok(None) => {}
                Ok(Some(execution)) => {
                    taken += 1;
                    if let Err(error) = Box::pin(self.execute(execution)).await {
                        tracing::warn!(request = %id, %error, "a request could not be given back");
                    }
                }
                Err(error) => {
                    tracing::warn!(request = %id, %error, "a request could not be taken up");
                }
            }
        }
        Ok(taken)
    }

    /// Resolves when there may be a request to execute.
    pub async fn worker_woken(&self) {
        self.requests_wake.notified().await;
    }

    pub(super) fn wake_worker(&self) {
        self.requests_wake.notify_one();
    }

    /// Lets an erasure that a legal hold cut short be executed anew, now that the hold has ended.
    async fn resume(&self, tenant: TenantId, id: GdprRequestId) -> Result<(), ServiceError> {
        let keys = self.parts.keyring.tenant_keys(tenant).await?;
        let record = self.parts.calls.service_record(
            tenant,
            self.parts.calls.fresh_request(),
            Action::GdprResume,
        );
        let resumed = Happening::new(RequestEvent::Resume, record, &keys, None)?;
        let store = &self.parts.store;
        let done = store.change("resume an erasure", tenant, async |mut tx| {
            let row = gdpr::lock(&mut tx, id).await?.ok_or(GdprError::NotFound)?;
            if row.state.after(resumed.event).is_none() {
                // Another replica was faster.
                return Ok::<_, GdprError>(Ending::RollBack(()));
            }
            let (_, recorded) = self.happen(&mut tx, &row, &resumed).await?;
            work::update_begun_anew(&mut tx, id).await?;
            Ok(Ending::Commit(recorded, ()))
        });
        done.await.map_err(into_service_error)?;
        self.wake_worker();
        Ok(())
    }

    /// Takes a request up. Returns `None` if another replica has it.
    async fn take_up(
        &self,
        tenant: TenantId,
        id: GdprRequestId,
    ) -> Result<Option<Execution>, ServiceError> {
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        let lease = Lease { tenant, request: id, holder: self.parts.ids.next(now) };
        let request = self.parts.calls.fresh_request();
        let keys = self.parts.keyring.tenant_keys(tenant).await?;
        let again = store.system("go on with a request that waited", async |mut tx| {
            work::take_waiting(&mut tx, lease, now).await
        });
        if again.await? {
            let row = self.find_request(tenant, id).await.map_err(into_service_error)?;
            return Ok(Some(Execution { tenant, row, lease, request }));
        }
        let taken = store.change("take a request up", tenant, async |mut tx| {
            let Some(row) = work::lock_ready(&mut tx, id, now).await? else {
                return Ok::<_, GdprError>(Ending::RollBack(None));
            };
            let record = self.parts.calls.service_record(tenant, request, Action::GdprBegin);
            let begun = Happening::new(RequestEvent::Begin, record, &keys, None)?;
            let (state, recorded) = self.happen(&mut tx, &row, &begun).await?;
            work::update_lease(&mut tx, lease).await?;
            Ok(Ending::Commit(recorded, Some(RequestRow { state, ..row })))
        });
        let row = taken.await.map_err(into_service_error)?;
        Ok(row.map(|row| Execution { tenant, row, lease, request }))
    }

    async fn execute(self: &Arc<Self>, mut execution: Execution) -> Result<(), ServiceError> {
        let ended = match execution.row.kind {
            _ if execution.row.is_of_later_release => {
                tracing::warn!(request = %execution.row.id, "a request waits for a replica of a later release");
                Ok(Ended::Waits)
            }
            RequestKind::Restrict | RequestKind::LiftRestriction => {
                self.execute_restriction(&mut execution).await
            }
            RequestKind::Erase => self.execute_erasure(&mut execution).await,
            RequestKind::Export => self.execute_export(&mut execution).await,
        };
        let (id, kind) = (execution.row.id, execution.row.kind.name());
        match ended {
            Ok(Ended::Done) => {
                tracing::info!(tenant = %execution.tenant, request = %id, kind, "a data subject's request was executed");
                Ok(())
            }
            Ok(Ended::Waits) => self.give_back(&execution, WAITING, 0).await,
            Err(ExecutionError::Outside(error)) => {
                tracing::error!(request = %id, kind, %error, "an erasure waits for the erasure ledger");
                self.give_back(&execution, WAITING, 0).await
            }
            Err(ExecutionError::LeaseLost) => {
                tracing::warn!(request = %id, kind, "another execution has taken a request over");
                Ok(())
            }
            Err(ExecutionError::Failed(error)) => {
                tracing::error!(request = %id, kind, %error, "a data subject's request could not be executed");
                self.note_failure(&execution).await
            }
        }
    }

    /// Gives back a request that failed, for another try or for good.
    async fn note_failure(&self, execution: &Execution) -> Result<(), ServiceError> {
        let attempts = execution.row.attempts + 1;
        if attempts >= MOST_ATTEMPTS {
            let progress = Progress::default();
            let failed = self.finish(execution, RequestEvent::Fail, &progress, None).await;
            return match failed {
                Ok(()) | Err(ExecutionError::LeaseLost | ExecutionError::Outside(_)) => Ok(()),
                Err(ExecutionError::Failed(error)) => Err(into_service_error(error)),
            };
        }
        let growth = 4_i32.saturating_pow(u32::try_from(attempts - 1).unwrap_or(0));
        let pause = FIRST_PAUSE.checked_mul(growth).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
        self.give_back(execution, pause, 1).await
    }

    async fn give_back(
        &self,
        execution: &Execution,
        pause: TimeDelta,
        failures: i32,
    ) -> Result<(), ServiceError> {
        let (store, restarts_at) = (&self.parts.store, self.parts.clock.now() + pause);
        let given = store.system("give a data subject's request back", async |mut tx| {
            work::update_given_back(&mut tx, execution.lease, restarts_at, failures).await
        });
        // Another execution that has the request meanwhile keeps it.
        let _still_held = given.await?;
        Ok(())
    }

    /// Prolongs the lease of an execution.
    pub(super) async fn prolong(&self, execution: &Execution) -> Result<(), ExecutionError> {
        let store = &self.parts.store;
        let alive = store.system("prolong an execution's lease", async |mut tx| {
            work::update_lease_prolonged(&mut tx, execution.lease).await
        });
        if alive.await? { Ok(()) } else { Err(ExecutionError::LeaseLost) }
    }

    /// Begins the record of something that an execution does.
    pub(super) fn execution_record(&self, execution: &Execution, action: Action) -> AuditRecord {
        let record = self.parts.calls.service_record(execution.tenant, execution.request, action);
        AuditRecord {
            subject_key: execution.row.subject_key,
            ..about(execution.row.id, action, record)
        }
    }

    /// Notes how far an execution has come, in the transaction of the step.
    pub(super) async fn note_progress(
        &self,
        tx: &mut WriteTx,
        execution: &Execution,
        progress: &Progress,
    ) -> Result<(), ExecutionError> {
        let now = self.parts.clock.now();
        if work::update_progress(tx, execution.lease, progress, now).await? {
            Ok(())
        } else {
            Err(ExecutionError::LeaseLost)
        }
    }

    /// Ends an execution for good, with the certificate of what it did.
    pub(super) async fn finish(
        &self,
        execution: &Execution,
        event: RequestEvent,
        progress: &Progress,
        certificate: Option<&str>,
    ) -> Result<(), ExecutionError> {
        let keys = self.parts.keyring.tenant_keys(execution.tenant).await?;
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        let finished = store.change("end an execution", execution.tenant, async |mut tx| {
            let row = gdpr::lock(&mut tx, execution.row.id).await?.ok_or(GdprError::NotFound)?;
            self.note_progress(&mut tx, execution, progress).await?;
            if let Some(body) = certificate {
                history::insert_certificate(&mut tx, row.id, body, now).await?;
            }
            let record = self.execution_record(execution, event.action());
            let happening = Happening::new(event, record, &keys, None)?;
            let (_, recorded) = self.happen(&mut tx, &row, &happening).await?;
            Ok::<_, ExecutionError>(Ending::Commit(recorded, ()))
        });
        finished.await
    }

    /// Records a step of an execution, in the transaction of the step, which commits with the record
    /// that this function returns.
    pub(super) async fn record_step(
        &self,
        tx: &mut WriteTx,
        execution: &Execution,
        progress: &Progress,
        record: &AuditRecord,
    ) -> Result<Recorded, ExecutionError> {
        self.note_progress(tx, execution, progress).await?;
        Ok(store::audit::insert(tx, &self.parts.audit.stamp(record.clone())).await?)
    }
}

fn into_service_error(error: GdprError) -> ServiceError {
    match error {
        GdprError::Service(error) => error,
        // Another process changed the request meanwhile, and has recorded that.
        _ => ServiceError::TaskLost,
    }
}
