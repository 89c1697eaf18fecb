//! The task that follows the stream. Each look at Postgres renews the lease of this replica and
//! proves its position. When Postgres does not answer, the task asks Redis for the floor.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::domain::selector::Position;
use crate::lifecycle::Lifecycle;
use crate::store::follow::{FollowConnection, History, Tail};
use crate::store::{Store, StoreError, invalidations, replicas};

use super::floor::{FloorPlace, FloorWatch};
use super::{Coherence, OWN_LEASE, PROOF};

/// How often the stream is polled.
const POLL: Duration = Duration::from_millis(500);

/// The pause before another try to listen.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// The number of steps that are read at a time.
const PAGE: i64 = 500;

/// The state that the task keeps from one look to the next.
pub(super) struct Following {
    pub(super) connection: FollowConnection,
    floor: FloorWatch,
    /// The history in which the positions applied so far count. It is `None` until the first look.
    history: Option<History>,
    /// The time at which the last committed renewal of the lease was sent.
    renewed: Option<Instant>,
    /// The time of the step that was applied last. It tells which step that was.
    last: Option<DateTime<Utc>>,
    /// Whether the last look succeeded. It is kept to log each change once.
    answers: bool,
}

impl Following {
    pub(super) const fn new(store: Store, floor: FloorPlace) -> Self {
        Self {
            connection: FollowConnection::new(store),
            floor: FloorWatch::new(floor),
            history: None,
            renewed: None,
            last: None,
            answers: true,
        }
    }
}

impl Coherence {
    /// Follows the stream until `lifecycle` stops, then gives up the lease. It runs on a thread of
    /// its own, because a busy runtime must not cost a replica its proof.
    pub async fn follow(self: Arc<Self>, lifecycle: Lifecycle) {
        self.following.lock().await.connection.disconnect();
        loop {
            tokio::select! {
                () = lifecycle.stopping() => break,
                () = self.woken.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
            self.look().await;
        }
        self.proof.end();
        if let Err(error) = self.sign_off(&[self.follower.replica]).await {
            tracing::warn!(%error, "the replica could not be signed off");
        }
    }

    /// Wakes the task that follows at each step, until `lifecycle` stops. Polling finds the steps
    /// that it misses.
    pub async fn listen(self: Arc<Self>, lifecycle: Lifecycle) {
        loop {
            tokio::select! {
                () = lifecycle.stopping() => return,
                () = async {
                    if let Err(error) = self.hear_steps().await {
                        tracing::debug!(%error, "steps are not heard of, only polled");
                    }
                    tokio::time::sleep(LISTEN_AGAIN).await;
                } => {}
            }
        }
    }

    async fn hear_steps(&self) -> Result<(), StoreError> {
        let mut listener = self.store.listen().await?;
        while listener.heard().await? {
            self.woken.notify_one();
        }
        Ok(())
    }

    /// Removes replicas that have ended from those that an invalidation waits for.
    pub async fn sign_off(&self, replicas: &[uuid::Uuid]) -> Result<(), StoreError> {
        self.store
            .system("sign off replicas that have ended", async |mut tx| {
                replicas::delete(&mut tx, replicas).await?;
                Ok(())
            })
            .await
    }

    /// Looks at the stream for the first time, before anything is served.
    pub async fn begin(&self) -> Result<(), StoreError> {
        self.catch_up().await?;
        self.raise_floor(&mut *self.following.lock().await).await;
        Ok(())
    }

    async fn look(&self) {
        let looked = self.catch_up().await;
        let following = &mut *self.following.lock().await;
        let answered = looked.is_ok();
        match (looked, following.answers) {
            (Err(error), true) => tracing::warn!(%error, "the invalidation stream cannot be read"),
            (Ok(()), false) => tracing::warn!("the invalidation stream is read again"),
            _ => {}
        }
        following.answers = answered;
        if answered {
            self.raise_floor(following).await;
        } else if let Some(asked) = following.floor.confirm(self.position()).await {
            self.proof.extend(asked + PROOF);
        }
    }

    async fn raise_floor(&self, following: &mut Following) {
        if let (Some(history), Some(contact)) = (&following.history, following.renewed) {
            following.floor.raise(history, self.position(), contact).await;
        }
    }

    /// Applies every step that is in the stream now, and proves the position.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        let following = &mut *self.following.lock().await;
        loop {
            let (applied, sent) = (self.position(), Instant::now());
            let history = following.history.as_ref();
            let tail = following.connection.poll(&self.follower, applied, history).await?;
            self.live_replicas.store(tail.live_replicas.max(1), Ordering::Relaxed);
            self.is_eldest.store(tail.is_eldest, Ordering::Relaxed);
            // No invalidation waits for a replica whose lease ran out. A replica may count on a
            // lease only once the lease is committed, so this look proves no more than the renewal
            // before it allows.
            let lease = following.renewed.replace(sent).map_or(sent, |renewed| renewed + OWN_LEASE);
            if following.history.as_ref() != Some(&tail.history)
                || !(tail.trimmed_to..=tail.position).contains(&applied)
                || is_another(following.last, tail.at_position)
                || !self.apply_all(following, tail.position).await?
            {
                self.begin_at(following, tail).await?;
                continue;
            }
            following.last = following.last.or(tail.at_position);
            self.proof.extend(lease.min(sent + PROOF));
            // The next poll acknowledges the steps that were applied only now.
            if tail.position == applied && self.is_proven() {
                return Ok(());
            }
        }
    }

    /// Applies every step up to `end`. Returns false if a step is missing, or is of a kind that
    /// only a later release knows.
    async fn apply_all(
        &self,
        following: &mut Following,
        end: Position,
    ) -> Result<bool, StoreError> {
        while self.position() < end {
            let steps = match following.connection.list_after(self.position(), PAGE).await {
                Err(StoreError::UnknownValue(_)) => return Ok(false),
                steps => steps?,
            };
            if steps.is_empty() {
                return Ok(false);
            }
            for (step, at) in steps {
                if step.position.0 != self.position().0 + 1 {
                    return Ok(false);
                }
                self.apply(&mut following.connection, &step).await?;
                following.last = Some(at);
            }
        }
        Ok(true)
    }

    async fn begin_at(&self, following: &mut Following, tail: Tail) -> Result<(), StoreError> {
        if following.history.is_some() {
            tracing::warn!(
                applied = self.position().0,
                tail = tail.position.0,
                "the invalidation stream is not the one that was followed; memory is emptied"
            );
        }
        following.floor.forget();
        self.proof.enter(&tail.history);
        self.begin_anew(&mut following.connection, tail.position).await?;
        following.history = Some(tail.history);
        // The time of the step at the new position is not known yet.
        following.last = None;
        Ok(())
    }

    /// Removes the steps from before `before`, some at a time. A replica that has not followed them
    /// sees that they are missing.
    pub async fn trim(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        const AT_A_TIME: i64 = 1_000;
        let mut removed = 0;
        loop {
            let some = self.store.system("trim the invalidation stream", async |mut tx| {
                let some = invalidations::trim(&mut tx, before, AT_A_TIME).await?;
                Ok::<_, StoreError>(some)
            });
            let some = some.await?;
            removed += some;
            if some == 0 {
                return Ok(removed);
            }
        }
    }
}

/// Returns whether the step found at a position is not the one that was applied there.
fn is_another(applied: Option<DateTime<Utc>>, found: Option<DateTime<Utc>>) -> bool {
    matches!((applied, found), (Some(applied), Some(found)) if applied != found)
}
