//! The order in which tiers are asked, and how an answer found low moves up.

use std::sync::Arc;

use crate::coherence::TenantView;
use crate::domain::entry::Tier;
use crate::domain::selector::Position;

use super::hot::HotEntry;
use super::{Cold, Hot, StoredAnswer, Wanted, Warm, WarmName};

/// An answer and where it was found.
#[derive(Clone)]
pub struct Found {
    /// Where.
    pub tier: Tier,
    /// The sealed answer.
    pub entry: Arc<HotEntry>,
}

/// The three tiers.
#[derive(Clone)]
pub struct Stack {
    /// Memory.
    pub hot: Arc<Hot>,
    /// Redis, or nothing.
    pub warm: Arc<dyn Warm>,
    /// Postgres.
    pub cold: Cold,
}

impl Stack {
    /// Asks memory.
    pub fn find_hot(&self, wanted: &Wanted, view: &TenantView) -> Option<Found> {
        let entry = self.hot.get(&wanted.place)?;
        let good = view.is_proven() && acceptable(&entry.stored, wanted, view);
        good.then_some(Found { tier: Tier::Hot, entry })
    }

    /// Asks Redis, then Postgres, and keeps what is found in the tiers above. `position` is the
    /// process's before anything was asked. Postgres out of reach is a miss here: what follows a
    /// miss needs it anyway, and says so.
    pub async fn find_below(
        &self,
        (name, wanted): (WarmName<'_>, &Wanted),
        view: &TenantView,
        position: Position,
    ) -> Option<Found> {
        if view.is_proven()
            && let Some(mut stored) = self.warm.get(name, wanted).await
            && {
                // Another replica may have followed further than this one.
                stored.position = stored.position.min(position);
                acceptable(&stored, wanted, view)
            }
        {
            return Some(Found { tier: Tier::Warm, entry: self.hot.insert(stored) });
        }
        self.find_cold((name, wanted), view, position).await
    }

    /// The same without Redis, when what Redis held was not good.
    pub async fn find_cold(
        &self,
        (name, wanted): (WarmName<'_>, &Wanted),
        view: &TenantView,
        position: Position,
    ) -> Option<Found> {
        let stored = match self.cold.get(wanted, position).await {
            Ok(stored) => stored?,
            Err(error) => {
                tracing::warn!(%error, "the cold tier cannot be read");
                return None;
            }
        };
        if !acceptable(&stored, wanted, view) {
            return None;
        }
        self.warm.put(name, &stored);
        Some(Found { tier: Tier::Cold, entry: self.hot.insert(stored) })
    }

    /// Keeps a fresh answer that is in Postgres.
    pub fn insert(&self, name: WarmName<'_>, stored: StoredAnswer) {
        self.warm.put(name, &stored);
        self.hot.insert(stored);
    }

    /// Drops an answer that did not open, so that it is not found again in memory or Redis.
    pub async fn discard(&self, name: WarmName<'_>, wanted: &Wanted) {
        self.hot.remove(wanted.place.tenant, &wanted.place.key);
        if self.warm.remove(name.key).await.is_err() {
            tracing::warn!("a value that does not open could not be removed from Redis");
        }
    }
}

fn acceptable(stored: &StoredAnswer, wanted: &Wanted, view: &TenantView) -> bool {
    stored.place.generation == wanted.place.generation
        && wanted.accepts(&stored.meta)
        && view.admits(&stored.candidate(), stored.position)
}
