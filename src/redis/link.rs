//! The connection that all commands share. A task makes it, so that connecting goes on when a
//! command gives up, and may take longer than a command.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::lifecycle::Lifecycle;

use super::RedisError;
use super::breakers::Breakers;
use super::servers::{Handle, Servers};

/// The age before which the connection of a cluster is not replaced.
const RENEWAL: Duration = Duration::from_secs(3);

/// The connection, if there is one.
pub(super) struct Link {
    servers: Servers,
    /// The breakers, which are told how the connected cluster is divided.
    breakers: Arc<Breakers>,
    /// The state, which every command reads. Only the task writes it, but `give_up` may mark a
    /// connection as broken.
    state: watch::Sender<LinkState>,
    /// Wakes the task when a connection is wanted. The task ends with the service.
    wanted: Notify,
}

struct LinkState {
    current: Option<Arc<LinkConnection>>,
    /// Whether `current` is to be replaced while it is in use.
    is_worn: bool,
    /// The number of ended tries to connect, whether they succeeded or not.
    tries: u64,
    /// The failure of the last try that failed. It is `Unreachable` before any try has failed.
    failure: RedisError,
}

/// A connection in use.
pub(super) struct LinkConnection {
    pub(super) handle: Handle,
    made: Instant,
}

impl Link {
    pub(super) fn new(servers: Servers, breakers: Arc<Breakers>) -> Self {
        let state =
            LinkState { current: None, is_worn: false, tries: 0, failure: RedisError::Unreachable };
        Self { servers, breakers, state: watch::Sender::new(state), wanted: Notify::new() }
    }

    /// Returns the connection. If there is none, it waits for the next try to make one.
    pub(super) async fn current(&self) -> Result<Arc<LinkConnection>, RedisError> {
        let tries = {
            let state = self.state.borrow();
            if let Some(current) = &state.current {
                return Ok(Arc::clone(current));
            }
            state.tries
        };
        let mut state = self.state.subscribe();
        self.wanted.notify_one();
        let done = |state: &LinkState| state.current.is_some() || state.tries > tries;
        let state = state.wait_for(done).await.map_err(|_| RedisError::Unreachable)?;
        state.current.clone().ok_or_else(|| state.failure.clone())
    }

    /// Gives up a connection that failed, unless that was done already. The connection of a cluster
    /// still serves other nodes and mends itself, so it is replaced beside its use, and seldom.
    pub(super) fn give_up(&self, failed: &Arc<LinkConnection>) {
        let given_up = self.state.send_if_modified(|state| {
            if !state.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, failed)) {
                return false;
            }
            match failed.handle {
                Handle::Single(_) => state.current = None,
                Handle::Cluster(_) => state.is_worn = failed.made.elapsed() >= RENEWAL,
            }
            true
        });
        if given_up {
            self.wanted.notify_one();
        }
    }

    /// Connects at once, and again whenever a connection is wanted, until the service stops.
    pub(super) async fn keep(self: Arc<Self>, lifecycle: Lifecycle) {
        loop {
            if !self.state.borrow().is_good() {
                let made = tokio::select! {
                    () = lifecycle.stopping() => return,
                    made = self.servers.connect() => made,
                };
                let made = made.map(|(handle, division)| {
                    if let Some(division) = division {
                        self.breakers.learn(division);
                    }
                    handle
                });
                self.state.send_modify(|state| state.note(made));
            }
            tokio::select! {
                () = lifecycle.stopping() => return,
                () = self.wanted.notified() => {}
            }
        }
    }
}

impl LinkState {
    const fn is_good(&self) -> bool {
        self.current.is_some() && !self.is_worn
    }

    fn note(&mut self, made: Result<Handle, RedisError>) {
        self.tries += 1;
        match made {
            Ok(handle) => {
                self.current = Some(Arc::new(LinkConnection { handle, made: Instant::now() }));
                self.is_worn = false;
            }
            Err(failure) => self.failure = failure,
        }
    }
}
