//! The order in which a missing answer is looked for: each flight says where it looks, and what it
//! brought decides where the next one looks.

use crate::domain::directives::Mode;
use crate::domain::entry::Tier;

/// Where a flight looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum FlightKind {
    /// In the lower tiers first, then at the upstream.
    LookUp,
    /// In Postgres first, because the value in Redis was not good; then at the upstream.
    LookUpCold,
    /// In the lower tiers first for an answer that is not stale, then at the upstream.
    Revalidate,
    /// At the upstream, or at the entry that another replica fetches meanwhile.
    Refresh,
    /// At the upstream at once, because the entry of another replica was not good.
    Alone,
}

/// A found answer that is of no use to a caller: it does not open, or the caller does not accept it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfit {
    /// The tier that the answer was found in.
    pub(super) tier: Tier,
    /// Whether an invalidation came between the finding and the reply.
    pub(super) overtaken: bool,
}

/// The flights that one caller tries, one after another.
pub(super) struct Plan {
    /// The next flight.
    kind: FlightKind,
    /// Whether an invalidation has come between once.
    overtaken: bool,
}

impl Plan {
    /// The plan of a question that is asked in `mode`.
    pub(super) const fn of(mode: Mode) -> Self {
        let kind = if mode.reads() { FlightKind::LookUp } else { FlightKind::Refresh };
        Self { kind, overtaken: false }
    }

    /// The next flight.
    pub(super) const fn kind(&self) -> FlightKind {
        self.kind
    }

    /// Goes on after a flight that brought nothing for the caller. Returns false when nothing is left
    /// to try.
    pub(super) fn go_on(&mut self, unfit: Unfit) -> bool {
        let first_time = !self.overtaken;
        self.overtaken |= unfit.overtaken;
        self.kind = match (self.kind, unfit.tier) {
            // Other callers that an invalidation came between may have a new answer already, so
            // the plan begins again, once.
            (FlightKind::LookUp | FlightKind::LookUpCold, _) if self.overtaken && first_time => {
                FlightKind::LookUp
            }
            // A value that does not open in Redis may open in Postgres.
            (FlightKind::LookUp, Tier::Warm) => FlightKind::LookUpCold,
            (FlightKind::LookUp | FlightKind::LookUpCold, _) => FlightKind::Refresh,
            (FlightKind::Refresh, _) => FlightKind::Alone,
            (FlightKind::Revalidate | FlightKind::Alone, _) => return false,
        };
        true
    }
}
