//! Memory: sealed answers within a budget of bytes, evicted by use. Sharded inside, so that no
//! reader waits for another tenant's writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::mpsc;

use crate::domain::cache_key::CacheKey;
use crate::domain::entry::Place;
use crate::domain::ids::TenantId;
use crate::domain::selector::Selector;

use super::StoredAnswer;

/// Bytes an entry takes besides its sealed answer: key, metadata, counters, the cache's own slot
/// and the allocator's rounding. Measured by `ai-cache scale`.
const OVERHEAD: u64 = 448;

/// An answer in memory and how often it was served since that was last written down.
#[derive(Debug)]
pub struct HotEntry {
    /// The sealed answer.
    pub stored: StoredAnswer,
    uses: AtomicU64,
    last_used_us: AtomicI64,
}

/// Uses of one entry since they were last taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uses {
    /// Times.
    pub count: u64,
    /// Last time.
    pub last: DateTime<Utc>,
}

#[derive(Debug, Clone)]
struct Weigh;

impl Weighter<(TenantId, CacheKey), Arc<HotEntry>> for Weigh {
    fn weight(&self, _: &(TenantId, CacheKey), entry: &Arc<HotEntry>) -> u64 {
        OVERHEAD + entry.stored.answer.as_bytes().len() as u64
    }
}

/// The hot tier.
pub struct Hot {
    entries: Cache<(TenantId, CacheKey), Arc<HotEntry>, Weigh>,
    /// Entries with uses to be written down. Unbounded, but each entry is in it once at most.
    used: mpsc::UnboundedSender<Arc<HotEntry>>,
    capacity: u64,
}

impl Hot {
    /// A tier of at most `capacity` bytes, and the entries whose uses are to be written down.
    pub fn new(capacity: u64) -> (Self, mpsc::UnboundedReceiver<Arc<HotEntry>>) {
        // The estimate sizes the shards' tables; a wrong one costs only rehashing.
        let estimate = usize::try_from(capacity / 4_096).unwrap_or(usize::MAX).max(64);
        let (used, receiver) = mpsc::unbounded_channel();
        (
            Self { entries: Cache::with_weighter(estimate, capacity, Weigh), used, capacity },
            receiver,
        )
    }

    /// The entry under a place's key, whatever its generation.
    pub fn get(&self, place: &Place) -> Option<Arc<HotEntry>> {
        self.entries.get(&(place.tenant, place.key))
    }

    /// Keeps an answer.
    pub fn insert(&self, stored: StoredAnswer) -> Arc<HotEntry> {
        let key = (stored.place.tenant, stored.place.key);
        let entry = HotEntry { stored, uses: AtomicU64::new(0), last_used_us: AtomicI64::new(0) };
        let entry = Arc::new(entry);
        self.entries.insert(key, Arc::clone(&entry));
        entry
    }

    /// Drops what is under a key.
    pub fn remove(&self, tenant: TenantId, key: &CacheKey) {
        self.entries.remove(&(tenant, *key));
    }

    /// Drops what an invalidation removed, to free its memory: it is not admitted any more anyway.
    pub fn apply(&self, tenant: TenantId, selector: &Selector) {
        match selector {
            Selector::Entry(_, key) => self.remove(tenant, key),
            Selector::Before(newest) => self.entries.retain(|(owner, _), entry| {
                *owner != tenant || entry.stored.place.generation >= *newest
            }),
        }
    }

    /// Counts a use.
    pub fn count_use(&self, entry: &Arc<HotEntry>, now: DateTime<Utc>) {
        entry.last_used_us.fetch_max(now.timestamp_micros(), Ordering::Relaxed);
        if entry.uses.fetch_add(1, Ordering::AcqRel) == 0 {
            // Nobody listens only while the service stops.
            let _stopping = self.used.send(Arc::clone(entry));
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes in use.
    pub fn bytes(&self) -> u64 {
        self.entries.weight()
    }

    /// Bytes allowed.
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Entries and bytes of one tenant. Walks everything: for statistics only.
    pub fn count(&self, tenant: TenantId) -> (u64, u64) {
        self.entries
            .iter()
            .filter(|((owner, _), _)| *owner == tenant)
            .fold((0, 0), |(entries, bytes), (key, entry)| {
                (entries + 1, bytes + Weigh.weight(&key, &entry))
            })
    }
}

impl HotEntry {
    /// Takes the uses counted so far. A use counted from now on queues the entry again.
    pub fn take_uses(&self) -> Option<Uses> {
        let count = self.uses.swap(0, Ordering::AcqRel);
        let last = DateTime::from_timestamp_micros(self.last_used_us.load(Ordering::Relaxed))?;
        (count > 0).then_some(Uses { count, last })
    }

    /// When it was served last by this process.
    pub fn last_used(&self) -> Option<DateTime<Utc>> {
        let micros = self.last_used_us.load(Ordering::Relaxed);
        if micros == 0 { None } else { DateTime::from_timestamp_micros(micros) }
    }

    /// Uses not taken yet.
    pub fn pending_uses(&self) -> u64 {
        self.uses.load(Ordering::Acquire)
    }
}
