//! The jobs that run beside the requests, one file each. A job is thin: when it is due it calls a
//! use case, and it tells operators when that failed. No replica leads, so each job is safe on all
//! replicas at once.

mod coherence;
mod denials;
mod evict;
mod forget;
mod partitions;
mod purge;
mod requests;
mod restored;
mod scheduler;
mod trim_stream;
mod verify;
mod warn_of_due;

use std::io;
use std::sync::Arc;

use crate::administration::Administration;
use crate::answering::UseWriter;
use crate::audit::Audit;
use crate::auth::Authenticator;
use crate::call::Calls;
use crate::coherence::Coherence;
use crate::compliance::Compliance;
use crate::crypto::KeyProvider;
use crate::domain::clock::Clock;
use crate::keyring::Keyring;
use crate::lifecycle::Lifecycle;
use crate::store::Store;
use crate::tiers::Sweeper;

pub use partitions::Partitions;
pub use scheduler::Job;

use scheduler::run;

/// The parts that the jobs work with.
#[derive(Clone)]
pub struct Jobs {
    /// Postgres.
    pub store: Store,
    /// The audit trail.
    pub audit: Audit,
    /// The parts that all rooms share.
    pub calls: Arc<Calls>,
    /// The use cases of compliance staff.
    pub compliance: Arc<Compliance>,
    /// The use cases of administrators.
    pub administration: Arc<Administration>,
    /// The invalidation stream.
    pub coherence: Arc<Coherence>,
    /// The keys of tenants and persons.
    pub keyring: Arc<Keyring>,
    /// The verifier of tokens.
    pub authenticator: Arc<Authenticator>,
    /// The master keys.
    pub keys: Arc<KeyProvider>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The stop signals and the tracker of tasks.
    pub lifecycle: Lifecycle,
}

impl Jobs {
    /// Starts the jobs that every process has, also a command.
    pub fn start(&self, uses: UseWriter) {
        let Self { store, audit, calls, keyring, authenticator, keys, clock, lifecycle, .. } =
            self.clone();
        lifecycle.spawn(uses.run(lifecycle.clone()));
        lifecycle.spawn(denials::run(calls, audit.hold(), lifecycle.clone()));
        lifecycle.spawn(run(forget::Forget { keyring, authenticator, keys }, lifecycle.clone()));
        lifecycle.spawn(run(Partitions { store, clock }, lifecycle.clone()));
    }

    /// Starts the jobs that only a service has.
    ///
    /// # Errors
    /// Fails if no thread can be had for the poll of the invalidation stream.
    pub fn start_service(&self, sweeper: Arc<Sweeper>) -> io::Result<()> {
        let Self { compliance, administration, coherence, clock, lifecycle, .. } = self.clone();
        coherence::start(&coherence, sweeper, &lifecycle)?;
        lifecycle.spawn(run(trim_stream::TrimStream { coherence, clock }, lifecycle.clone()));
        lifecycle.spawn(run(evict::Evict(administration), lifecycle.clone()));
        let restored = restored::LookAtErasures(Arc::clone(&compliance));
        lifecycle.spawn(run(restored, lifecycle.clone()));
        let due = warn_of_due::WarnOfDue(Arc::clone(&compliance));
        lifecycle.spawn(run(due, lifecycle.clone()));
        lifecycle.spawn(requests::run(Arc::clone(&compliance), lifecycle.clone()));
        let verify = verify::Verify(Arc::clone(&compliance));
        lifecycle.spawn(run(verify, lifecycle.clone()));
        lifecycle.spawn(run(purge::PurgeJob(compliance), lifecycle.clone()));
        Ok(())
    }
}
