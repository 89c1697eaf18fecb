//! Makes the monthly partitions of the trail before a record needs them.

use chrono::{DateTime, Utc};

use crate::store::{Store, StoreError, audit, migrate};

/// Makes the missing partitions of this month and the coming ones. Returns how many it made.
pub async fn make_partitions(store: &Store, now: DateTime<Utc>) -> Result<i32, StoreError> {
    let months = migrate::PARTITION_MONTHS;
    let make = store.system("make audit partitions ahead", async |mut tx| {
        audit::ensure_partitions(&mut tx, now, months).await
    });
    make.await
}
