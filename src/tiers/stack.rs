//! The order in which the tiers are asked, and how an answer that is found low moves up.

use std::sync::Arc;

use crate::coherence::TenantView;
use crate::domain::entry::Tier;
use crate::domain::selector::Position;

use super::hot::HotEntry;
use super::{Cold, Hot, StoredAnswer, Wanted, Warm, WarmName};

/// An answer, and the tier in which it was found.
#[derive(Clone)]
pub struct Found {
    /// The tier.
    pub tier: Tier,
    /// The sealed answer.
    pub entry: Arc<HotEntry>,
}

/// A look-up in the tiers below memory.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// The entry's name in Redis.
    pub name: WarmName<'a>,
    /// The place that is asked for, and the times that are acceptable.
    pub wanted: &'a Wanted,
    /// The reader's tenant.
    pub view: &'a TenantView,
    /// The process's position before anything was asked.
    pub position: Position,
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
    /// Asks memory. Returns `None` if there is no answer, or if it is not acceptable or not proven.
    pub fn find_hot(&self, wanted: &Wanted, view: &TenantView) -> Option<Found> {
        let entry = self.hot.get(&wanted.place)?;
        let good = view.is_proven() && acceptable(&entry.stored, wanted, view);
        good.then_some(Found { tier: Tier::Hot, entry })
    }

    /// Asks Redis, then Postgres, and keeps the found answer in the tiers above. An unreachable
    /// Postgres is a miss here, because the steps that follow a miss need Postgres anyway and
    /// report it.
    pub async fn find_below(&self, search: Search<'_>) -> Option<Found> {
        let Search { name, wanted, view, position } = search;
        if view.is_proven()
            && let Some(mut stored) = self.warm.get(name, wanted).await
            && {
                // Another replica may have followed the stream further than this one.
                stored.position = stored.position.min(position);
                acceptable(&stored, wanted, view)
            }
        {
            return Some(Found { tier: Tier::Warm, entry: self.hot.insert(stored) });
        }
        self.find_cold(search).await
    }

    /// Asks Postgres only, after the value in Redis turned out not to be good.
    pub async fn find_cold(&self, search: Search<'_>) -> Option<Found> {
        let Search { name, wanted, view, position } = search;
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

    /// Keeps a fresh answer that is in Postgres in the tiers above.
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
