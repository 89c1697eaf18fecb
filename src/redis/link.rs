//! The connection that all commands share. A task makes it, so that no caller who gives up takes it
//! along, and it may take longer than a command.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::lifecycle::Lifecycle;

use super::RedisError;
use super::breakers::Breakers;
use super::servers::{Handle, Servers};

/// A cluster's connection is not replaced before that age.
const RENEWAL: Duration = Duration::from_secs(3);

/// The connection, if there is one.
pub(super) struct Link {
    servers: Servers,
    /// Told how the cluster is divided that was connected to.
    breakers: Arc<Breakers>,
    /// One writer, the task, but for connections found broken; every command reads it.
    state: watch::Sender<LinkState>,
    /// Wakes the task: a connection is wanted. Ends with the service.
    wanted: Notify,
}

struct LinkState {
    current: Option<Arc<LinkConnection>>,
    /// Whether `current` is to be replaced while it is in use.
    is_worn: bool,
    /// How often connecting ended, well or not.
    tries: u64,
    /// How it ended last, when not well.
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

    /// The connection; waits for the next try to make one when there is none.
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

    /// Gives up a connection that failed, unless that was done already. A cluster's, which serves
    /// other nodes still and mends itself, is replaced beside its use, and seldom.
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

    /// Connects at once and whenever that is wanted, until the service stops.
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
