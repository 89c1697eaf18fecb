//! How transactions end.

use crate::domain::ids::AuditId;

use super::StoreError;

/// The two ends of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndKind {
    Commit,
    RollBack,
}

impl EndKind {
    /// The statement that ends the transaction.
    pub(super) const fn statement(self) -> &'static str {
        match self {
            Self::Commit => "COMMIT",
            Self::RollBack => "ROLLBACK",
        }
    }
}

/// Proof that a transaction holds the audit record of its change. The commit uses it up.
#[must_use = "a change is committed with its record"]
#[derive(Debug)]
pub struct Recorded(pub(super) AuditId);

/// How a transaction that may change a tenant's rows ends.
#[must_use = "a transaction ends as its work says"]
#[derive(Debug)]
pub enum Ending<T> {
    /// The transaction commits. The record comes from [`super::audit::insert`] on that very
    /// transaction.
    Commit(Recorded, T),
    /// The transaction changes nothing: somebody was faster, or there was nothing to do.
    RollBack(T),
}

/// What the work of a transaction comes to: how the transaction ends, and the value for the caller.
pub(super) trait Ends {
    type Value;

    /// Says how the transaction ends, and gives the value. Fails when the record given is not the one
    /// that the transaction holds.
    fn settle(self, recorded: Option<AuditId>) -> Result<(EndKind, Self::Value), StoreError>;
}

/// The value of work that always commits.
pub(super) struct Commit<T>(pub(super) T);

impl<T> Ends for Commit<T> {
    type Value = T;

    fn settle(self, _recorded: Option<AuditId>) -> Result<(EndKind, T), StoreError> {
        Ok((EndKind::Commit, self.0))
    }
}

impl<T> Ends for Ending<T> {
    type Value = T;

    fn settle(self, recorded: Option<AuditId>) -> Result<(EndKind, T), StoreError> {
        match self {
            Self::Commit(record, value) if recorded == Some(record.0) => {
                Ok((EndKind::Commit, value))
            }
            Self::Commit(..) => Err(StoreError::ForeignRecord),
            Self::RollBack(value) => Ok((EndKind::RollBack, value)),
        }
    }
}
