//! Says on whose word a use case runs: a token asks with a call, or an operator asks at the command
//! line. Both leave the same records, so each use case is written once.

use std::sync::Arc;
use std::time::Instant;

use crate::audit::{Audit, AuditError, Receipt};
use crate::domain::action::Action;
use crate::domain::audit_record::{AuditRecord, Outcome};
use crate::domain::ids::{AuditId, Ids, TenantId};

use super::served_token::ServedToken;
use super::{Call, Calls};

/// The asker of a reading, with the record of it.
pub enum OnWord<'a> {
    /// A token asks, with this call.
    Call(&'a mut Call),
    /// An operator asks at the command line.
    Operator(Box<OperatorsRecord>),
}

/// The record of a reading at the command line, in the making.
pub struct OperatorsRecord {
    template: AuditRecord,
    begun: Instant,
    audit: Audit,
    ids: Arc<dyn Ids>,
}

impl Calls {
    /// Makes the word of an operator at the command line, for `action` on the data of `tenant`.
    pub fn operators_word(&self, tenant: TenantId, action: Action) -> OnWord<'static> {
        OnWord::Operator(Box::new(OperatorsRecord {
            template: AuditRecord { tenant, action, ..self.command_line_record() },
            begun: Instant::now(),
            audit: self.parts.audit.clone(),
            ids: Arc::clone(&self.parts.ids),
        }))
    }
}

impl OnWord<'_> {
    /// Returns the tenant whose data are asked for.
    pub fn tenant(&self) -> TenantId {
        match self {
            Self::Call(call) => call.caller.tenant,
            Self::Operator(record) => record.template.tenant,
        }
    }

    /// Returns the token that asks. Returns `None` for an operator.
    pub(super) fn token(&self) -> Option<ServedToken> {
        match self {
            Self::Call(call) => Some(ServedToken::of(call)),
            Self::Operator(_) => None,
        }
    }

    /// Returns the moment at which the work began, to measure from.
    pub(super) fn begun(&self) -> Instant {
        match self {
            Self::Call(call) => call.arrived(),
            Self::Operator(record) => record.begun,
        }
    }

    /// Notes something that every later record of this work says.
    pub fn note(&mut self, learn: impl Fn(&mut AuditRecord)) {
        match self {
            Self::Call(call) => call.note(learn),
            Self::Operator(record) => learn(&mut record.template),
        }
    }

    /// Completes the record of the reading and makes it durable. `status` is the status of the HTTP
    /// reply; the record of an operator has none.
    pub async fn settle(
        &mut self,
        status: u16,
        complete: impl FnOnce(&mut AuditRecord),
    ) -> Result<Receipt, AuditError> {
        match self {
            Self::Call(call) => {
                let done = |record: &mut AuditRecord| {
                    record.outcome = Outcome::Done;
                    record.status = status;
                    complete(record);
                };
                call.settle(done).await
            }
            Self::Operator(operator) => {
                let mut record = operator.further_record();
                complete(&mut record);
                operator.audit.record(record).await
            }
        }
    }

    /// Makes the record of the end of a stream that this work gives out. The outcome is set when
    /// the stream ends.
    pub(super) fn end_record(&self, action: Action) -> AuditRecord {
        match self {
            Self::Call(call) => {
                AuditRecord { status: 200, ..call.change(call.caller.tenant, action) }
            }
            Self::Operator(operator) => AuditRecord { action, ..operator.further_record() },
        }
    }
}

impl OperatorsRecord {
    fn further_record(&self) -> AuditRecord {
        let id = AuditId::fresh(&*self.ids, self.template.at);
        AuditRecord { id, ..self.template.clone() }
    }
}
