//! Postgres: every sealed answer, found by primary key. What is read here is proven at the position
//! the process had before reading.

use crate::domain::selector::Position;
use crate::store::entries::{self, FoundAnswer};
use crate::store::{Store, StoreError};

use super::{StoredAnswer, Wanted};

/// The cold tier.
#[derive(Debug, Clone)]
pub struct Cold {
    store: Store,
}

impl Cold {
    /// Reads through `store`.
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// The answer at a place, if it is of the reader's generation.
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
