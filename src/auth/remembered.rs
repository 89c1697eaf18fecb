//! Keeps verified tokens under a keyed hash, so that memory holds no token's text. A token is
//! believed for a minute and, while Postgres is away, for as long as records may wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use quick_cache::sync::{Cache, PlaceholderGuard};

use crate::crypto::{CryptoError, Key, MacKey};
use crate::domain::ids::TokenId;

use super::VerifiedToken;

/// The longest time that a token is believed without being verified again.
const REMEMBERED: TimeDelta = TimeDelta::seconds(60);

/// The most tokens that are remembered.
const TOKENS: usize = 100_000;

type Guard<'a> = PlaceholderGuard<
    'a,
    [u8; 32],
    Arc<VerifiedToken>,
    quick_cache::UnitWeighter,
    quick_cache::DefaultHashBuilder,
    quick_cache::sync::DefaultLifecycle<[u8; 32], Arc<VerifiedToken>>,
>;

/// The verified tokens, and the tokens that are known to be revoked.
pub struct Remembered {
    names: MacKey,
    verified: Cache<[u8; 32], Arc<VerifiedToken>>,
    /// The tokens that were verified longer ago. They are for outages only.
    old: Cache<[u8; 32], Arc<VerifiedToken>>,
    /// Counts how often everything was forgotten. A token that was looked up before the last time
    /// is not believed, wherever it is and whenever it came there.
    beginning: AtomicU64,
    /// The longest time that a token is believed in an outage.
    outage: TimeDelta,
    /// The tokens whose revocation was heard of in the invalidation stream. They are kept so that a
    /// verification that was under way when the revocation arrived is not remembered.
    revoked: Cache<TokenId, ()>,
}

impl Remembered {
    /// Makes an empty memory with a key of its own. `outage` is the longest time that a token is
    /// believed while Postgres is away.
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

    /// Returns a token that was verified longer ago, for when Postgres cannot be asked.
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

    /// Returns the token if it is remembered by now, and otherwise the right to verify it.
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

    /// Returns the count of `beginning`. It is asked for before a look-up in Postgres.
    pub(super) fn beginning(&self) -> u64 {
        self.beginning.load(Ordering::Acquire)
    }

    fn is_believed(&self, verified: &VerifiedToken) -> bool {
        verified.beginning == self.beginning()
    }

    /// Returns whether a revocation of this token was heard of.
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

    /// Forgets every token, because revocations may have been missed.
    pub fn forget_all(&self) {
        // The count is raised first: a token that is kept after the clearing then has an older
        // count.
        self.beginning.fetch_add(1, Ordering::AcqRel);
        self.verified.clear();
        self.old.clear();
    }

    /// Hears of a revocation: the token is refused from now on. The revocation is noted before the
    /// token is forgotten, so that a verification under way sees the one or the other.
    pub fn revoke(&self, token: TokenId) {
        self.revoked.insert(token, ());
        self.forget(token);
    }
}
