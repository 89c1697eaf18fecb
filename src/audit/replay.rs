//! Writing a batch whose earlier writing ended unknown: what is there already is compared, since a
//! skipped insert alone proves nothing.

use crate::store::StoreError;
use crate::store::audit::{BatchConnection, StampedRecord};

/// Why a batch is not known to be in Postgres.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row is there under the same id with other content.
    #[error("a record differs from the one stored under its id")]
    Differs,
}

/// Writes those rows that are not there and compares the others.
pub(super) async fn replay(
    connection: &mut BatchConnection,
    rows: &[StampedRecord],
) -> Result<(), ReplayError> {
    let added = connection.insert_missing(rows).await?;
    if added == rows.len() as u64 {
        return Ok(());
    }
    let stored = connection.list_hashes(rows).await?;
    let same = rows.iter().all(|row| {
        stored.iter().any(|(id, hash)| *id == row.record.id && hash[..] == row.row_hash[..])
    });
    if same { Ok(()) } else { Err(ReplayError::Differs) }
}
