//! Requests of data subjects (GDPR Art. 12 to 20): what can be asked for, the states a request goes
//! through, and the one table that says which change leads where.

use super::action::Action;
use super::by_name::names;

names! {
    /// What a data subject asks for.
    RequestKind {
        /// A copy of everything held on the person (Art. 15 and 20).
        Export => "export",
        /// Erasure (Art. 17).
        Erase => "erase",
        /// Restriction: data are only kept (Art. 18).
        Restrict => "restrict",
        /// The end of a restriction.
        LiftRestriction => "lift-restriction",
    }
}

names! {
    /// Where a request stands.
    RequestState {
        /// Filed.
        Received => "received",
        /// Somebody else than who filed it must approve it.
        AwaitingApproval => "awaiting_approval",
        /// To be executed.
        Approved => "approved",
        /// Being executed.
        Executing => "executing",
        /// Done.
        Completed => "completed",
        /// Done as far as a legal hold allows; the rest follows when it ends.
        PartiallyCompleted => "partially_completed",
        /// Not to be executed: refused.
        Rejected => "rejected",
        /// Not to be executed: withdrawn.
        Cancelled => "cancelled",
        /// Could not be executed; may be approved again.
        Failed => "failed",
    }
}

names! {
    /// What may happen to a request.
    RequestEvent {
        /// Nobody need approve it.
        Accept => "accept",
        /// Somebody must approve it.
        AskApproval => "ask-approval",
        /// Somebody approved it.
        Approve => "approve",
        /// Somebody rejected it.
        Reject => "reject",
        /// It was withdrawn.
        Cancel => "cancel",
        /// Its time was extended (Art. 12(3)).
        Extend => "extend",
        /// Its execution begins, or is taken up after a process ended in the middle.
        Begin => "begin",
        /// It was executed.
        Complete => "complete",
        /// It was executed as far as a legal hold allows.
        CompletePartially => "complete-partially",
        /// Nothing holds any more what its execution left.
        Resume => "resume",
        /// Its execution failed for good.
        Fail => "fail",
    }
}

impl RequestState {
    /// The state after `event`; `None` where the event may not happen. The only table of them.
    pub const fn after(self, event: RequestEvent) -> Option<Self> {
        use RequestEvent as E;
        Some(match (self, event) {
            (Self::Received, E::Accept)
            | (Self::AwaitingApproval | Self::Failed, E::Approve)
            | (Self::PartiallyCompleted, E::Resume) => Self::Approved,
            (Self::Received, E::AskApproval) => Self::AwaitingApproval,
            (Self::AwaitingApproval, E::Reject) => Self::Rejected,
            (Self::Received | Self::AwaitingApproval | Self::Approved, E::Cancel) => {
                Self::Cancelled
            }
            (
                Self::Received | Self::AwaitingApproval | Self::Approved | Self::Executing,
                E::Extend,
            ) => self,
            (Self::Approved | Self::Executing, E::Begin) => Self::Executing,
            (Self::Executing, E::Complete) => Self::Completed,
            (Self::Executing, E::CompletePartially) => Self::PartiallyCompleted,
            (Self::Executing, E::Fail) => Self::Failed,
            _ => return None,
        })
    }

    /// Whether it still waits for its end.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Received | Self::AwaitingApproval | Self::Approved | Self::Executing)
    }
}

impl RequestEvent {
    /// As audit records say it.
    pub const fn action(self) -> Action {
        match self {
            Self::Accept => Action::GdprAccept,
            Self::AskApproval => Action::GdprAskApproval,
            Self::Approve => Action::GdprApprove,
            Self::Reject => Action::GdprReject,
            Self::Cancel => Action::GdprCancel,
            Self::Extend => Action::GdprExtend,
            Self::Begin => Action::GdprBegin,
            Self::Complete => Action::GdprComplete,
            Self::CompletePartially => Action::GdprCompletePartially,
            Self::Resume => Action::GdprResume,
            Self::Fail => Action::GdprFail,
        }
    }
}
