//! The invalidation itself. A removed entry is served to no request that arrives after the
//! invalidation was answered.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::action::Action;
use crate::domain::cache_key::CacheKey;
use crate::domain::ids::EntryId;
use crate::domain::operation::Operation;
use crate::domain::query::SubjectId;
use crate::domain::selector::{Change, Generation, Group, Position, Selector};
use crate::keyring::BlindKind;
use crate::redis::RedisError;
use crate::store::removals::{self, RemovedGroup};
use crate::store::{self, Ending, StoreError, WriteTx, entries, invalidations};
use crate::tiers::WarmName;

use super::{Call, Calls, ServiceError};

/// The longest time that removing values from Redis may take.
const REDIS_LIMIT: Duration = Duration::from_secs(1);

/// The entries to be removed, in the caller's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidation {
    /// Everything of the tenant.
    All,
    /// One entry.
    Entry(EntryId),
    /// Every entry of an operation.
    Operation(Operation),
    /// Every entry with this tag.
    Tag(String),
    /// Every entry at this location.
    Location(String),
    /// Every entry with this vendor type, normalized.
    VendorType(String),
    /// Every entry that belongs to one person.
    Subject(SubjectId),
}

/// The same entries, in the tenant's blind names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    All,
    Entry(EntryId),
    Group(Group),
}

/// The result of one commit, which removes the target or a part of it.
struct RemovedPart {
    /// The number of removed entries. `None` means that counting would have kept others waiting:
    /// these entries are of an ended generation and can be counted afterwards.
    count: Option<u64>,
    selector: Selector,
    /// Cache keys of some of the removed entries.
    keys: Vec<CacheKey>,
    /// Whether nothing of the target is left.
    is_last: bool,
}

/// Says whether entries are removed or only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalidated {
    /// Entries are counted.
    DryRun,
    /// Entries are removed.
    ForReal,
}

impl Calls {
    /// Removes, or counts, entries of the caller's tenant. Returns how many there were; an entry
    /// that does not exist counts 0. A large group is removed in parts: after a failure, the parts
    /// before it stay removed.
    pub async fn invalidate(
        &self,
        call: &Call,
        what: Invalidation,
        how: Invalidated,
        action: Action,
    ) -> Result<u64, ServiceError> {
        let Some(target) = self.target(call, what).await? else {
            return Ok(0);
        };
        if how == Invalidated::DryRun {
            return Ok(self.count_hit(call, target).await?);
        }
        let (mut count, mut keys) = (0, Vec::new());
        let (last, position) = loop {
            let (part, position) = self.commit_invalidation(call, target, action).await?;
            if let Some(removed) = part.count {
                count += removed;
                self.count_invalidated(call, removed);
            }
            if keys.is_empty() {
                keys.clone_from(&part.keys);
            }
            if part.is_last {
                break (part, position);
            }
        };
        self.parts.coherence.propagate(position).await?;
        if let (None, Selector::Before(generation)) = (last.count, &last.selector) {
            count = self.count_generation(call, generation.previous()).await?;
            self.count_invalidated(call, count);
        }
        self.remove_from_redis(call, &keys).await;
        Ok(count)
    }

    fn count_invalidated(&self, call: &Call, count: u64) {
        self.stats.tenant(call.caller.tenant).invalidated(count);
        self.parts.metrics.invalidated(count);
    }

    /// Translates the caller's words into blind names. Returns `None` for a person who was never
    /// named before, because no entry belongs to that person.
    async fn target(
        &self,
        call: &Call,
        what: Invalidation,
    ) -> Result<Option<Target>, ServiceError> {
        let keyring = &self.parts.keyring;
        let tenant = call.caller.tenant;
        let (kind, label) = match what {
            Invalidation::All => return Ok(Some(Target::All)),
            Invalidation::Entry(id) => return Ok(Some(Target::Entry(id))),
            Invalidation::Operation(operation) => {
                return Ok(Some(Target::Group(Group::Operation(operation))));
            }
            Invalidation::Subject(subject) => {
                let keys = keyring.tenant_keys(tenant).await?;
                let key = keyring.find_subject_key(&keys, &subject).await?;
                if key.as_ref().is_some_and(|key| key.restricted) {
                    return Err(ServiceError::Restricted);
                }
                return Ok(key.map(|key| Target::Group(Group::Subject(key.id))));
            }
            Invalidation::Tag(text) => (BlindKind::Tag, text),
            Invalidation::Location(text) => (BlindKind::Location, text),
            Invalidation::VendorType(text) => (BlindKind::VendorType, text),
        };
        let keys = keyring.tenant_keys(tenant).await?;
        Ok(Some(Target::Group(Group::Label(keys.blind_index(kind, label.as_bytes())))))
    }

    async fn count_hit(&self, call: &Call, target: Target) -> Result<u64, StoreError> {
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        let tenant = call.caller.tenant;
        match target {
            Target::All => self.count_generation(call, call.view.generation()).await,
            Target::Entry(id) => {
                let found =
                    store.read("find an entry to be invalidated", tenant, async |mut tx| {
                        entries::find(&mut tx, id, now).await
                    });
                Ok(u64::from(found.await?.is_some()))
            }
            Target::Group(group) => {
                let store = store.long();
                let counted = store.read("count a group of entries", tenant, async |mut tx| {
                    removals::count_group(&mut tx, &group, now).await
                });
                counted.await
            }
        }
    }

    async fn count_generation(
        &self,
        call: &Call,
        generation: Generation,
    ) -> Result<u64, StoreError> {
        let (store, now) = (self.parts.store.long(), self.parts.clock.now());
        let counted =
            store.read("count the entries of a generation", call.caller.tenant, async |mut tx| {
                entries::count(&mut tx, generation, now).await
            });
        counted.await
    }

    async fn commit_invalidation(
        &self,
        call: &Call,
        target: Target,
        action: Action,
    ) -> Result<(RemovedPart, Position), StoreError> {
        let now = self.parts.clock.now();
        let store = match target {
            Target::All | Target::Group(_) => self.parts.store.long(),
            Target::Entry(_) => self.parts.store.clone(),
        };
        let committed = store.change("invalidate entries", call.caller.tenant, async |mut tx| {
            let gone = remove(&mut tx, target, now).await?;
            let mut record = call.change(call.caller.tenant, action);
            record.count = gone.count.map_or(-1, |count| i64::try_from(count).unwrap_or(i64::MAX));
            match target {
                Target::All | Target::Group(Group::Label(_)) => {}
                Target::Entry(id) => record.entry = Some(id),
                Target::Group(Group::Operation(operation)) => record.operation = Some(operation),
                Target::Group(Group::Subject(id)) => record.subject_key = Some(id),
            }
            let row = self.parts.audit.stamp(record);
            let recorded = store::audit::insert(&mut tx, &row).await?;
            let change = Change::Entries(gone.selector);
            let position = invalidations::append(&mut tx, &change, now).await?;
            Ok(Ending::Commit(recorded, (gone, position)))
        });
        committed.await
    }

    /// Frees the memory in Redis. Correctness does not depend on it, because values that stay are
    /// not admitted.
    async fn remove_from_redis(&self, call: &Call, gone: &[CacheKey]) {
        if gone.is_empty() {
            return;
        }
        let Ok(keys) = self.parts.keyring.tenant_keys(call.caller.tenant).await else {
            return;
        };
        let era = self.parts.coherence.era();
        let removing = async {
            for key in gone {
                let name = WarmName::new(keys.redis_key(key), keys.redis_value(), era);
                self.parts.stack.warm.remove(name.key).await?;
            }
            Ok::<_, RedisError>(())
        };
        if !matches!(tokio::time::timeout(REDIS_LIMIT, removing).await, Ok(Ok(()))) {
            tracing::debug!("invalidated entries stay in Redis until they expire");
        }
    }
}

/// Removes the rows. The tenant's fills are barred until the transaction ends.
async fn remove(
    tx: &mut WriteTx,
    target: Target,
    now: DateTime<Utc>,
) -> Result<RemovedPart, StoreError> {
    let generation = match target {
        Target::All => invalidations::lock_and_begin_generation(tx, now).await?,
        Target::Entry(_) | Target::Group(_) => {
            invalidations::lock_for_invalidation(tx, now).await?
        }
    };
    Ok(match target {
        Target::All => {
            let count = entries::count_quickly(tx, generation.previous(), now).await?;
            RemovedPart {
                count,
                selector: Selector::Before(generation),
                keys: Vec::new(),
                is_last: true,
            }
        }
        Target::Entry(id) => {
            // An entry that is no longer good counts as absent, but is removed too, because it can
            // still be opened.
            let removed = removals::delete(tx, id, generation, now).await?;
            let count = removed.is_some_and(|removed| removed.was_good);
            let key = removed.map(|removed| removed.key);
            RemovedPart {
                count: Some(u64::from(count)),
                selector: Selector::Entry { id, key },
                keys: key.into_iter().collect(),
                is_last: true,
            }
        }
        Target::Group(group) => {
            let RemovedGroup { count, keys, is_last } =
                removals::delete_group(tx, &group, generation, now).await?;
            RemovedPart { count: Some(count), selector: Selector::Group(group), keys, is_last }
        }
    })
}
