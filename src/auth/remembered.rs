//! Verified tokens under a keyed hash: memory holds no token's text. Believed for a minute, and while
//! Postgres is away for as long as records may wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use quick_cache::sync::{Cache, PlaceholderGuard};

use crate::crypto::{CryptoError, Key, MacKey};
use crate::domain::ids::TokenId;

use super::VerifiedToken;

/// Longest time a token is believed without being verified again.
const REMEMBERED: TimeDelta = TimeDelta::seconds(60);

/// Most tokens remembered.
const TOKENS: usize = 100_000;

type Guard<'a> = PlaceholderGuard<
    'a,
    [u8; 32],
    Arc<VerifiedToken>,
    quick_cache::UnitWeighter,
    quick_cache::DefaultHashBuilder,
    quick_cache::sync::DefaultLifecycle<[u8; 32], Arc<VerifiedToken>>,
>;

/// Verified tokens and those known to be revoked.
pub struct Remembered {
    names: MacKey,
    verified: Cache<[u8; 32], Arc<VerifiedToken>>,
    /// Verified longer ago: for outages only.
    old: Cache<[u8; 32], Arc<VerifiedToken>>,
    /// Counts how often everything was forgotten. What was looked up before the last time is not
    /// believed, wherever it is and whenever it came there.
    beginning: AtomicU64,
    /// Longest time a token is believed in an outage.
    outage: TimeDelta,
    /// Told by the invalidation stream. Kept so that a verification that was under way when the
    /// revocation arrived is not remembered.
    revoked: Cache<TokenId, ()>,
}

impl Remembered {
    /// Empty, with a key of its own. `outage`: the longest time a token is believed while Postgres
    /// is away.
    pub fn new(outage: TimeDelta) -> Result<Self, CryptoError> {
        Ok(Self {
            names: MacKey::derive(&Key::random()?, "remembered tokens"),
            verified: Cache::new(TOKENS),
            old: Cache::new(TOKENS),
            beginning: AtomicU64::new(0),
            outage,
            revoked: Cache::new(TOKENS),
        })
    }

    pub(super) fn name(&self, text: &str) -> [u8; 32] {
        self.names.mac(text.as_bytes())
    }

    pub(super) fn get(&self, name: &[u8; 32], now: DateTime<Utc>) -> Option<Arc<VerifiedToken>> {
        let verified = self.verified.get(name).filter(|verified| self.is_believed(verified))?;
        if now - verified.checked_at < REMEMBERED {
            return Some(verified);
        }
        self.verified.remove_if(name, |held| Arc::ptr_eq(held, &verified));
        self.old.insert(*name, verified);
        None
    }

    /// What was verified longer ago, when Postgres cannot be asked.
    pub(super) fn get_old(
        &self,
        name: &[u8; 32],
        now: DateTime<Utc>,
    ) -> Option<Arc<VerifiedToken>> {
        self.old
            .get(name)
            .filter(|verified| self.is_believed(verified))
            .filter(|verified| now - verified.checked_at < self.outage)
    }

    /// What is remembered by now, or the right to verify.
    pub(super) async fn get_or_guard(
        &self,
        name: &[u8; 32],
    ) -> Result<Arc<VerifiedToken>, Guard<'_>> {
        loop {
            let verified = self.verified.get_value_or_guard_async(name).await?;
            if self.is_believed(&verified) {
                return Ok(verified);
            }
            self.verified.remove_if(name, |held| Arc::ptr_eq(held, &verified));
        }
    }

    /// To be asked before a look-up in Postgres.
    pub(super) fn beginning(&self) -> u64 {
        self.beginning.load(Ordering::Acquire)
    }

    fn is_believed(&self, verified: &VerifiedToken) -> bool {
        verified.beginning == self.beginning()
    }

    /// Whether a revocation of this token was heard of.
    pub fn is_revoked(&self, token: TokenId) -> bool {
        self.revoked.get(&token).is_some()
    }

    pub(super) fn forget(&self, token: TokenId) {
        self.verified.retain(|_, verified| verified.caller.token != token);
        self.old.retain(|_, verified| verified.caller.token != token);
    }

    pub(super) fn forget_expired(&self, now: DateTime<Utc>) {
        self.verified.retain(|name, verified| {
            let young = now - verified.checked_at < REMEMBERED;
            if !young {
                self.old.insert(*name, Arc::clone(verified));
            }
            young
        });
        self.old.retain(|_, verified| now - verified.checked_at < self.outage);
    }

    /// Believes nobody any more without verifying: revocations may have been missed.
    pub fn forget_all(&self) {
        // First: what is kept after the clearing is of before.
        self.beginning.fetch_add(1, Ordering::AcqRel);
        self.verified.clear();
        self.old.clear();
    }

    /// Hears of a revocation: the token is refused from now on. First noted, then forgotten, so
    /// that a verification under way sees either.
    pub fn revoke(&self, token: TokenId) {
        self.revoked.insert(token, ());
        self.forget(token);
    }
}
