//! The division of a cluster's slots among its shards (Redis Cluster specification, "Key
//! distribution model").

use deadpool_redis::redis::{FromRedisValue, Value, from_redis_value_ref};

/// The number of slots of a cluster.
const SLOTS: u16 = 16_384;

/// Says which shard holds which slots. A single server is one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Division {
    /// The last slot of each range, ascending, with the number of its shard. All ranges of one
    /// master have the same number; masters are counted in the order of their first slots.
    ranges: Vec<(u16, usize)>,
    shards: usize,
}

impl Division {
    /// Makes the division in which one shard holds all slots.
    pub(super) fn whole() -> Self {
        Self { ranges: vec![(SLOTS - 1, 0)], shards: 1 }
    }

    /// Reads the answer of a node to CLUSTER SLOTS: each range has its first and last slot, its
    /// master with the master's id in the third place, and its replicas. Returns `None` if the
    /// answer is something else or has no range.
    pub(super) fn of_slots(mut told: Vec<Vec<Value>>) -> Option<Self> {
        told.sort_by_key(|range| range.first().and_then(read::<u16>));
        let mut masters: Vec<String> = Vec::new();
        let mut ranges = Vec::with_capacity(told.len());
        for range in &told {
            let [_, last, Value::Array(master), ..] = range.as_slice() else {
                return None;
            };
            let id: String = read(master.get(2)?)?;
            let known = masters.iter().position(|known| *known == id);
            let shard = known.unwrap_or_else(|| {
                masters.push(id);
                masters.len() - 1
            });
            ranges.push((read(last)?, shard));
        }
        (!ranges.is_empty()).then_some(Self { ranges, shards: masters.len() })
    }

    /// Returns the number of shards, at least one.
    pub(super) const fn shards(&self) -> usize {
        self.shards
    }

    /// Returns the number of the shard that holds a key. Slots that no shard holds belong to the
    /// next range.
    pub(super) fn shard_of(&self, key: &[u8]) -> usize {
        let slot = slot(key);
        let index = self.ranges.partition_point(|(last, _)| *last < slot);
        self.ranges.get(index).or(self.ranges.last()).map_or(0, |(_, shard)| *shard)
    }
}

fn read<T: FromRedisValue>(value: &Value) -> Option<T> {
    from_redis_value_ref(value).ok()
}

/// Returns the slot of a key. If the key has text between its first braces, only that text counts.
fn slot(key: &[u8]) -> u16 {
    let between = || {
        let open = key.iter().position(|byte| *byte == b'{')? + 1;
        let length = key[open..].iter().position(|byte| *byte == b'}')?;
        (length > 0).then(|| &key[open..open + length])
    };
    let hashed = between().unwrap_or(key);
    crc16::State::<crc16::XMODEM>::calculate(hashed) % SLOTS
}
