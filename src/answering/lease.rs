//! Taking turns with other replicas: one of them fetches a missing answer, the others wait for the
//! entry. Only to save calls: whoever cannot learn whose turn it is fetches by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::coherence::TenantView;
use crate::domain::candidate::LabelPrefixes;
use crate::redis::{Claim, Holder, LeaseName, RENEWAL};
use crate::tiers::{Found, Wanted};

use super::Answering;
use super::flight::FlightKind;
use super::question::Lookup;

/// Pauses between two looks whether the holder has ended: the first, and the longest they grow to.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Whose turn it was.
pub(super) enum Turn {
    /// This flight's. The lease, if it has it, is given back when the guard is dropped.
    Own(Option<DropGuard>),
    /// Another replica's, which stored this.
    Others(Found),
}

impl Answering {
    /// Waits until it is this flight's turn to ask the upstream, or another replica's answer is
    /// there. Without Redis it is at once.
    pub(super) async fn turn(&self, lookup: &Lookup, kind: FlightKind, view: &TenantView) -> Turn {
        let limit = self.parts.upstream.limit();
        // With nobody to ask, or while nothing can be stored, there is nothing to wait for.
        if kind == FlightKind::Alone || limit.is_zero() || !self.parts.audit.takes_postgres() {
            return Turn::Own(None);
        }
        let leases = &self.parts.leases;
        let name = LeaseName::of(lookup.warm_name().key, lookup.wanted.place.generation);
        let id = self.parts.ids.next(self.parts.clock.now());
        let own = Holder { id, position: lookup.position };
        let first = leases.claim(&name, own, None).await;
        let claim = match first {
            Claim::Unknown => return Turn::Own(None),
            Claim::Taken => first,
            Claim::HeldBy(holder) => {
                let waiting = self.wait_for(holder, (&name, own), lookup, view);
                tokio::time::timeout(limit, waiting).await.unwrap_or(first)
            }
        };
        let lease = (claim == Claim::Taken).then(|| self.hold(name, own));
        let made_since = match (kind, first) {
            // What was there before is not what is asked for.
            (FlightKind::Refresh, Claim::Taken) => return Turn::Own(lease),
            (FlightKind::Refresh, _) => lookup.wanted.now,
            // Another flight may have ended since this one looked.
            _ => lookup.wanted.made_since,
        };
        let wanted = Wanted { made_since, ..lookup.wanted };
        let (stack, position) = (&self.parts.stack, self.parts.coherence.position());
        let found = match (kind, claim) {
            // What Redis holds is not good, or Redis has just ended.
            (FlightKind::LookUpCold, _) | (_, Claim::Unknown) => {
                stack.find_cold((lookup.warm_name(), &wanted), view, position).await
            }
            _ => stack.find_below((lookup.warm_name(), &wanted), view, position).await,
        };
        found.map_or(Turn::Own(lease), Turn::Others)
    }

    /// Waits while a holder has the lease and what it fetches may be of use; then claims it. For one
    /// such holder only: who comes after it found nothing either, and is not worth as long a wait
    /// again.
    async fn wait_for(
        &self,
        mut holder: Holder,
        (name, own): (&LeaseName, Holder),
        lookup: &Lookup,
        view: &TenantView,
    ) -> Claim {
        let leases = &self.parts.leases;
        let candidate = lookup.candidate(&LabelPrefixes::Unknown);
        let mut pause = FIRST_PAUSE;
        loop {
            // What an invalidation overtook is not stored, so it is not waited for. A holder may
            // have followed further than this replica.
            if !view.admits(&candidate, holder.position.min(self.parts.coherence.position())) {
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
    fn hold(&self, name: LeaseName, own: Holder) -> DropGuard {
        let ended = CancellationToken::new();
        let (leases, end) = (Arc::clone(&self.parts.leases), ended.clone());
        // Woken by the guard, which the flight drops however it ends.
        self.parts.lifecycle.spawn(async move {
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
}
