//! Turns a bearer token into a caller. Cheap checks come first: memory, form and checksum, the
//! network's limit. Then one argon2id verification runs, however many requests ask. `Refused` never
//! says which check refused.

mod hasher;
mod remembered;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::audit::Audit;
use crate::coherence::{Coherence, TenantView};
use crate::domain::caller::Caller;
use crate::domain::clock::Clock;
use crate::domain::ids::TokenId;
use crate::domain::network::Network;
use crate::domain::token::BearerToken;
use crate::store::tokens::{self, TokenSecret};
use crate::store::{Store, StoreError};

pub use hasher::{HashCost, Hasher, HasherError};
pub use remembered::Remembered;

/// The number of verifications that a network may cause at once, and then each second.
const BURST: u32 = 40;
const PER_SECOND: u32 = 10;

/// The reason why a request has no caller.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The text is no token: its form or checksum is wrong.
    #[error("the token is malformed")]
    Malformed,
    /// The token is unknown, wrong, revoked, expired or of a disabled tenant. All are told alike.
    #[error("the token is refused")]
    Refused,
    /// The network has caused too many verifications.
    #[error("too many verifications for one network")]
    Limited {
        /// The time after which the client may come back.
        retry_after: Duration,
    },
    /// Too many verifications wait.
    #[error("too many verifications wait")]
    Overloaded,
    /// The token is not in memory and cannot be looked up.
    #[error("the token cannot be looked up")]
    Unavailable(#[source] StoreError),
    /// Hashing failed.
    #[error("the token cannot be hashed")]
    Hasher(#[source] HasherError),
}

/// How sure it is that a token is still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenStanding {
    /// No revocation was missed, or Postgres was asked.
    Confirmed,
    /// The token was good when Postgres was asked last. That is enough for an answer of the
    /// upstream, and for nothing that is stored.
    Believed,
}

/// A verified token.
#[derive(Debug)]
pub struct VerifiedToken {
    /// The caller that the token stands for.
    pub caller: Caller,
    /// The roles as audit records write them.
    pub roles: Arc<str>,
    /// The tenant as this process knows it.
    pub view: Arc<TenantView>,
    expires_at: Option<DateTime<Utc>>,
    checked_at: DateTime<Utc>,
    /// The count of `Remembered::beginning` before the look-up.
    beginning: u64,
}

/// Verifies tokens and remembers them for a minute.
pub struct Authenticator {
    parts: AuthenticatorParts,
    networks: DefaultKeyedRateLimiter<Network>,
}

/// The parts that [`Authenticator`] is made of.
pub struct AuthenticatorParts {
    /// Postgres.
    pub store: Store,
    /// The invalidation stream, which tells of revocations.
    pub coherence: Arc<Coherence>,
    /// The tokens that this process knows.
    pub remembered: Arc<Remembered>,
    /// The pool that tokens are hashed on.
    pub hasher: Hasher,
    /// The audit trail.
    pub audit: Audit,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Authenticator {
    /// Makes an authenticator that shares `remembered` with the subscriber that hears of
    /// revocations.
    pub fn new(parts: AuthenticatorParts) -> Self {
        let at_least_one = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(at_least_one(PER_SECOND)).allow_burst(at_least_one(BURST));
        let networks = RateLimiter::keyed(quota);
        Self { parts, networks }
    }

    /// Returns the pool on which tokens are hashed.
    pub const fn hasher(&self) -> &Hasher {
        &self.parts.hasher
    }

    /// Drops tokens that are too old to be remembered, and networks that have been quiet.
    pub fn forget_expired(&self) {
        self.parts.remembered.forget_expired(self.parts.clock.now());
        self.networks.retain_recent();
    }

    /// Verifies the token that a request bears.
    pub async fn authenticate(
        &self,
        text: &str,
        network: Network,
    ) -> Result<(Arc<VerifiedToken>, TokenStanding), AuthError> {
        let now = self.parts.clock.now();
        let name = self.parts.remembered.name(text);
        let (verified, standing) = match self.parts.remembered.get(&name, now) {
            Some(verified) if self.parts.coherence.is_proven() => {
                (verified, TokenStanding::Confirmed)
            }
            Some(verified) => Box::pin(self.confirm(verified)).await?,
            None => Box::pin(self.verify_or_remember(text, name, network, now)).await?,
        };
        // This is also asked for requests that joined a verification that was under way at the
        // revocation.
        let revoked = self.parts.remembered.is_revoked(verified.caller.token);
        let current = !revoked && verified.expires_at.is_none_or(|end| now < end);
        if current && verified.view.is_active() {
            Ok((verified, standing))
        } else {
            Err(AuthError::Refused)
        }
    }

    /// Looks in Postgres for a revocation, because this process may have missed one. Believes the
    /// token while Postgres is away.
    async fn confirm(
        &self,
        verified: Arc<VerifiedToken>,
    ) -> Result<(Arc<VerifiedToken>, TokenStanding), AuthError> {
        if !self.parts.audit.takes_postgres() {
            return Ok((verified, TokenStanding::Believed));
        }
        match self.find_token(verified.caller.token).await {
            Ok(Some(found)) if found.is_usable() => Ok((verified, TokenStanding::Confirmed)),
            Ok(_) => Err(AuthError::Refused),
            Err(error) if error.is_outage() => Ok((verified, TokenStanding::Believed)),
            Err(error) => Err(AuthError::Unavailable(error)),
        }
    }

    /// Returns how sure it is that a token that was verified longer ago is still good.
    fn standing_of_old(&self) -> TokenStanding {
        if self.parts.coherence.is_proven() {
            TokenStanding::Confirmed
        } else {
            TokenStanding::Believed
        }
    }

    /// Verifies a token. While Postgres is away, a token that was verified before is believed
    /// longer.
    async fn verify_or_remember(
        &self,
        text: &str,
        name: [u8; 32],
        network: Network,
        now: DateTime<Utc>,
    ) -> Result<(Arc<VerifiedToken>, TokenStanding), AuthError> {
        if !self.parts.audit.takes_postgres()
            && let Some(old) = self.parts.remembered.get_old(&name, now)
        {
            return Ok((old, self.standing_of_old()));
        }
        match self.verify_once(text, name, network).await {
            Err(AuthError::Unavailable(error)) if error.is_outage() => {
                let old = self.parts.remembered.get_old(&name, now);
                old.map(|old| (old, self.standing_of_old())).ok_or(AuthError::Unavailable(error))
            }
            verified => verified.map(|verified| (verified, TokenStanding::Confirmed)),
        }
    }

    /// Verifies once for all requests that bring the same token at the same time.
    async fn verify_once(
        &self,
        text: &str,
        name: [u8; 32],
        network: Network,
    ) -> Result<Arc<VerifiedToken>, AuthError> {
        let token = BearerToken::parse(text).ok_or(AuthError::Malformed)?;
        let guard = match self.parts.remembered.get_or_guard(&name).await {
            Ok(verified) => return Ok(verified),
            Err(guard) => guard,
        };
        self.networks.check_key(&network).map_err(|until| AuthError::Limited {
            retry_after: until.wait_time_from(governor::clock::Clock::now(
                &governor::clock::DefaultClock::default(),
            )),
        })?;
        let verified = Arc::new(self.verify(&token).await?);
        // A failure means that the place was taken in the meantime, which changes nothing for this
        // caller.
        let _taken = guard.insert(Arc::clone(&verified));
        if self.parts.remembered.is_revoked(token.id) {
            self.parts.remembered.forget(token.id);
            return Err(AuthError::Refused);
        }
        Ok(verified)
    }

    async fn verify(&self, token: &BearerToken) -> Result<VerifiedToken, AuthError> {
        let (checked_at, beginning) = (self.parts.clock.now(), self.parts.remembered.beginning());
        let secret = self.find_token(token.id).await.map_err(AuthError::Unavailable)?;
        // A token that nobody has costs the same time as a wrong one.
        let hash = secret.as_ref().map(|secret| secret.secret_hash.clone());
        let right = self.parts.hasher.verify(token, hash).await.map_err(|error| match error {
            HasherError::Busy => AuthError::Overloaded,
            other => AuthError::Hasher(other),
        })?;
        let Some(secret) = secret.filter(|_| right) else {
            return Err(AuthError::Refused);
        };
        let usable = secret.is_usable();
        let view =
            self.parts.coherence.view(secret.tenant).await.map_err(AuthError::Unavailable)?;
        let Some(view) = view.filter(|_| usable) else {
            return Err(AuthError::Refused);
        };
        let roles = secret.token.roles;
        Ok(VerifiedToken {
            caller: Caller { tenant: secret.tenant, token: token.id, roles },
            roles: roles.to_string().into(),
            view,
            expires_at: secret.token.expires_at,
            checked_at,
            beginning,
        })
    }

    async fn find_token(&self, id: TokenId) -> Result<Option<TokenSecret>, StoreError> {
        self.parts
            .store
            .system("find a token before its tenant", async |mut tx| {
                let secret = tokens::find_secret(&mut tx, id).await?;
                Ok(secret)
            })
            .await
    }
}
