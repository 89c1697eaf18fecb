//! Records of requests that were refused before anything was done for them: they had no caller, or
//! the tenant's minute was spent. Up to a rate each has its own record; beyond it one record has
//! the count, so that neither guessed tokens nor floods fill a trail.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::domain::action::Action;
use crate::domain::audit_record::{Actor, AuditRecord, Outcome, RecordHead};
use crate::domain::ids::{AuditId, RequestId, TenantId};
use crate::domain::network::Network;

use super::{CallOrigin, CallStart, Calls};

/// The records per second of one network, or of one tenant whose minute is spent.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// The groups that are counted apart between two flushes. When there are more, networks are not
/// told apart.
const KINDS: usize = 10_000;

/// The source whose records share one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum DenialSource {
    Network(Network),
    Tenant(TenantId),
}

/// The facts of refusals that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct DenialGroup {
    tenant: TenantId,
    actor: Actor,
    action: Action,
    outcome: Outcome,
    status: u16,
}

impl DenialGroup {
    /// Returns the same group without its network.
    fn anywhere(mut self) -> Self {
        match &mut self.actor {
            Actor::Token { network, .. } | Actor::Anonymous { network } => *network = None,
            Actor::CommandLine | Actor::Service => {}
        }
        self
    }
}

/// The refusals of the last moments.
pub(super) struct Denials {
    installation: TenantId,
    sources: DefaultKeyedRateLimiter<DenialSource>,
    /// The counts beyond the rate. The lock is held for one map operation, and only refused
    /// requests take it.
    beyond: Mutex<HashMap<DenialGroup, i64>>,
}

impl Denials {
    pub(super) fn new(installation: TenantId) -> Self {
        let sources = RateLimiter::keyed(Quota::per_second(PER_SECOND));
        Self { installation, sources, beyond: Mutex::default() }
    }

    fn count(&self, kind: DenialGroup) {
        let mut beyond = self.beyond.lock().unwrap_or_else(PoisonError::into_inner);
        let room = beyond.len() < KINDS || beyond.contains_key(&kind);
        let kind = if room { kind } else { kind.anywhere() };
        *beyond.entry(kind).or_default() += 1;
    }

    fn take(&self) -> HashMap<DenialGroup, i64> {
        std::mem::take(&mut *self.beyond.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Calls {
    /// Records in the installation's own trail that a request was refused before it had a caller.
    /// It waits for nothing, because such a reply holds no data of anybody.
    pub fn record_denial(&self, start: CallStart, network: Network, status: u16) {
        let outcome = match status {
            401 => Outcome::Denied,
            429 => Outcome::Limited,
            400..=499 => Outcome::Invalid,
            _ => Outcome::Error,
        };
        let kind = DenialGroup {
            tenant: self.denials.installation,
            actor: Actor::Anonymous { network: Some(network) },
            action: Action::Authenticate,
            outcome,
            status,
        };
        if self.denials.sources.check_key(&DenialSource::Network(network)).is_err() {
            self.denials.count(kind);
            return;
        }
        let duration_us = i64::try_from(start.arrived.elapsed().as_micros()).unwrap_or(i64::MAX);
        let record = self.denial(kind, start.request, 1);
        self.parts.audit.record_detached(AuditRecord { duration_us, ..record });
    }

    /// Returns whether a request that its tenant's limit refuses is only counted. If false, the
    /// request must get a record of its own.
    pub fn counts_refusal(&self, origin: &CallOrigin, action: Action, status: u16) -> bool {
        let tenant = origin.caller.tenant;
        if self.denials.sources.check_key(&DenialSource::Tenant(tenant)).is_ok() {
            return false;
        }
        let actor = Actor::Token {
            id: origin.caller.token,
            roles: origin.roles.clone(),
            network: Some(origin.network),
        };
        self.denials.count(DenialGroup {
            tenant,
            actor,
            action,
            outcome: Outcome::Limited,
            status,
        });
        true
    }

    /// Records the counts since the last time, with one record for each group.
    pub fn flush_denials(&self) {
        self.denials.sources.retain_recent();
        for (kind, count) in self.denials.take() {
            let request = RequestId::fresh(&*self.parts.ids, self.parts.clock.now());
            self.parts.audit.record_detached(self.denial(kind, request, count));
        }
    }

    fn denial(&self, kind: DenialGroup, request: RequestId, count: i64) -> AuditRecord {
        let DenialGroup { tenant, actor, action, outcome, status } = kind;
        let at = self.parts.clock.now();
        let id = AuditId::fresh(&*self.parts.ids, at);
        let head = RecordHead { id, tenant, at, request, actor, action };
        AuditRecord { outcome, status, count, ..AuditRecord::begun(head) }
    }
}
