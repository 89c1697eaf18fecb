//! Writes down how often entries were served, behind the replies and in batches. Each read has its own
//! audit record; this is the count that people see, and it is exact once the service has stopped.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use uuid::Uuid;

use crate::domain::clock::Clock;
use crate::domain::ids::{EntryId, TenantId};
use crate::lifecycle::Lifecycle;
use crate::store::uses::{self, EntryUses, UseBatch};
use crate::store::{Store, StoreError};
use crate::tiers::UseCounter;

/// The time between two writings of uses.
const PERIOD: Duration = Duration::from_secs(5);

/// The most entries of one batch.
const BATCH: usize = 1_000;

/// The time that a stop waits for an unreachable Postgres in all, and between two tries.
const LAST_LIMIT: Duration = Duration::from_secs(3);
const LAST_PAUSE: Duration = Duration::from_millis(100);

/// Uses that were taken from the counters and are not known to be written. Every try writes them under
/// the same number, so that they count once.
struct TakenUses {
    number: i64,
    tenant: TenantId,
    uses: Vec<EntryUses>,
}

/// The task that writes the uses.
pub struct UseWriter {
    store: Store,
    clock: Arc<dyn Clock>,
    id: Uuid,
    used: mpsc::Receiver<Arc<UseCounter>>,
    /// The number of the newest batch.
    numbered: i64,
    /// The taken batches, in the order of their numbers. Uses that are not taken wait in the counters,
    /// so these never hold more entries than one batch.
    unwritten: VecDeque<TakenUses>,
}

impl UseWriter {
    /// Makes the task that writes the uses in `used`, under an id that no other process has.
    pub const fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        id: Uuid,
        used: mpsc::Receiver<Arc<UseCounter>>,
    ) -> Self {
        Self { store, clock, id, used, numbered: 0, unwritten: VecDeque::new() }
    }

    /// Runs until `lifecycle` stops, when nothing is served any more. It writes everything that was
    /// counted before it ends.
    pub async fn run(mut self, lifecycle: Lifecycle) {
        loop {
            // A batch that a stop cuts off is written again below, under the same number.
            tokio::select! {
                () = lifecycle.stopping() => break,
                () = async {
                    tokio::time::sleep(PERIOD).await;
                    self.write_waiting().await;
                } => {}
            }
        }
        if tokio::time::timeout(LAST_LIMIT, self.end()).await.is_err() {
            let batched: usize = self.unwritten.iter().map(|batch| batch.uses.len()).sum();
            let entries = batched + self.used.len();
            tracing::warn!(entries, "Postgres is away: use counts that wait are lost");
        }
    }

    /// Writes everything, and removes the writer from the list of writers.
    async fn end(&mut self) {
        loop {
            self.write_waiting().await;
            if self.unwritten.is_empty() && self.used.is_empty() {
                break;
            }
            tokio::time::sleep(LAST_PAUSE).await;
        }
        if self.numbered > 0
            && let Err(error) = self.leave().await
        {
            tracing::debug!(%error, "a writer of use counts could not be signed off");
        }
    }

    /// Writes the uses that wait now. Uses that are counted meanwhile wait for the next time.
    async fn write_waiting(&mut self) {
        let mut waiting = self.used.len();
        loop {
            while let Some(batch) = self.unwritten.front() {
                match self.write(batch).await {
                    Ok(()) => {}
                    Err(error)
                        if error.is_outage() || matches!(error, StoreError::Contended(_)) =>
                    {
                        tracing::warn!(%error, "use counts wait to be written");
                        return;
                    }
                    Err(error) => {
                        tracing::error!(%error, entries = batch.uses.len(), "use counts are lost");
                    }
                }
                self.unwritten.pop_front();
            }
            if waiting == 0 {
                return;
            }
            let most = waiting.min(BATCH);
            waiting -= most;
            self.take(most);
        }
    }

    /// Takes the uses of the next counters. An entry that left memory and came back has several
    /// counters.
    fn take(&mut self, most: usize) {
        let mut taken: HashMap<TenantId, HashMap<EntryId, EntryUses>> = HashMap::new();
        for _ in 0..most {
            let Ok(counter) = self.used.try_recv() else { break };
            let Some(more) = counter.take() else { continue };
            let (entry, last) = (more.entry, more.last);
            let count = i64::try_from(more.count).unwrap_or(i64::MAX);
            taken
                .entry(more.tenant)
                .or_default()
                .entry(entry)
                .and_modify(|uses| {
                    uses.count = uses.count.saturating_add(count);
                    uses.last = uses.last.max(last);
                })
                .or_insert(EntryUses { entry, count, last });
        }
        for (tenant, uses) in taken {
            self.numbered += 1;
            let uses = uses.into_values().collect();
            self.unwritten.push_back(TakenUses { number: self.numbered, tenant, uses });
        }
    }

    async fn write(&self, batch: &TakenUses) -> Result<(), StoreError> {
        let turn = UseBatch { writer: self.id, number: batch.number, at: self.clock.now() };
        let counted = self
            .store
            .count_uses(batch.tenant, async |mut tx| uses::add(&mut tx, turn, &batch.uses).await);
        counted.await
    }

    async fn leave(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let left = self.store.system("sign off a writer of use counts", async |mut tx| {
            uses::delete_writer(&mut tx, self.id, now).await
        });
        left.await
    }
}
