//! Taking turns with other replicas: one of them fetches a missing answer, and the others wait for its
//! entry. This only saves calls: a replica that cannot learn whose turn it is fetches by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::coherence::TenantView;
use crate::domain::candidate::LabelPrefixes;
use crate::redis::{Claim, Holder, LeaseName, RENEWAL};
use crate::tiers::{Found, Wanted};

use super::AnsweringParts;
use super::lookup::Lookup;
use super::plan::FlightKind;

/// The pauses between two looks whether the holder has ended: they grow from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A flight that wants a lease.
struct Claimant<'a> {
    name: &'a LeaseName,
    own: Holder,
}

/// Whose turn it was to ask the upstream.
pub(super) enum Turn {
    /// This flight's turn. The lease, if the flight has it, is given back when the guard is dropped.
    Fetch(Option<DropGuard>),
    /// Another replica's turn, which stored this answer.
    Found(Found),
}

/// Waits until it is this flight's turn to ask the upstream, or until the answer of another replica is
/// stored. Without Redis the turn is this flight's at once.
pub(super) async fn take_turn(
    parts: &AnsweringParts,
    lookup: &Lookup,
    kind: FlightKind,
    view: &TenantView,
) -> Turn {
    let limit = parts.upstream.limit();
    // Without an upstream, and while nothing can be stored, there is nothing to wait for.
    if kind == FlightKind::Alone || limit.is_zero() || !parts.audit.takes_postgres() {
        return Turn::Fetch(None);
    }
    let leases = &parts.leases;
    let name = LeaseName::of(lookup.warm_name().key, lookup.wanted.place.generation);
    let id = parts.ids.next(parts.clock.now());
    let own = Holder { id, position: lookup.position };
    let first = leases.claim(&name, own, None).await;
    let claim = match first {
        Claim::Unknown => return Turn::Fetch(None),
        Claim::Taken => first,
        Claim::HeldBy(holder) => {
            let waiting = wait_for(parts, holder, Claimant { name: &name, own }, lookup, view);
            tokio::time::timeout(limit, waiting).await.unwrap_or(first)
        }
    };
    let lease = (claim == Claim::Taken).then(|| hold(parts, name, own));
    let made_since = match (kind, first) {
        // A refresh does not accept an answer that was stored before.
        (FlightKind::Refresh, Claim::Taken) => return Turn::Fetch(lease),
        (FlightKind::Refresh, _) => lookup.wanted.now,
        // Another flight may have ended since this one looked.
        _ => lookup.wanted.made_since,
    };
    let wanted = Wanted { made_since, ..lookup.wanted };
    let position = parts.coherence.position();
    let lookup = Lookup { wanted, position, ..lookup.clone() };
    let (stack, search) = (&parts.stack, lookup.search(view));
    let found = match (kind, claim) {
        // The value in Redis is not good, or Redis has just ended.
        (FlightKind::LookUpCold, _) | (_, Claim::Unknown) => stack.find_cold(search).await,
        _ => stack.find_below(search).await,
    };
    found.map_or(Turn::Fetch(lease), Turn::Found)
}

/// Waits while a holder has the lease and its answer may be of use, then claims the lease. It waits
/// for one such holder only: the next holder found nothing either, and is not worth another long wait.
async fn wait_for(
    parts: &AnsweringParts,
    mut holder: Holder,
    claimant: Claimant<'_>,
    lookup: &Lookup,
    view: &TenantView,
) -> Claim {
    let Claimant { name, own } = claimant;
    let leases = &parts.leases;
    let candidate = lookup.candidate(&LabelPrefixes::Unknown);
    let mut pause = FIRST_PAUSE;
    loop {
        // An answer that an invalidation overtook is not stored, so nobody waits for it. The holder
        // may have followed the stream further than this replica.
        if !view.admits(&candidate, holder.position.min(parts.coherence.position())) {
            match leases.claim(name, own, Some(holder)).await {
                // Another replica saw that first and has the lease now, so this one waits for it.
                Claim::HeldBy(faster) => holder = faster,
                ended => return ended,
            }
            continue;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        match leases.claim(name, own, None).await {
            Claim::HeldBy(still) if still == holder => {}
            ended => return ended,
        }
    }
}

/// Keeps a lease until the guard is dropped.
fn hold(parts: &AnsweringParts, name: LeaseName, own: Holder) -> DropGuard {
    let ended = CancellationToken::new();
    let (leases, end) = (Arc::clone(&parts.leases), ended.clone());
    // The guard wakes this task; the flight drops the guard however it ends.
    parts.lifecycle.spawn(async move {
        loop {
            tokio::select! {
                () = end.cancelled() => break,
                () = tokio::time::sleep(RENEWAL) => leases.renew(&name, own).await,
            }
        }
        leases.release(&name, own).await;
    });
    ended.drop_guard()
}
