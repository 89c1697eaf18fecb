//! How a cluster's slots are divided among its shards (Redis Cluster specification, "Key
//! distribution model").

use deadpool_redis::redis::{FromRedisValue, Value, from_redis_value_ref};

/// Slots of a cluster.
const SLOTS: u16 = 16_384;

/// Which shard holds which slots. A single server is one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Division {
    /// The last slot of each range, ascending, and the number of its shard: the same number for all
    /// ranges of one master, counted in the order of their first slots.
    ranges: Vec<(u16, usize)>,
    shards: usize,
}

impl Division {
    /// One shard holds all.
    pub(super) fn whole() -> Self {
        Self { ranges: vec![(SLOTS - 1, 0)], shards: 1 }
    }

    /// What a node answers to CLUSTER SLOTS: of each range its first and last slot, its master with
    /// its id in the third place, and its replicas. `None`: it is not that, or there is no range.
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

    /// How many shards there are, at least one.
    pub(super) const fn shards(&self) -> usize {
        self.shards
    }

    /// The number of the shard that holds a key. Slots that nobody holds go with the next range.
    pub(super) fn shard_of(&self, key: &[u8]) -> usize {
        let slot = slot(key);
        let index = self.ranges.partition_point(|(last, _)| *last < slot);
        self.ranges.get(index).or(self.ranges.last()).map_or(0, |(_, shard)| *shard)
    }
}

fn read<T: FromRedisValue>(value: &Value) -> Option<T> {
    from_redis_value_ref(value).ok()
}

/// The slot of a key: of what stands between its first braces, if anything does.
fn slot(key: &[u8]) -> u16 {
    let between = || {
        let open = key.iter().position(|byte| *byte == b'{')? + 1;
        let length = key[open..].iter().position(|byte| *byte == b'}')?;
        (length > 0).then(|| &key[open..open + length])
    };
    let hashed = between().unwrap_or(key);
    crc16::State::<crc16::XMODEM>::calculate(hashed) % SLOTS
}
