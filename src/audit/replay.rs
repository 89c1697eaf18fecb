//! Writes a batch again whose earlier writing had an unknown outcome. Compares the rows that are
//! there already, because a skipped insert alone proves nothing.

use crate::store::StoreError;
use crate::store::audit::{BatchConnection, StampedRecord};

/// The reason why a batch is not known to be in Postgres.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row with the same id is stored with other content.
    #[error("a record differs from the one stored under its id")]
    Differs,
}

/// Writes the rows that are not there, and compares the others with what is stored.
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
