//! The floor: the newest position of the invalidation stream, kept in Redis for replicas that
//! cannot ask Postgres. Each reading gives its origin too, because a floor is worth nothing once
//! the memory that held it was lost.

use deadpool_redis::redis::cmd;
use uuid::Uuid;

use crate::domain::selector::Position;

use super::{Redis, RedisError};

/// Positions from here on are refused, because the numbers of Lua are exact only up to 2^53.
const TOO_LARGE: i64 = 1_000_000_000_000_000;

/// Reads the floor under KEYS[1] in one step, on the master that holds the key. If arguments are
/// given, the script first raises the floor to ARGV[1] if that is more, or makes it with the epoch
/// ARGV[2] if the history ARGV[3] has no floor. A value that is no floor counts as none.
const SCRIPT: &str = r"
local replication = redis.call('INFO', 'replication')
if not string.find(replication, 'role:master', 1, true) then
  return redis.error_reply('READONLY a replica keeps no floor')
end
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  .. string.match(replication, 'master_replid:(%x+)')
local held = redis.pcall('GET', KEYS[1])
if type(held) ~= 'string' then held = '' end
local epoch, position, history = string.match(held, '^(%x+):(%d+):(.+)$')
if epoch and (#epoch ~= 32 or #position > 15) then epoch = nil end
if ARGV[3] and history ~= ARGV[3] then epoch = nil end
if ARGV[1] and (not epoch or tonumber(ARGV[1]) > tonumber(position)) then
  epoch, position = epoch or ARGV[2], ARGV[1]
  redis.call('SET', KEYS[1], epoch .. ':' .. position .. ':' .. ARGV[3])
end
return epoch and { run, epoch, position } or false
";

/// The name of an installation's floor. Installations that share a Redis have a floor each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloorKey(String);

impl FloorKey {
    /// Makes the name of the floor of the installation with this id.
    pub fn of(installation: Uuid) -> Self {
        Self(format!("ai-cache:floor:{installation}"))
    }
}

/// The memory of Redis from which a floor was read. The origin changes with every restart, failover
/// and move of the key to another node, and with every loss of the floor itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloorOrigin {
    /// The run of the server that holds the floor, and its term as a master: a server that lost its
    /// place and won it back may have missed what the other one held.
    run: String,
    /// The epoch, which is made together with the floor.
    epoch: Uuid,
}

/// The floor as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// The position. Nobody was told that a newer step is in force.
    pub position: Position,
    /// The memory from which the floor was read.
    pub origin: FloorOrigin,
}

impl Redis {
    /// Raises the floor to `position` of a history, and never lowers it. Makes the floor with
    /// `fresh_epoch` if that history has none. Returns the floor as it is now.
    pub async fn raise_floor(
        &self,
        key: &FloorKey,
        history: &str,
        position: Position,
        fresh_epoch: Uuid,
    ) -> Result<Floor, RedisError> {
        if !(0..TOO_LARGE).contains(&position.0) {
            return Err(RedisError::PositionOutOfRange);
        }
        let floor = self.ask_floor(key, Some((history, position, fresh_epoch))).await?;
        floor.ok_or(RedisError::Unintelligible)
    }

    /// Reads the floor. Returns `None` if there is none.
    pub async fn read_floor(&self, key: &FloorKey) -> Result<Option<Floor>, RedisError> {
        self.ask_floor(key, None).await
    }

    async fn ask_floor(
        &self,
        key: &FloorKey,
        raise: Option<(&str, Position, Uuid)>,
    ) -> Result<Option<Floor>, RedisError> {
        let mut command = cmd("EVAL");
        command.arg(SCRIPT).arg(1).arg(&key.0);
        if let Some((history, position, fresh_epoch)) = raise {
            command.arg(position.0).arg(fresh_epoch.simple().to_string()).arg(history);
        }
        let told: Option<(String, String, String)> = self.run(&command).await?;
        told.map(|(run, epoch, position)| {
            let epoch = Uuid::try_parse(&epoch).ok()?;
            let position = Position(position.parse().ok()?);
            Some(Floor { position, origin: FloorOrigin { run, epoch } })
        })
        .map(|floor| floor.ok_or(RedisError::Unintelligible))
        .transpose()
    }
}
