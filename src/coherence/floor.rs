//! Owns the floor: the newest position, kept in Redis for replicas that cannot ask Postgres. The
//! floor proves something only to a replica that knows its origin from before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::clock::Clock;
use crate::domain::ids::Ids;
use crate::domain::selector::Position;
use crate::redis::{Floor, FloorKey, FloorOrigin, Redis, RedisError};
use crate::store::follow::History;

/// The greatest age at which a reading of Postgres counts as made beside the floor.
const CONTACT_FRESH: Duration = Duration::from_secs(1);

/// The longest time without Postgres for which the floor proves anything.
pub(super) const CONTACT_LIMIT: Duration = Duration::from_mins(15);

/// The place where the floor is kept.
#[derive(Clone)]
pub enum FloorPlace {
    /// The floor is kept nowhere, because there is no Redis.
    Nowhere,
    /// The floor is kept in Redis. When it is missing, it is made anew with an id from `ids`.
    Redis {
        /// The client of Redis.
        redis: Redis,
        /// The key of the installation's floor.
        key: FloorKey,
        /// The source of the ids that name a new floor.
        ids: Arc<dyn Ids>,
        /// The clock for these ids.
        clock: Arc<dyn Clock>,
    },
}

impl FloorPlace {
    /// Raises the floor to `position` at least, or replaces it if it is of another history. Returns
    /// `None` if the floor is kept nowhere.
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

/// The origin of the floor, as it was seen beside Postgres.
#[derive(Debug, Clone)]
struct SeenFloor {
    origin: FloorOrigin,
    /// The time at which Postgres was asked.
    contact: Instant,
}

/// The floor, with the knowledge that one replica has of it.
pub(super) struct FloorWatch {
    place: FloorPlace,
    known: Option<SeenFloor>,
}

impl FloorWatch {
    pub(super) const fn new(place: FloorPlace) -> Self {
        Self { place, known: None }
    }

    /// Raises the floor to `position` at least. Postgres, asked at `contact`, says that `position`
    /// is the newest. The origin that the floor has now is remembered.
    pub(super) async fn raise(&mut self, history: &History, position: Position, contact: Instant) {
        let raised = self.place.raise(history, position).await;
        // If the contact is older, Postgres may know of steps that a flushed Redis has forgotten.
        if let Some(Ok(floor)) = raised
            && contact.elapsed() < CONTACT_FRESH
        {
            self.known = Some(SeenFloor { origin: floor.origin, contact });
        }
    }

    pub(super) fn forget(&mut self) {
        self.known = None;
    }

    /// Returns the time since when the floor proves that `applied` is the newest position. Returns
    /// `None` if the floor does not prove it.
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
