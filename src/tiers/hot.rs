//! The hot tier: sealed answers in memory, within a budget of bytes and evicted by use. It is
//! sharded inside, so that no reader waits for another tenant's writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use quick_cache::Weighter;
use quick_cache::sync::{Cache, EntryAction, EntryResult};
use tokio::sync::mpsc;

use crate::domain::cache_key::CacheKey;
use crate::domain::entry::Place;
use crate::domain::ids::{EntryId, TenantId};

use super::StoredAnswer;

/// The bytes that an entry takes besides its sealed answer: key, metadata, counters, the cache's
/// own slot and the allocator's rounding. `ai-cache scale` measures them.
const OVERHEAD: u64 = 464;

/// The most entries whose uses may wait to be written down. The uses of further entries wait in the
/// entry, and are lost if it leaves memory before it is used again. The counter of an entry that
/// has left takes about 100 bytes.
const USED_QUEUE: usize = 500_000;

/// An answer in memory, and how often it was served since its uses were last written down.
#[derive(Debug)]
pub struct HotEntry {
    /// The sealed answer.
    pub stored: StoredAnswer,
    uses: Arc<UseCounter>,
}

/// Counts the uses of one entry. The counter outlives the entry in memory until the uses are
/// written down.
#[derive(Debug)]
pub struct UseCounter {
    tenant: TenantId,
    entry: EntryId,
    count: AtomicU64,
    last_us: AtomicI64,
    /// Whether the counter waits in the queue. Every change of this flag also changes or reads the
    /// count, in an order that all threads see alike (SeqCst): a use either finds the counter out
    /// of the queue or is taken with the rest.
    queued: AtomicBool,
}

/// Uses of one entry since they were last taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uses {
    /// The tenant of the entry.
    pub tenant: TenantId,
    /// The entry.
    pub entry: EntryId,
    /// The number of uses.
    pub count: u64,
    /// The time of the last use.
    pub last: DateTime<Utc>,
}

#[derive(Debug, Clone)]
struct Weigh;

impl Weighter<(TenantId, CacheKey), Arc<HotEntry>> for Weigh {
    fn weight(&self, _: &(TenantId, CacheKey), entry: &Arc<HotEntry>) -> u64 {
        let StoredAnswer { answer, labels, .. } = &entry.stored;
        OVERHEAD + (answer.as_bytes().len() + labels.heap_bytes()) as u64
    }
}

/// The tier in memory.
pub struct Hot {
    entries: Cache<(TenantId, CacheKey), Arc<HotEntry>, Weigh>,
    /// The queue of counters with uses to be written down. Each counter is in it once at most. It
    /// is bounded, and a use waits for nothing.
    used: mpsc::Sender<Arc<UseCounter>>,
    capacity: u64,
}

impl Hot {
    /// Makes a tier of at most `capacity` bytes, and the queue of counters whose uses are to be
    /// written down.
    pub fn new(capacity: u64) -> (Self, mpsc::Receiver<Arc<UseCounter>>) {
        // The estimate sizes the tables of the shards. A wrong estimate costs only rehashing.
        let estimate = usize::try_from(capacity / 4_096).unwrap_or(usize::MAX).max(64);
        let (used, receiver) = mpsc::channel(USED_QUEUE);
        (
            Self { entries: Cache::with_weighter(estimate, capacity, Weigh), used, capacity },
            receiver,
        )
    }

    /// Returns the entry under a place's key. The entry may be of any generation.
    pub fn get(&self, place: &Place) -> Option<Arc<HotEntry>> {
        self.entries.get(&(place.tenant, place.key))
    }

    /// Keeps an answer, unless a newer one was kept while this one was read from below. Returns the
    /// given answer as an entry in either case.
    pub fn insert(&self, stored: StoredAnswer) -> Arc<HotEntry> {
        let key = (stored.place.tenant, stored.place.key);
        let entry = Arc::new(HotEntry { uses: Arc::new(UseCounter::of(&stored)), stored });
        let newer = |_: &_, kept: &mut Arc<HotEntry>| {
            if !kept.stored.is_newer_than(&entry.stored) {
                *kept = Arc::clone(&entry);
            }
            EntryAction::Retain(())
        };
        if let EntryResult::Vacant(place) = self.entries.entry(&key, None, newer) {
            // A failure means that another answer, which is as good, has taken the place meanwhile.
            let _taken = place.insert(Arc::clone(&entry));
        }
        entry
    }

    /// Drops the answer under a key.
    pub fn remove(&self, tenant: TenantId, key: &CacheKey) {
        self.entries.remove(&(tenant, *key));
    }

    /// Drops every answer for which `keep` returns false. It walks through everything, a shard at a
    /// time.
    pub fn retain(&self, keep: impl Fn(&StoredAnswer) -> bool) {
        self.entries.retain(|_, entry| keep(&entry.stored));
    }

    /// Drops every answer.
    pub fn clear(&self) {
        self.entries.clear();
    }

    /// Counts a use of an entry.
    pub fn count_use(&self, entry: &Arc<HotEntry>, now: DateTime<Utc>) {
        let uses = &entry.uses;
        uses.last_us.fetch_max(now.timestamp_micros(), Ordering::Relaxed);
        uses.count.fetch_add(1, Ordering::SeqCst);
        if !uses.queued.load(Ordering::SeqCst)
            && !uses.queued.swap(true, Ordering::SeqCst)
            && self.used.try_send(Arc::clone(uses)).is_err()
        {
            // The queue is full. A later use queues the counter.
            uses.queued.store(false, Ordering::SeqCst);
        }
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the tier is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the bytes in use.
    pub fn bytes(&self) -> u64 {
        self.entries.weight()
    }

    /// Returns the bytes that are allowed.
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Returns the entries and bytes of one tenant. It walks through everything, so it is for
    /// statistics only.
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
    /// Returns the time when this process last served the entry. Returns `None` if it never did.
    pub fn last_used(&self) -> Option<DateTime<Utc>> {
        let micros = self.uses.last_us.load(Ordering::Relaxed);
        if micros == 0 { None } else { DateTime::from_timestamp_micros(micros) }
    }

    /// Returns the uses that are not taken yet.
    pub fn pending_uses(&self) -> u64 {
        self.uses.count.load(Ordering::Acquire)
    }
}

impl UseCounter {
    const fn of(stored: &StoredAnswer) -> Self {
        Self {
            tenant: stored.place.tenant,
            entry: stored.meta.id,
            count: AtomicU64::new(0),
            last_us: AtomicI64::new(0),
            queued: AtomicBool::new(false),
        }
    }

    /// Takes the uses counted so far. The next use queues the counter again. Returns `None` if
    /// there are no uses.
    pub fn take(&self) -> Option<Uses> {
        self.queued.store(false, Ordering::SeqCst);
        let count = self.count.swap(0, Ordering::SeqCst);
        let last = DateTime::from_timestamp_micros(self.last_us.load(Ordering::Relaxed))?;
        let Self { tenant, entry, .. } = *self;
        (count > 0).then_some(Uses { tenant, entry, count, last })
    }
}
