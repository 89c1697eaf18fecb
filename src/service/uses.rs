//! Writes down how often entries were served, behind the replies and in batches. Reads have their
//! audit records; this is the count people see.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::domain::ids::TenantId;
use crate::lifecycle::Lifecycle;
use crate::store::entries::{self, Uses};
use crate::store::{Store, StoreError};
use crate::tiers::UseCounter;

/// How often uses are written down.
const PERIOD: Duration = Duration::from_secs(5);

/// Most entries of one batch.
const BATCH: usize = 1_000;

/// The task that writes.
pub struct UseWriter {
    store: Store,
    used: mpsc::Receiver<Arc<UseCounter>>,
}

impl UseWriter {
    /// Writes what arrives in `used`.
    pub const fn new(store: Store, used: mpsc::Receiver<Arc<UseCounter>>) -> Self {
        Self { store, used }
    }

    /// Runs until `lifecycle` stops; what was counted until then is written before it ends.
    pub async fn run(mut self, lifecycle: Lifecycle) {
        while !lifecycle.is_stopping() {
            tokio::select! {
                () = lifecycle.stopping() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
            self.write_all().await;
        }
    }

    async fn write_all(&mut self) {
        loop {
            let mut batch: HashMap<TenantId, Vec<Uses>> = HashMap::new();
            let mut taken = 0;
            while taken < BATCH
                && let Ok(counter) = self.used.try_recv()
            {
                taken += 1;
                if let Some(uses) = counter.take() {
                    batch.entry(uses.tenant).or_default().push(Uses {
                        entry: uses.entry,
                        count: i64::try_from(uses.count).unwrap_or(i64::MAX),
                        last: uses.last,
                    });
                }
            }
            if taken == 0 {
                return;
            }
            for (tenant, uses) in batch {
                if let Err(error) = self.write(tenant, &uses).await {
                    tracing::warn!(%error, entries = uses.len(), "use counts were not written");
                }
            }
        }
    }

    async fn write(&self, tenant: TenantId, uses: &[Uses]) -> Result<(), StoreError> {
        self.store
            .bounded(async {
                let mut tx = self.store.tenant(tenant).await?;
                entries::update_uses(&mut tx, uses).await?;
                tx.end().await
            })
            .await
    }
}
