//! Taking turns with other replicas: one of them fetches a missing answer, the others wait for the
//! entry. Only to save calls: whoever cannot learn whose turn it is fetches by itself.

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

/// Pauses between two looks whether the holder has ended: the first, and the longest they grow to.
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

/// Waits until it is this flight's turn to ask the upstream, or another replica's answer is
/// there. Without Redis it is at once.
pub(super) async fn take_turn(
    parts: &AnsweringParts,
    lookup: &Lookup,
    kind: FlightKind,
    view: &TenantView,
) -> Turn {
    let limit = parts.upstream.limit();
    // With nobody to ask, or while nothing can be stored, there is nothing to wait for.
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
        // What was there before is not what is asked for.
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
        // What Redis holds is not good, or Redis has just ended.
        (FlightKind::LookUpCold, _) | (_, Claim::Unknown) => stack.find_cold(search).await,
        _ => stack.find_below(search).await,
    };
    found.map_or(Turn::Fetch(lease), Turn::Found)
}

/// Waits while a holder has the lease and what it fetches may be of use; then claims it. For one
/// such holder only: who comes after it found nothing either, and is not worth as long a wait
/// again.
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
        // What an invalidation overtook is not stored, so it is not waited for. A holder may
        // have followed further than this replica.
        if !view.admits(&candidate, holder.position.min(parts.coherence.position())) {
            match leases.claim(name, own, Some(holder)).await {
                // Another replica was faster to see that, and is waited for instead.
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
    // Woken by the guard, which the flight drops however it ends.
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
