//! Waits until a step is in force on every replica: each has applied it, or proves nothing any
//! more.

use std::time::{Duration, Instant};

use crate::domain::selector::Position;
use crate::redis::FloorOrigin;
use crate::store::follow::{self, History};
use crate::store::replicas::{self, Laggards, ReplicaLeases};
use crate::store::{Store, StoreError};

use super::floor::CONTACT_LIMIT;
use super::{Coherence, LEASE, PROOF};

/// The longest wait: the time of a lease and of a floor, and some more.
const LIMIT: Duration = Duration::from_secs(8);

/// The first and the longest pause between two looks at which replicas have applied the step.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The time for which a floor must have stood beyond the length of a proof.
const MARGIN: Duration = Duration::from_millis(100);

/// The times for which replicas are waited for. A silent replica is waited for a minute longer than
/// a floor may prove anything to it.
const LEASES: ReplicaLeases =
    ReplicaLeases { live: LEASE, silent: Duration::from_secs(CONTACT_LIMIT.as_secs() + 60) };

/// The reason why it is not known that a step is in force everywhere. The step is committed all the
/// same.
#[derive(Debug, thiserror::Error)]
pub enum PropagationError {
    /// It cannot be read which replicas have applied the step.
    #[error("it is not known which replicas have followed")]
    Store(#[from] StoreError),
    /// A replica has not applied the step in time. It may still prove its position, by Postgres or
    /// by the floor.
    #[error("a replica has not followed in time")]
    TimedOut,
}

/// A floor that was raised, and the time since when it stands.
struct RaisedFloor {
    origin: FloorOrigin,
    since: Instant,
}

impl Coherence {
    /// Waits until no replica serves anything that the step at `position` removed. Returns how many
    /// replicas have applied the step. The leases of the others ran out.
    pub async fn propagate(&self, position: Position) -> Result<u64, PropagationError> {
        self.woken.notify_one();
        let waited = tokio::time::timeout(LIMIT, self.wait_for_replicas(position)).await;
        waited.unwrap_or(Err(PropagationError::TimedOut))
    }

    async fn wait_for_replicas(&self, position: Position) -> Result<u64, PropagationError> {
        let (begun, mut standing) = (Instant::now(), None);
        let mut pause = FIRST_PAUSE;
        loop {
            let laggards = count_laggards(&self.store, position).await?;
            let followed = u64::try_from(laggards.followed).unwrap_or(0);
            match laggards {
                Laggards { live: 0, silent: 0, .. } => return Ok(followed),
                // After this wait the silent replicas prove nothing, and they join no flight that
                // began before.
                Laggards { live: 0, with_floor: 0, .. } => {
                    if begun.elapsed() > PROOF + MARGIN {
                        return Ok(followed);
                    }
                }
                Laggards { live: 0, .. } => {
                    if self.stands(position, &mut standing).await? {
                        return Ok(followed);
                    }
                }
                Laggards { .. } => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Returns whether the floor has been at `position` for longer than any proof by an older floor
    /// lasts. One command raises the floor and reads it.
    async fn stands(
        &self,
        position: Position,
        standing: &mut Option<RaisedFloor>,
    ) -> Result<bool, StoreError> {
        let history = self.read_history().await?;
        // Without Redis it cannot be known what the floor proves to others.
        let Some(raised) = self.floor.raise(&history, position).await else {
            return Ok(false);
        };
        let now = Instant::now();
        let before = standing.take();
        *standing = raised.ok().map(|floor| match before {
            Some(before) if before.origin == floor.origin => before,
            _ => RaisedFloor { origin: floor.origin, since: now },
        });
        Ok(standing.as_ref().is_some_and(|at| now - at.since > PROOF + MARGIN))
    }

    async fn read_history(&self) -> Result<History, StoreError> {
        self.store
            .system("tell which history the stream is of", async |mut tx| {
                let history = follow::read_history(&mut tx).await?;
                Ok(history)
            })
            .await
    }
}

async fn count_laggards(store: &Store, position: Position) -> Result<Laggards, StoreError> {
    store
        .system("look who has followed the invalidation stream", async |mut tx| {
            let laggards = replicas::count_laggards(&mut tx, position, LEASES).await?;
            Ok(laggards)
        })
        .await
}
