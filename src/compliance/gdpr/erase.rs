//! Erasure (GDPR Art. 17, architecture §6). The key is destroyed together with everything under it
//! in Postgres, then the values in Redis go, then every replica follows, then everything is looked
//! at once more and certified. Each step may be done again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;

use crate::audit::{Erasure, ErasureDecision};
use crate::call::ServiceError;
use crate::compliance::Compliance;
use crate::domain::action::Action;
use crate::domain::audit_record::AuditRecord;
use crate::domain::certificate::{Certificate, SignedCertificate};
use crate::domain::gdpr::RequestEvent;
use crate::domain::gdpr_execution::{Counts, Erased, ExecutionStep};
use crate::domain::ids::HoldId;
use crate::domain::selector::Change;
use crate::keyring::KeyringError;
use crate::redis::RedisError;
use crate::store::gdpr::history;
use crate::store::gdpr::work::{self, Progress};
use crate::store::{Ending, Recorded, StoreError, WriteTx, erasures, invalidations, keys};
use crate::tiers::WarmName;

use super::work::{Ended, Execution, ExecutionError};

/// The values in Redis that are removed at the same time.
const AT_ONCE: usize = 16;

/// The number of turns after which the lease is prolonged: each turn takes 2 s at most, and the
/// lease lasts for 30 s.
const TURNS: usize = 10;

/// The longest time for removing one value from Redis.
const REDIS_LIMIT: Duration = Duration::from_secs(2);

impl Compliance {
    pub(super) async fn execute_erasure(
        &self,
        execution: &mut Execution,
    ) -> Result<Ended, ExecutionError> {
        if execution.row.step.is_none() {
            self.destroy(execution).await?;
        }
        if matches!(execution.row.step, Some(ExecutionStep::Destroyed | ExecutionStep::Held)) {
            if !self.clear_redis(execution).await? {
                return Ok(Ended::Waits);
            }
            self.note_step(execution, ExecutionStep::Redis).await?;
        }
        if execution.row.step == Some(ExecutionStep::Redis) {
            if !self.follow_everywhere(execution).await? {
                return Ok(Ended::Waits);
            }
            self.note_step(execution, ExecutionStep::Propagated).await?;
        }
        // This is done once more, because a value that another replica was still writing to Redis
        // is there by now.
        if !self.clear_redis(execution).await? {
            return Ok(Ended::Waits);
        }
        self.certify(execution).await?;
        Ok(Ended::Done)
    }

    /// Destroys the key in one transaction. After it nothing of the person's opens any more, or a
    /// legal hold keeps everything and the person is restricted.
    async fn destroy(&self, execution: &mut Execution) -> Result<(), ExecutionError> {
        let (store, now) = (self.parts.store.long(), self.parts.clock.now());
        let (tenant, subject) = (execution.tenant, execution.row.subject);
        let done = store.change("destroy or restrict a person's key", tenant, async |mut tx| {
            invalidations::lock_for_invalidation(&mut tx, now).await?;
            let holds = erasures::list_holds(&mut tx, subject, now).await?;
            let (recorded, progress) = if holds.is_empty() {
                self.destroy_key(&mut tx, execution, now).await?
            } else {
                self.keep_held(&mut tx, execution, holds, now).await?
            };
            Ok::<_, ExecutionError>(Ending::Commit(recorded, progress))
        });
        let progress = done.await?;
        execution.row.step = progress.step;
        execution.row.subject_key = progress.subject_key;
        execution.row.position = progress.position;
        execution.row.counts = progress.counts;
        Ok(())
    }

    async fn destroy_key(
        &self,
        tx: &mut WriteTx,
        execution: &Execution,
        now: DateTime<Utc>,
    ) -> Result<(Recorded, Progress), ExecutionError> {
        let id = execution.row.id;
        let mut found = Erased::default();
        let mut progress = Progress { step: Some(ExecutionStep::Destroyed), ..Progress::default() };
        found.removed.export_packages =
            erasures::delete_packages_of(tx, execution.row.subject).await?;
        // An execution that has lost the request meanwhile writes nothing outside.
        self.note_progress(tx, execution, &Progress::default()).await?;
        if let Some(key) = keys::update_destroyed(tx, execution.row.subject, now).await? {
            let entries = erasures::delete_entries(tx, key.id).await?;
            erasures::insert(tx, key.id, id, now).await?;
            work::update_cache_keys(tx, id, &entries).await?;
            found.removed.postgres_entries = entries.len() as u64;
            found.key_destroyed_at = Some(now);
            found.wrapping_key_id = Some(key.master_key_id);
            progress.subject_key = Some(key.id);
            // A transaction that begins anew writes the line again. The last line of a key counts.
            self.keep_outside(Erasure {
                tenant: execution.tenant,
                subject: key.id,
                request: id,
                at: now,
                verdict: ErasureDecision::Erased,
            })
            .await?;
            let change = Change::of_subject(key.id);
            progress.position = Some(invalidations::append(tx, &change, now).await?);
        }
        let count = i64::try_from(found.removed.postgres_entries).unwrap_or(i64::MAX);
        progress.counts = Some(Counts::Erasure(found));
        let record = AuditRecord {
            subject_key: progress.subject_key.or(execution.row.subject_key),
            count,
            ..self.execution_record(execution, Action::SubjectKeyDestroy)
        };
        let recorded = self.record_step(tx, execution, &progress, &record).await?;
        Ok((recorded, progress))
    }

    /// Restricts the person when a legal hold keeps everything: it is not destroyed, but nobody is
    /// served it any more.
    async fn keep_held(
        &self,
        tx: &mut WriteTx,
        execution: &Execution,
        holds: Vec<HoldId>,
        now: DateTime<Utc>,
    ) -> Result<(Recorded, Progress), ExecutionError> {
        let key = keys::find_subject_key(tx, execution.row.subject).await?;
        let mut progress = Progress {
            step: Some(ExecutionStep::Held),
            counts: Some(Counts::Erasure(Erased { holds, ..Erased::default() })),
            ..Progress::default()
        };
        if let Some(key) = key {
            self.take_back_outside(Erasure {
                tenant: execution.tenant,
                subject: key.id,
                request: execution.row.id,
                at: now,
                verdict: ErasureDecision::Kept,
            })
            .await?;
            keys::update_restricted(tx, key.id, Some(now)).await?;
            let cached = erasures::list_cache_keys(tx, key.id).await?;
            work::update_cache_keys(tx, execution.row.id, &cached).await?;
            progress.subject_key = Some(key.id);
            let change = Change::of_subject(key.id);
            progress.position = Some(invalidations::append(tx, &change, now).await?);
        }
        let record = AuditRecord {
            subject_key: progress.subject_key.or(execution.row.subject_key),
            ..self.execution_record(execution, Action::Restrict)
        };
        let recorded = self.record_step(tx, execution, &progress, &record).await?;
        Ok((recorded, progress))
    }

    /// Removes the person's values from Redis. Returns false if Redis cannot be reached.
    async fn clear_redis(&self, execution: &mut Execution) -> Result<bool, ExecutionError> {
        let (store, id, tenant) = (&self.parts.store, execution.row.id, execution.tenant);
        let cached = store.read("list values to remove from Redis", tenant, async |mut tx| {
            work::list_cache_keys(&mut tx, id).await
        });
        let cached = cached.await?;
        let keys = self.parts.keyring.tenant_keys(execution.tenant).await?;
        let era = self.parts.coherence.era();
        let name = |key| WarmName::new(keys.redis_key(key), keys.redis_value(), era).key;
        let names: Vec<[u8; 32]> = cached.iter().map(name).collect();
        let mut results = Vec::with_capacity(names.len());
        for (turn, some) in names.chunks(AT_ONCE).enumerate() {
            if turn > 0 && turn.is_multiple_of(TURNS) {
                self.prolong(execution).await?;
            }
            results.extend(join_all(some.iter().map(|name| self.remove_value(*name))).await);
            if results.iter().any(Result::is_err) {
                break;
            }
        }
        if let Some(error) = results.into_iter().find_map(Result::err) {
            tracing::warn!(request = %id, %error, "an erasure waits for Redis");
            return Ok(false);
        }
        let mut found = erased_so_far(execution);
        found.removed.redis_names = cached.len() as u64;
        execution.row.counts = Some(Counts::Erasure(found));
        Ok(true)
    }

    async fn remove_value(&self, name: [u8; 32]) -> Result<(), RedisError> {
        let removing = self.parts.stack.warm.remove(name);
        tokio::time::timeout(REDIS_LIMIT, removing).await.unwrap_or(Err(RedisError::Open))
    }

    /// Returns whether every replica has followed, or proves nothing any more.
    async fn follow_everywhere(&self, execution: &mut Execution) -> Result<bool, ExecutionError> {
        let Some(position) = execution.row.position else { return Ok(true) };
        match self.parts.coherence.propagate(position).await {
            Ok(replicas) => {
                let mut found = erased_so_far(execution);
                found.removed.memory_replicas = replicas;
                execution.row.counts = Some(Counts::Erasure(found));
                Ok(true)
            }
            Err(error) => {
                tracing::warn!(request = %execution.row.id, %error, "an erasure waits for replicas");
                Ok(false)
            }
        }
    }

    /// Commits that a step is done, with what is known by then.
    async fn note_step(
        &self,
        execution: &mut Execution,
        step: ExecutionStep,
    ) -> Result<(), ExecutionError> {
        let store = &self.parts.store;
        let counts = execution.row.counts.clone();
        let progress = Progress { step: Some(step), counts, ..Progress::default() };
        let record = self.execution_record(execution, Action::GdprStep);
        let noted = store.change("note a step of an erasure", execution.tenant, async |mut tx| {
            let recorded = self.record_step(&mut tx, execution, &progress, &record).await?;
            Ok::<_, ExecutionError>(Ending::Commit(recorded, ()))
        });
        noted.await?;
        execution.row.step = Some(step);
        Ok(())
    }

    /// Looks once more that nothing is left, and certifies it.
    async fn certify(&self, execution: &mut Execution) -> Result<(), ExecutionError> {
        let found = erased_so_far(execution);
        let (store, id, tenant) = (&self.parts.store, execution.row.id, execution.tenant);
        let looked = store.read("look whether an erasure left entries", tenant, async |mut tx| {
            let left = match (execution.row.subject_key, found.key_destroyed_at) {
                (Some(key), Some(_)) => erasures::count_entries(&mut tx, key).await?,
                _ => 0,
            };
            let events = history::list_events(&mut tx, id).await?;
            Ok::<_, StoreError>((left, events))
        });
        let (left, events) = looked.await?;
        if left > 0 {
            tracing::error!(request = %id, left, "entries are left after an erasure");
            return Err(ServiceError::Malformed.into());
        }
        let certificate = Certificate {
            tenant_id: execution.tenant,
            request_id: id,
            subject_index: hex::encode(execution.row.subject.0),
            subject_key_id: execution.row.subject_key,
            received_at: execution.row.received_at,
            key_destroyed_at: found.key_destroyed_at,
            wrapping_key_id: found.wrapping_key_id,
            issued_at: self.parts.clock.now(),
            removed: found.removed,
            exceptions: found.holds,
            audit_ids: events.iter().map(|event| event.id).collect(),
        };
        let event = if certificate.exceptions.is_empty() {
            RequestEvent::Complete
        } else {
            RequestEvent::CompletePartially
        };
        let body = self.sign(certificate)?;
        let counts = execution.row.counts.clone();
        let progress = Progress { counts, ..Progress::default() };
        self.finish(execution, event, &progress, Some(&body)).await
    }

    fn sign(&self, certificate: Certificate) -> Result<String, ServiceError> {
        let key = self.parts.keys.audit_signing_key().map_err(KeyringError::from)?;
        let signed = SignedCertificate {
            key_id: self.parts.keys.active_id().as_str().to_owned(),
            public_key: hex::encode(key.public()),
            signature: hex::encode(key.sign(&certificate.canonical())),
            certificate,
        };
        serde_json::to_string_pretty(&signed).map_err(|_| ServiceError::Malformed)
    }
}

/// Returns what the erasure has found and removed by now.
fn erased_so_far(execution: &Execution) -> Erased {
    match &execution.row.counts {
        Some(Counts::Erasure(erased)) => erased.clone(),
        Some(Counts::Export(_)) | None => Erased::default(),
    }
}
