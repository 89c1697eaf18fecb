//! Owns the requests of data subjects (GDPR Art. 12 to 20): their kinds, their states, and the one
//! table that says which event leads to which state.

use super::action::Action;
use super::by_name::names;

names! {
    /// The kind of a data subject's request.
    RequestKind {
        /// The person asks for a copy of everything that is held on them (Art. 15 and 20).
        Export => "export",
        /// The person asks for the erasure of their data (Art. 17).
        Erase => "erase",
        /// The person asks for a restriction, after which data are only kept (Art. 18).
        Restrict => "restrict",
        /// The person asks for the end of a restriction.
        LiftRestriction => "lift-restriction",
    }
}

names! {
    /// The state of a request.
    RequestState {
        /// The request was filed.
        Received => "received",
        /// Somebody other than the person who filed the request must approve it.
        AwaitingApproval => "awaiting_approval",
        /// The request is to be executed.
        Approved => "approved",
        /// The request is being executed.
        Executing => "executing",
        /// The request was executed.
        Completed => "completed",
        /// The request was executed as far as a legal hold allows. The rest follows when the hold
        /// ends.
        PartiallyCompleted => "partially_completed",
        /// The request was rejected and is not executed.
        Rejected => "rejected",
        /// The request was cancelled and is not executed.
        Cancelled => "cancelled",
        /// The request could not be executed. It may be approved again.
        Failed => "failed",
    }
}

names! {
    /// An event that may happen to a request.
    RequestEvent {
        /// The request needs no approval.
        Accept => "accept",
        /// The request needs an approval.
        AskApproval => "ask-approval",
        /// Somebody approved the request.
        Approve => "approve",
        /// Somebody rejected the request.
        Reject => "reject",
        /// Somebody cancelled the request.
        Cancel => "cancel",
        /// Somebody extended the time of the request (Art. 12(3)).
        Extend => "extend",
        /// The execution begins, or it is taken up again after a process ended in the middle.
        Begin => "begin",
        /// The execution is complete.
        Complete => "complete",
        /// The execution is complete as far as a legal hold allows.
        CompletePartially => "complete-partially",
        /// The legal hold that cut the execution short has ended.
        Resume => "resume",
        /// The execution failed for good.
        Fail => "fail",
    }
}

impl RequestState {
    /// Returns the state after `event`. Returns `None` if the event may not happen in this state.
    /// This is the only table of the states.
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

    /// Returns whether the request still has to be decided or executed.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Received | Self::AwaitingApproval | Self::Approved | Self::Executing)
    }
}

impl RequestEvent {
    /// Returns the action under which audit records state the event.
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
