//! The floor: the newest position, kept in Redis for replicas that cannot ask Postgres. It proves
//! something only to who knows that it is the floor of before: of the same memory of Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::clock::Clock;
use crate::domain::ids::Ids;
use crate::domain::selector::Position;
use crate::redis::{Floor, FloorKey, FloorOrigin, Redis, RedisError};
use crate::store::follow::History;

/// How old what was read in Postgres may be when the floor is read beside it.
const CONTACT_FRESH: Duration = Duration::from_secs(1);

/// Longest time without Postgres in which the floor proves anything.
pub(super) const CONTACT_LIMIT: Duration = Duration::from_mins(15);

/// Where the floor is kept.
#[derive(Clone)]
pub enum FloorPlace {
    /// Nowhere: there is no Redis.
    Nowhere,
    /// In Redis, made anew with an id of these when it is missing.
    Redis {
        /// The client.
        redis: Redis,
        /// Whose floor: the installation's.
        key: FloorKey,
        /// Names it.
        ids: Arc<dyn Ids>,
        /// Of the ids.
        clock: Arc<dyn Clock>,
    },
}

impl FloorPlace {
    /// Raises it to `position` at least, or puts it there when it is of another history. `None`:
    /// there is no such place.
    pub(super) async fn raise(
        &self,
        history: &History,
        position: Position,
    ) -> Option<Result<Floor, RedisError>> {
        match self {
            Self::Nowhere => None,
            Self::Redis { redis, key, ids, clock } => {
                let epoch = ids.next(clock.now());
                Some(redis.raise_floor(key, history.name(), position, epoch).await)
            }
        }
    }

    async fn read(&self) -> Option<Floor> {
        match self {
            Self::Nowhere => None,
            Self::Redis { redis, key, .. } => redis.read_floor(key).await.ok().flatten(),
        }
    }
}

/// The floor as it was seen beside Postgres.
#[derive(Debug, Clone)]
struct SeenFloor {
    origin: FloorOrigin,
    /// When Postgres was asked.
    contact: Instant,
}

/// What one replica knows of the floor.
pub(super) struct FloorWatch {
    place: FloorPlace,
    known: Option<SeenFloor>,
}

impl FloorWatch {
    pub(super) const fn new(place: FloorPlace) -> Self {
        Self { place, known: None }
    }

    /// Postgres, asked at `contact`, says that `position` is the newest: the floor is to be that at
    /// least, and whose it is now is remembered.
    pub(super) async fn raise(&mut self, history: &History, position: Position, contact: Instant) {
        let raised = self.place.raise(history, position).await;
        // Later, Postgres may know of steps that a flushed Redis has forgotten.
        if let Some(Ok(floor)) = raised
            && contact.elapsed() < CONTACT_FRESH
        {
            self.known = Some(SeenFloor { origin: floor.origin, contact });
        }
    }

    pub(super) fn forget(&mut self) {
        self.known = None;
    }

    /// Since when the floor proves that `applied` is the newest position; `None`: it does not.
    pub(super) async fn confirm(&self, applied: Position) -> Option<Instant> {
        let known = self.known.as_ref()?;
        let asked = Instant::now();
        if known.contact.elapsed() > CONTACT_LIMIT {
            return None;
        }
        let floor = self.place.read().await?;
        (floor.position == applied && floor.origin == known.origin).then_some(asked)
    }
}
