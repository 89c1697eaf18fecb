//! Owns the view of one tenant: its generation and its recent invalidations, as this process knows
//! them. Every read asks the view twice, so asking takes no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use arc_swap::ArcSwap;

use crate::domain::cache_key::CacheKey;
use crate::domain::candidate::Candidate;
use crate::domain::entry::Place;
use crate::domain::ids::TenantId;
use crate::domain::selector::{Generation, Position, Selector};
use crate::store::tenants::TenantRow;

use super::proof::Proof;

/// The most invalidations of entries and groups that are kept. A value that was proven before the
/// oldest of them is not served from memory or Redis but proven again from Postgres.
const KEPT: usize = 1_024;

/// One tenant as this process knows it.
#[derive(Debug)]
pub struct TenantView {
    id: TenantId,
    slug: String,
    active: AtomicBool,
    requests_per_minute: AtomicU32,
    generation: AtomicI64,
    recent: ArcSwap<Recent>,
    /// The proof of this process, for the whole stream.
    proof: Arc<Proof>,
}

/// An invalidation of an entry or a group.
#[derive(Debug, Clone, Copy)]
struct KnownInvalidation {
    at: Position,
    selector: Selector,
}

/// The newest invalidations of entries and groups, oldest first.
#[derive(Debug, Clone)]
struct Recent {
    /// The position up to which nothing is known of invalidations.
    unknown_up_to: Position,
    gone: Vec<KnownInvalidation>,
}

impl TenantView {
    /// Makes the view from `row`, which was read when everything up to `position` was applied. Of
    /// the tenant's own steps, only those up to its newest one are unknown.
    pub(super) fn new(row: TenantRow, position: Position, proof: Arc<Proof>) -> Self {
        let unknown_up_to = position.min(row.position);
        Self {
            id: row.id,
            slug: row.slug,
            active: AtomicBool::new(row.active),
            requests_per_minute: AtomicU32::new(row.limits.requests_per_minute),
            generation: AtomicI64::new(row.generation.0),
            recent: ArcSwap::from_pointee(Recent { unknown_up_to, gone: Vec::new() }),
            proof,
        }
    }

    /// Returns the id of the tenant.
    pub const fn id(&self) -> TenantId {
        self.id
    }

    /// Returns the name of the tenant in commands and routes.
    pub fn slug(&self) -> &str {
        &self.slug
    }

    /// Returns whether the tokens of the tenant are accepted.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// Returns how many requests the app tokens of the tenant may make in a minute, over all
    /// replicas. 0 means that there is no limit.
    pub fn requests_per_minute(&self) -> u32 {
        self.requests_per_minute.load(Ordering::Acquire)
    }

    /// Returns the present generation of the tenant.
    pub fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// Returns the place of an entry under `key` for this tenant now.
    pub fn place(&self, key: CacheKey) -> Place {
        Place { tenant: self.id, key, generation: self.generation() }
    }

    /// Returns whether a candidate that was proven at `position` is still true. The candidate is an
    /// entry, or a fetch that has no entry yet. Only this function answers the question. It is
    /// asked at the look-up and again after the receipt.
    pub fn admits(&self, candidate: &Candidate<'_>, position: Position) -> bool {
        let place = candidate.place;
        if place.tenant != self.id || place.generation != self.generation() {
            return false;
        }
        let recent = self.recent.load();
        (recent.unknown_up_to..=self.proof.position()).contains(&position)
            && !recent
                .gone
                .iter()
                .rev()
                .take_while(|gone| gone.at > position)
                .any(|gone| candidate.is_hit_by(&gone.selector))
    }

    /// Returns whether a step after `since` removed an entry that was proven at `position`, or may
    /// have removed it. Such an entry is not admitted any more. The answer serves only to free its
    /// memory, which may happen later.
    pub fn has_removed(
        &self,
        candidate: &Candidate<'_>,
        position: Position,
        since: Position,
    ) -> bool {
        let recent = self.recent.load();
        let known_to = position.max(since);
        candidate.place.generation < self.generation()
            || position < recent.unknown_up_to
            || recent
                .gone
                .iter()
                .rev()
                .take_while(|gone| gone.at > known_to)
                .any(|gone| candidate.is_hit_by(&gone.selector))
    }

    /// Returns whether this process knows that it missed nothing. Memory and Redis are believed
    /// only then.
    pub fn is_proven(&self) -> bool {
        self.proof.holds()
    }

    /// Takes over the changes that an operator made.
    pub(super) fn follow(&self, row: &TenantRow) {
        self.active.store(row.active, Ordering::Release);
        self.requests_per_minute.store(row.limits.requests_per_minute, Ordering::Release);
    }

    /// Forgets the invalidations and takes over the state of Postgres at `position`. A `row` of
    /// `None` means that there is no such tenant.
    pub(super) fn begin_anew(&self, row: Option<TenantRow>, position: Position) {
        match row {
            Some(row) => {
                self.follow(&row);
                self.generation.store(row.generation.0, Ordering::Release);
            }
            None => self.active.store(false, Ordering::Release),
        }
        self.recent.store(Arc::new(Recent { unknown_up_to: position, gone: Vec::new() }));
    }

    /// Applies an invalidation. One task at a time calls this, in the order of positions.
    pub(super) fn apply(&self, position: Position, selector: &Selector) {
        match selector {
            Selector::Before(generation) => {
                self.generation.fetch_max(generation.0, Ordering::AcqRel);
            }
            Selector::Entry { .. } | Selector::Group(_) => {
                let mut recent = Recent::clone(&self.recent.load());
                recent.gone.push(KnownInvalidation { at: position, selector: *selector });
                if recent.gone.len() > KEPT {
                    recent.unknown_up_to = recent.gone.remove(0).at;
                }
                self.recent.store(Arc::new(recent));
            }
        }
    }
}
