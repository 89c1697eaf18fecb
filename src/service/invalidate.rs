//! Invalidation: what it removes is not served to any request that arrives after its answer.

use crate::domain::audit_record::Action;
use crate::domain::ids::EntryId;
use crate::domain::selector::{Change, Generation, Selector};
use crate::store::{self, StoreError, entries, invalidations};

use super::{Call, Service, ServiceError};

/// What is to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalidation {
    /// Everything of the tenant.
    All,
    /// One entry.
    Entry(EntryId),
}

/// Whether to remove or only to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalidated {
    /// Count what would be removed.
    DryRun,
    /// Remove.
    ForReal,
}

/// Why nothing was invalidated.
#[derive(Debug, thiserror::Error)]
pub enum InvalidateError {
    /// Something of the service failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// It is committed, but this process has not followed the stream that far: safe to repeat.
    #[error("the invalidation is not propagated yet")]
    NotPropagated(#[source] StoreError),
}

impl From<StoreError> for InvalidateError {
    fn from(error: StoreError) -> Self {
        Self::Service(error.into())
    }
}

impl Service {
    /// Removes, or counts, entries of the caller's tenant; returns how many. An entry that is not
    /// there counts 0.
    pub async fn invalidate(
        &self,
        call: &Call,
        what: Invalidation,
        how: Invalidated,
        action: Action,
    ) -> Result<u64, InvalidateError> {
        let count = match how {
            Invalidated::DryRun => self.count_hit(call, what).await?,
            Invalidated::ForReal => {
                let (count, gone) = self.commit_invalidation(call, what, action).await?;
                self.parts.coherence.catch_up().await.map_err(InvalidateError::NotPropagated)?;
                let count = match (count, &gone) {
                    (None, Selector::Before(generation)) => {
                        self.count_generation(call, generation.previous()).await?
                    }
                    (count, _) => count.unwrap_or(0),
                };
                self.remove_from_redis(call, &gone).await;
                self.stats.tenant(call.caller.tenant).invalidated(count);
                self.parts.metrics.invalidated(count);
                count
            }
        };
        Ok(count)
    }

    async fn count_hit(&self, call: &Call, what: Invalidation) -> Result<u64, StoreError> {
        let Invalidation::Entry(id) = what else {
            return self.count_generation(call, call.view.generation()).await;
        };
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        store
            .bounded(async {
                let mut tx = store.tenant(call.caller.tenant).await?;
                let found = entries::find(&mut tx, id, now).await?;
                tx.end().await?;
                Ok(u64::from(found.is_some()))
            })
            .await
    }

    async fn count_generation(
        &self,
        call: &Call,
        generation: Generation,
    ) -> Result<u64, StoreError> {
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        store
            .bounded_long(async {
                let mut tx = store.tenant(call.caller.tenant).await?;
                let count = entries::count(&mut tx, generation, now).await?;
                tx.end().await?;
                Ok(count)
            })
            .await
    }

    /// Commits. The count is `None` where counting would have kept others waiting: what is gone is
    /// of an ended generation and can be counted afterwards.
    async fn commit_invalidation(
        &self,
        call: &Call,
        what: Invalidation,
        action: Action,
    ) -> Result<(Option<u64>, Selector), StoreError> {
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        let work = async {
            let mut tx = store.write(call.caller.tenant).await?;
            let everything = what == Invalidation::All;
            let generation = invalidations::lock_for_invalidation(&mut tx, everything, now).await?;
            let (count, selector) = match what {
                Invalidation::All => {
                    let old = generation.previous();
                    let count = entries::count_quickly(&mut tx, old, now).await?;
                    (count, Selector::Before(generation))
                }
                Invalidation::Entry(id) => {
                    // One that is not good any more counts as not there, but is removed too:
                    // it may still be opened.
                    let removed = entries::delete(&mut tx, id, generation, now).await?;
                    let count = removed.is_some_and(|removed| removed.was_good);
                    let key = removed.map(|removed| removed.key);
                    (Some(u64::from(count)), Selector::Entry { id, key })
                }
            };
            let mut record = call.change(call.caller.tenant, action);
            record.count = count.map_or(-1, |count| i64::try_from(count).unwrap_or(i64::MAX));
            if let Invalidation::Entry(id) = what {
                record.entry = Some(id);
            }
            let row = self.parts.audit.stamp(record);
            let recorded = store::audit::insert(&mut tx, &row).await?;
            invalidations::append(&mut tx, &Change::Entries(selector), now).await?;
            tx.commit(recorded).await?;
            Ok((count, selector))
        };
        match what {
            Invalidation::All => store.bounded_long(work).await,
            Invalidation::Entry(_) => store.bounded(work).await,
        }
    }

    /// Frees the memory in Redis. Correctness does not depend on it: what stays is not admitted.
    async fn remove_from_redis(&self, call: &Call, selector: &Selector) {
        let Selector::Entry { key: Some(key), .. } = selector else {
            return;
        };
        let Ok(keys) = self.parts.keyring.tenant_keys(call.caller.tenant).await else {
            return;
        };
        if self.parts.stack.warm.remove(keys.redis_key(key)).await.is_err() {
            tracing::debug!("an invalidated entry stays in Redis until it expires");
        }
    }
}
