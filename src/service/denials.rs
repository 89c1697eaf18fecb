//! Records of requests that had no caller: each by itself up to a rate for its network, then one with
//! a count, so that who guesses tokens fills no trail. They are the installation's own.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::domain::audit_record::{Action, Actor, AuditRecord, Outcome};
use crate::domain::ids::{AuditId, RequestId, TenantId};
use crate::domain::network::Network;

use super::{CallStart, Service};

/// Records of one network a second.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// Networks that are counted apart between two flushes. Those of more are counted together.
const NETWORKS: usize = 10_000;

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    network: Option<Network>,
    outcome: Outcome,
    status: u16,
}

/// Who was refused lately.
pub(super) struct Denials {
    installation: TenantId,
    networks: DefaultKeyedRateLimiter<Network>,
    /// Beyond the rate; held for one map operation. Only refused requests come here.
    beyond: Mutex<HashMap<Kind, i64>>,
}

impl Denials {
    pub(super) fn new(installation: TenantId) -> Self {
        let networks = RateLimiter::keyed(Quota::per_second(PER_SECOND));
        Self { installation, networks, beyond: Mutex::default() }
    }

    fn count(&self, mut kind: Kind) {
        let mut beyond = self.beyond.lock().unwrap_or_else(PoisonError::into_inner);
        if beyond.len() >= NETWORKS && !beyond.contains_key(&kind) {
            kind.network = None;
        }
        *beyond.entry(kind).or_default() += 1;
    }

    fn take(&self) -> HashMap<Kind, i64> {
        std::mem::take(&mut *self.beyond.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Service {
    /// Records that a request was refused before it had a caller. Waits for nothing: such a reply
    /// holds nothing of anybody.
    pub fn record_denial(&self, start: CallStart, network: Network, status: u16) {
        let outcome = match status {
            401 => Outcome::Denied,
            429 => Outcome::Limited,
            400..=499 => Outcome::Invalid,
            _ => Outcome::Error,
        };
        let kind = Kind { network: Some(network), outcome, status };
        if self.denials.networks.check_key(&network).is_err() {
            self.denials.count(kind);
            return;
        }
        let duration_us = i64::try_from(start.arrived.elapsed().as_micros()).unwrap_or(i64::MAX);
        let record = self.denial(kind, start.request, 1);
        self.parts.audit.record_detached(AuditRecord { duration_us, ..record });
    }

    /// Records what was counted since the last time, a record for each network and kind.
    pub fn flush_denials(&self) {
        self.denials.networks.retain_recent();
        for (kind, count) in self.denials.take() {
            let request = RequestId::fresh(&*self.parts.ids, self.parts.clock.now());
            self.parts.audit.record_detached(self.denial(kind, request, count));
        }
    }

    fn denial(&self, kind: Kind, request: RequestId, count: i64) -> AuditRecord {
        let Kind { network, outcome, status } = kind;
        let at = self.parts.clock.now();
        let ids_of_record = (AuditId::fresh(&*self.parts.ids, at), self.denials.installation);
        let actor = Actor::Anonymous { network };
        AuditRecord {
            outcome,
            status,
            count,
            ..AuditRecord::begun(ids_of_record, at, request, actor, Action::Authenticate)
        }
    }
}
