//! The cold tier: Postgres holds every sealed answer, found by primary key. An answer that is read
//! here is proven at the position that the process had before the reading.

use crate::domain::selector::Position;
use crate::store::entries::{self, FoundAnswer};
use crate::store::{Store, StoreError};

use super::{StoredAnswer, Wanted};

/// The tier in Postgres.
#[derive(Debug, Clone)]
pub struct Cold {
    store: Store,
}

impl Cold {
    /// Makes the tier, which reads through `store`.
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Reads the answer at a place. Returns `None` if there is none of the reader's generation.
    pub async fn get(
        &self,
        wanted: &Wanted,
        position: Position,
    ) -> Result<Option<StoredAnswer>, StoreError> {
        let place = wanted.place;
        let found = self.store.read("find an answer", place.tenant, async |mut tx| {
            entries::find_answer(&mut tx, &place.key, place.generation).await
        });
        let found = found.await?;
        Ok(found.map(|found| {
            let FoundAnswer { meta, labels, answer } = found;
            StoredAnswer { place, meta, labels, answer, position }
        }))
    }
}
