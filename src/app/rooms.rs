//! Gives each room of use cases the parts that it names.

use std::sync::Arc;

use crate::administration::{Administration, AdministrationParts, Capacity};
use crate::answering::{Answering, AnsweringParts};
use crate::call::{Calls, CallsParts};
use crate::compliance::{Compliance, ComplianceParts};

use super::{AppSettings, Deps, Foundation, trail};

pub(super) fn calls(foundation: &Foundation, deps: &Deps) -> Arc<Calls> {
    Calls::new(CallsParts {
        store: foundation.store.clone(),
        audit: foundation.audit.clone(),
        keyring: Arc::clone(&foundation.keyring),
        coherence: Arc::clone(&foundation.coherence),
        stack: foundation.stack.clone(),
        remembered: Arc::clone(&foundation.remembered),
        clock: Arc::clone(&deps.clock),
        ids: Arc::clone(&deps.ids),
        metrics: Arc::clone(&foundation.metrics),
        installation: foundation.installation,
    })
}

pub(super) fn answering(
    foundation: &Foundation,
    settings: &AppSettings,
    deps: &Deps,
    calls: &Arc<Calls>,
) -> Arc<Answering> {
    Answering::new(AnsweringParts {
        calls: Arc::clone(calls),
        store: foundation.store.clone(),
        audit: foundation.audit.clone(),
        keyring: Arc::clone(&foundation.keyring),
        coherence: Arc::clone(&foundation.coherence),
        stack: foundation.stack.clone(),
        leases: Arc::clone(&foundation.leases),
        upstream: Arc::clone(&deps.upstream),
        clock: Arc::clone(&deps.clock),
        ids: Arc::clone(&deps.ids),
        metrics: Arc::clone(&foundation.metrics),
        lifecycle: foundation.lifecycle.clone(),
        switch: settings.switch,
        default_ttl: settings.default_ttl,
        stale: settings.stale,
    })
}

pub(super) fn compliance(
    foundation: &Foundation,
    settings: &AppSettings,
    deps: &Deps,
    calls: &Arc<Calls>,
) -> Arc<Compliance> {
    Compliance::new(ComplianceParts {
        calls: Arc::clone(calls),
        store: foundation.store.clone(),
        audit: foundation.audit.clone(),
        keyring: Arc::clone(&foundation.keyring),
        coherence: Arc::clone(&foundation.coherence),
        stack: foundation.stack.clone(),
        upstream: Arc::clone(&deps.upstream),
        clock: Arc::clone(&deps.clock),
        ids: Arc::clone(&deps.ids),
        metrics: Arc::clone(&foundation.metrics),
        lifecycle: foundation.lifecycle.clone(),
        installation: foundation.installation,
        keys: Arc::clone(&deps.keys),
        checkpoint: trail::checkpoint(settings),
        erasures: trail::erasures(settings, deps),
        retention_days: settings.retention_days,
        usable_for: settings.stale.longest(),
        part_bytes: settings.part_bytes,
    })
}

pub(super) fn administration(
    foundation: &Foundation,
    settings: &AppSettings,
    deps: &Deps,
    calls: &Arc<Calls>,
) -> Arc<Administration> {
    let (max_entries, usable_for) = (settings.max_entries, settings.stale.longest());
    Administration::new(AdministrationParts {
        calls: Arc::clone(calls),
        store: foundation.store.clone(),
        audit: foundation.audit.clone(),
        keyring: Arc::clone(&foundation.keyring),
        coherence: Arc::clone(&foundation.coherence),
        stack: foundation.stack.clone(),
        hasher: foundation.hasher.clone(),
        clock: Arc::clone(&deps.clock),
        ids: Arc::clone(&deps.ids),
        metrics: Arc::clone(&foundation.metrics),
        capacity: Capacity { max_entries, usable_for },
    })
}
