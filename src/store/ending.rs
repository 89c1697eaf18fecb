//! How transactions end.

use crate::domain::ids::AuditId;

use super::StoreError;

pub(super) const COMMIT: &str = "COMMIT";
pub(super) const ROLLBACK: &str = "ROLLBACK";

/// Proof that a transaction holds the audit record of its change. Used up by the commit.
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

    /// COMMIT or ROLLBACK. Fails when the record given is not the one that the transaction holds.
    fn settle(self, recorded: Option<AuditId>) -> Result<(&'static str, Self::Value), StoreError>;
}

/// A value of work that always commits.
pub(super) struct Commit<T>(pub(super) T);

impl<T> Ends for Commit<T> {
    type Value = T;

    fn settle(self, _recorded: Option<AuditId>) -> Result<(&'static str, T), StoreError> {
        Ok((COMMIT, self.0))
    }
}

impl<T> Ends for Ending<T> {
    type Value = T;

    fn settle(self, recorded: Option<AuditId>) -> Result<(&'static str, T), StoreError> {
        match self {
            Self::Commit(record, value) if recorded == Some(record.0) => Ok((COMMIT, value)),
            Self::Commit(..) => Err(StoreError::ForeignRecord),
            Self::RollBack(value) => Ok((ROLLBACK, value)),
        }
    }
}
