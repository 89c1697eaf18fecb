//! One authenticated request: its caller, its time of arrival, and its audit record. However the
//! request ends, a record tells the end.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};

use crate::audit::{Audit, AuditError, Draft, Durability, Receipt, Recording};
use crate::auth::TokenStanding;
use crate::coherence::TenantView;
use crate::domain::action::Action;
use crate::domain::audit_record::{Actor, AuditRecord, Outcome, RecordHead};
use crate::domain::caller::Caller;
use crate::domain::ids::{AuditId, Ids, RequestId, TenantId};
use crate::domain::network::Network;

/// The facts of a request that are known before it is authenticated.
#[derive(Debug, Clone, Copy)]
pub struct CallStart {
    /// The request's id.
    pub request: RequestId,
    /// The time of its arrival.
    pub at: DateTime<Utc>,
    /// The same moment on the monotonic clock, to measure from.
    pub arrived: Instant,
}

/// The origin of an authenticated request.
pub struct CallOrigin {
    /// The caller.
    pub caller: Caller,
    /// The roles as records write them.
    pub roles: Arc<str>,
    /// The caller's tenant.
    pub view: Arc<TenantView>,
    /// The caller's network.
    pub network: Network,
}

/// The durable record of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The record.
    pub audit: AuditId,
    /// The place where the record is durable.
    pub durability: Durability,
}

/// An authenticated request.
pub struct Call {
    /// The caller.
    pub caller: Caller,
    /// The caller's tenant.
    pub view: Arc<TenantView>,
    /// The certainty that the token is still good.
    pub standing: TokenStanding,
    /// The request's id.
    pub request: RequestId,
    /// The time of its arrival.
    pub at: DateTime<Utc>,
    arrived: Instant,
    audit: Audit,
    ids: Arc<dyn Ids>,
    template: AuditRecord,
    /// The record in the making. `None` once it is settled.
    draft: Option<Draft>,
    settled: Option<Settled>,
}

impl Call {
    /// Begins the record of a request that wants `action`.
    pub fn new(
        start: CallStart,
        origin: CallOrigin,
        action: Action,
        audit: Audit,
        ids: Arc<dyn Ids>,
    ) -> Self {
        let CallOrigin { caller, roles, view, network } = origin;
        let template = AuditRecord::begun(RecordHead {
            id: AuditId::fresh(&*ids, start.at),
            tenant: caller.tenant,
            at: start.at,
            request: start.request,
            actor: Actor::Token { id: caller.token, roles, network: Some(network) },
            action,
        });
        let draft = Some(Draft::new(audit.clone(), template.clone()));
        Self {
            caller,
            view,
            standing: TokenStanding::Confirmed,
            request: start.request,
            at: start.at,
            arrived: start.arrived,
            audit,
            ids,
            template,
            draft,
            settled: None,
        }
    }

    /// Returns the same call with this standing of its token.
    #[must_use]
    pub fn of_standing(self, standing: TokenStanding) -> Self {
        Self { standing, ..self }
    }

    /// Notes something that the record says however the request ends.
    pub fn note(&mut self, learn: impl Fn(&mut AuditRecord)) {
        learn(&mut self.template);
        if let Some(draft) = &mut self.draft {
            draft.note(learn);
        }
    }

    /// Completes the record and makes it durable. If the request was settled before, the first
    /// record turned out to be wrong: a second one is added, and the trail has both.
    pub async fn settle(
        &mut self,
        complete: impl FnOnce(&mut AuditRecord),
    ) -> Result<Receipt, AuditError> {
        let recording = self.hand_over(complete).ok_or(AuditError::Unavailable)?;
        let receipt = recording.await?;
        self.settled = Some(Settled { audit: receipt.audit(), durability: receipt.durability() });
        Ok(receipt)
    }

    fn hand_over(&mut self, complete: impl FnOnce(&mut AuditRecord)) -> Option<Recording> {
        let draft = self
            .draft
            .take()
            .unwrap_or_else(|| Draft::new(self.audit.clone(), self.further_record()));
        let duration_us = i64::try_from(self.arrived.elapsed().as_micros()).unwrap_or(i64::MAX);
        draft.settle(|record| {
            record.duration_us = duration_us;
            complete(record);
        })
    }

    /// Returns the newest durable record of this request. Returns `None` if no record tells the
    /// end.
    pub const fn settled(&self) -> Option<Settled> {
        self.settled
    }

    /// Takes note that the request failed after it was settled, so that its record is no longer the
    /// whole truth.
    pub const fn unsettle(&mut self) {
        self.settled = None;
    }

    /// Returns the microseconds since the request arrived.
    pub fn elapsed_us(&self) -> u64 {
        u64::try_from(self.arrived.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Returns the moment of arrival, to measure from.
    pub const fn arrived(&self) -> Instant {
        self.arrived
    }

    /// Makes a further record of this request, besides the one that tells its end.
    pub fn further_record(&self) -> AuditRecord {
        AuditRecord { id: AuditId::fresh(&*self.ids, self.at), ..self.template.clone() }
    }

    /// Makes the record of a change that this request makes to `tenant`.
    pub fn change(&self, tenant: TenantId, action: Action) -> AuditRecord {
        AuditRecord { tenant, action, outcome: Outcome::Done, ..self.further_record() }
    }
}
