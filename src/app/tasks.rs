//! The tasks that run beside the requests, and how often.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::coherence::Coherence;
use crate::lifecycle::Lifecycle;
use crate::service::{Service, UseWriter};
use crate::tiers::Sweeper;

use super::App;

/// How often remembered keys and tokens are swept, and partitions looked after.
const SWEEP: Duration = Duration::from_secs(30);
const PARTITIONS: Duration = Duration::from_hours(6);

/// How often it is looked whether the daily verification is due.
const VERIFICATION: Duration = Duration::from_mins(10);

/// How often it is looked whether the daily purge is due.
const PURGE: Duration = Duration::from_mins(10);

/// How long steps of the invalidation stream are kept, and how often older ones are removed.
const STREAM_KEPT: TimeDelta = TimeDelta::hours(24);
const TRIMMING: Duration = Duration::from_mins(10);

/// How often the cold tier is kept to its size. What is filled meanwhile may be beyond the limits.
const EVICTION: Duration = Duration::from_secs(10);

/// How often it is looked for data subjects' requests to be executed: those that others filed, or
/// whose execution ended in the middle.
const REQUESTS: Duration = Duration::from_secs(1);

/// How often it is looked which requests' time comes to its end.
const DUE: Duration = Duration::from_mins(10);

/// How often it is looked, while what was erased may be here again, whether it still may.
const REVIVED: Duration = Duration::from_secs(1);

/// How often refused requests that were only counted are recorded.
const DENIALS: Duration = Duration::from_secs(1);

impl App {
    /// The tasks that run beside the requests until the service stops.
    pub(super) fn spawn_tasks(&self, uses: UseWriter, sweeper: Arc<Sweeper>) -> io::Result<()> {
        let parts = self.service.parts();
        let lifecycle = &self.lifecycle;
        if self.settings.spool.is_some() {
            let follow = Arc::clone(&parts.coherence).follow(lifecycle.clone());
            lifecycle.spawn_thread("coherence", follow)?;
            lifecycle.spawn(Arc::clone(&parts.coherence).listen(lifecycle.clone()));
            lifecycle.spawn(sweeper.run(Arc::clone(&parts.coherence), lifecycle.clone()));
            let (coherence, clock) = (Arc::clone(&parts.coherence), Arc::clone(&parts.clock));
            lifecycle.spawn(every(TRIMMING, lifecycle.clone(), move || {
                trim_stream(Arc::clone(&coherence), clock.now() - STREAM_KEPT)
            }));
            let service = Arc::clone(&self.service);
            lifecycle
                .spawn(every(EVICTION, lifecycle.clone(), move || evict(Arc::clone(&service))));
        }
        lifecycle.spawn(uses.run(lifecycle.clone()));
        let (keyring, authenticator) =
            (Arc::clone(&parts.keyring), Arc::clone(&self.authenticator));
        let keys = Arc::clone(&parts.keys);
        lifecycle.spawn(every(SWEEP, lifecycle.clone(), move || {
            keyring.forget_expired();
            authenticator.forget_expired();
            if let Err(error) = keys.refresh() {
                tracing::error!(%error, "the keys cannot be read anew");
            }
            std::future::ready(())
        }));
        let (service, stop) = (Arc::clone(&self.service), lifecycle.clone());
        let held = parts.audit.hold();
        lifecycle.spawn(async move {
            every(DENIALS, stop, || {
                service.flush_denials();
                std::future::ready(())
            })
            .await;
            service.flush_denials();
            drop(held);
        });
        let service = Arc::clone(&self.service);
        lifecycle.spawn(every(PARTITIONS, lifecycle.clone(), move || {
            let service = Arc::clone(&service);
            async move { make_partitions(&service).await }
        }));
        if self.settings.spool.is_some() {
            self.spawn_service_tasks();
        }
        Ok(())
    }

    /// Those that a service alone has, on any replica.
    fn spawn_service_tasks(&self) {
        let lifecycle = &self.lifecycle;
        let service = Arc::clone(&self.service);
        lifecycle.spawn(every(REVIVED, lifecycle.clone(), move || {
            look_at_erasures(Arc::clone(&service))
        }));
        let service = Arc::clone(&self.service);
        lifecycle.spawn(every(DUE, lifecycle.clone(), move || warn_of_due(Arc::clone(&service))));
        let (service, stop) = (Arc::clone(&self.service), lifecycle.clone());
        lifecycle.spawn(async move {
            tokio::select! {
                () = stop.stopping() => {}
                () = work_on_requests(service) => {}
            }
        });
        self.spawn_daily();
    }

    /// What one of the replicas does once a day. Each may take long.
    fn spawn_daily(&self) {
        let lifecycle = &self.lifecycle;
        let (service, stop) = (Arc::clone(&self.service), lifecycle.clone());
        lifecycle.spawn(async move {
            tokio::select! {
                () = stop.stopping() => {}
                () = every(VERIFICATION, stop.clone(), || verify_when_due(&service)) => {}
            }
        });
        let (service, stop) = (Arc::clone(&self.service), lifecycle.clone());
        lifecycle.spawn(async move {
            tokio::select! {
                () = stop.stopping() => {}
                () = every(PURGE, stop.clone(), || purge_when_due(&service)) => {}
            }
        });
    }
}

/// Makes partitions ahead: a row that finds none of its month lands in the default one, which keeps
/// that month's from being made later.
pub(super) async fn make_partitions(service: &Service) {
    if let Err(error) = service.ensure_partitions().await {
        tracing::error!(%error, "audit partitions could not be made ahead");
    }
}

async fn evict(service: Arc<Service>) {
    if let Err(error) = service.evict_if_eldest().await {
        tracing::warn!(%error, "entries could not be evicted");
    }
}

async fn trim_stream(coherence: Arc<Coherence>, before: DateTime<Utc>) {
    if let Err(error) = coherence.trim(before).await {
        tracing::warn!(%error, "the invalidation stream could not be trimmed");
    }
}

async fn look_at_erasures(service: Arc<Service>) {
    if !service.erasures_hold()
        && let Err(error) = service.look_at_erasures().await
    {
        tracing::warn!(%error, "the erasure ledger could not be looked at");
    }
}

async fn verify_when_due(service: &Service) {
    if let Err(error) = service.verify_when_due().await {
        tracing::error!(%error, "the audit trail could not be verified");
    }
}

async fn warn_of_due(service: Arc<Service>) {
    if let Err(error) = service.warn_of_due_requests().await {
        tracing::warn!(%error, "it is not known which data subjects' requests are due");
    }
}

async fn purge_when_due(service: &Service) {
    if let Err(error) = service.purge_when_due().await {
        tracing::error!(%error, "what is past its retention could not be removed");
    }
}

async fn work_on_requests(service: Arc<Service>) {
    loop {
        // Woken here, or by the clock; a failure was told of a moment ago and is tried again.
        let _slept = tokio::time::timeout(REQUESTS, service.worker_woken()).await;
        if let Err(error) = service.work_on_requests().await {
            tracing::warn!(%error, "data subjects' requests could not be worked on");
        }
    }
}

/// Runs `work` now and then until `lifecycle` stops, which cuts it off: what it has not committed is
/// for the next process.
async fn every<F: Future<Output = ()> + Send>(
    period: Duration,
    lifecycle: Lifecycle,
    work: impl Fn() -> F + Send,
) {
    loop {
        tokio::select! {
            () = lifecycle.stopping() => return,
            () = async { tokio::time::sleep(period).await; work().await } => {}
        }
    }
}
