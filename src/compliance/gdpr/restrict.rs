//! Restricting a person's data and lifting that (GDPR Art. 18): the data are kept, but neither
//! served nor changed. The person's key says so, and every replica forgets what it remembers of the
//! key.

use crate::compliance::Compliance;
use crate::domain::action::Action;
use crate::domain::gdpr::{RequestEvent, RequestKind};
use crate::domain::gdpr_execution::ExecutionStep;
use crate::domain::selector::Change;
use crate::store::gdpr::work::Progress;
use crate::store::{Ending, invalidations, keys};

use super::GdprError;
use super::work::{Ended, Execution, ExecutionError};

impl Compliance {
    pub(super) async fn execute_restriction(
        &self,
        execution: &mut Execution,
    ) -> Result<Ended, ExecutionError> {
        if execution.row.step.is_none() {
            match self.change_restriction(execution).await {
                // The person was erased meanwhile. Later requests of the person have another key.
                Err(ExecutionError::Failed(GdprError::Gone)) => return Ok(Ended::Waits),
                changed => changed?,
            }
        }
        if let Some(position) = execution.row.position
            && self.parts.coherence.propagate(position).await.is_err()
        {
            return Ok(Ended::Waits);
        }
        self.finish(execution, RequestEvent::Complete, &Progress::default(), None).await?;
        Ok(Ended::Done)
    }

    /// Restricts a person or lifts that. A person who was never named before gets a key to be
    /// restricted; there is nothing to lift for such a person.
    async fn change_restriction(&self, execution: &mut Execution) -> Result<(), ExecutionError> {
        let (tenant, subject) = (execution.tenant, execution.row.subject);
        let keyring = &self.parts.keyring;
        let tenant_keys = keyring.tenant_keys(tenant).await?;
        let record = self.execution_record(execution, Action::Restrict);
        let (restricts, key) = match execution.row.kind {
            RequestKind::Restrict => {
                let key = keyring.subject_key_by_index(&tenant_keys, subject, record.request);
                (true, Some(key.await?))
            }
            _ => (false, keyring.find_subject_key_by_index(&tenant_keys, subject).await?),
        };
        let Some(key) = key else { return Ok(()) };
        execution.row.subject_key = Some(key.id);
        let action = if restricts { Action::Restrict } else { Action::LiftRestriction };
        let record = self.execution_record(execution, action);
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        let since = restricts.then_some(now);
        let changed = store.change("change a person's restriction", tenant, async |mut tx| {
            invalidations::lock_for_invalidation(&mut tx, now).await?;
            if !keys::update_restricted(&mut tx, key.id, since).await? {
                return Ok::<_, ExecutionError>(Ending::RollBack(None));
            }
            let forgotten = Change::of_subject(key.id);
            let position = invalidations::append(&mut tx, &forgotten, now).await?;
            let progress = Progress {
                step: Some(ExecutionStep::Changed),
                subject_key: Some(key.id),
                position: Some(position),
                ..Progress::default()
            };
            let recorded = self.record_step(&mut tx, execution, &progress, &record).await?;
            Ok(Ending::Commit(recorded, Some(position)))
        });
        let position = changed.await?.ok_or(GdprError::Gone)?;
        execution.row.position = Some(position);
        execution.row.step = Some(ExecutionStep::Changed);
        Ok(())
    }
}
