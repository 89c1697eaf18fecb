//! Hashes with argon2id (RFC 9106) on a bounded pool. A flood of tokens waits or is refused. It
//! never takes every core or all memory.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::crypto::random;
use crate::domain::token::BearerToken;
use crate::lifecycle::Lifecycle;

/// The lanes of a hash. With one lane, no part of a hash runs beside another.
const LANES: u32 = 1;

/// The cost of one hash, for the service that makes it and for an attacker who guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    /// The memory in KiB.
    pub memory_kib: u32,
    /// The number of passes over that memory.
    pub passes: u32,
}

impl HashCost {
    /// The full cost: 19 MiB and two passes with one lane, as the OWASP password storage sheet
    /// recommends for argon2id.
    pub const FULL: Self = Self { memory_kib: 19 * 1_024, passes: 2 };
}

/// The longest wait for a turn.
const TURN: Duration = Duration::from_secs(5);

/// The reason why a secret was not hashed.
#[derive(Debug, thiserror::Error)]
pub enum HasherError {
    /// No turn came in time.
    #[error("no hashing turn came in time")]
    Busy,
    /// The argon2 library refused.
    #[error("argon2 refused: {0}")]
    Refused(String),
    /// The pool is gone.
    #[error("the hashing pool is gone")]
    Stopped,
}

/// The pool on which secrets are hashed.
#[derive(Clone)]
pub struct Hasher {
    argon2: Argon2<'static>,
    /// One permit for each turn. Waiters are served in order.
    turns: Arc<Semaphore>,
    /// The hash of a random secret that nobody has.
    dummy: Arc<str>,
    lifecycle: Lifecycle,
}

impl Hasher {
    /// Makes a pool of `turns` hashes at a time, each of this cost. A hash of another cost is
    /// verified at its own cost.
    pub fn new(turns: usize, cost: HashCost, lifecycle: Lifecycle) -> Result<Self, HasherError> {
        let refused = |error: argon2::Error| HasherError::Refused(error.to_string());
        let params = Params::new(cost.memory_kib, cost.passes, LANES, None).map_err(refused)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let nobody = random::<32>().map_err(|_| HasherError::Stopped)?;
        let dummy = hash(&argon2, &nobody)?.into();
        Ok(Self { argon2, turns: Arc::new(Semaphore::new(turns.max(1))), dummy, lifecycle })
    }

    /// Returns the PHC string of a new token's secret.
    pub async fn hash(&self, token: &BearerToken) -> Result<String, HasherError> {
        let secret = Zeroizing::new(token.secret().to_vec());
        let argon2 = self.argon2.clone();
        self.run(move || hash(&argon2, &secret)).await?
    }

    /// Returns whether `hash` is of the token's secret. Without a hash it takes as long and returns
    /// false.
    pub async fn verify(
        &self,
        token: &BearerToken,
        hash: Option<String>,
    ) -> Result<bool, HasherError> {
        let secret = Zeroizing::new(token.secret().to_vec());
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.dummy.to_string());
        let argon2 = self.argon2.clone();
        let right = self.run(move || verify(&argon2, &secret, &hash)).await??;
        Ok(right && known)
    }

    /// Runs `work` on the blocking pool when a turn comes. The turn is given back when the work
    /// ends, also if nobody waits for the work any more.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HasherError> {
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| HasherError::Busy)?.map_err(|_| HasherError::Stopped)?;
        let done = self.lifecycle.spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        });
        done.await.map_err(|_| HasherError::Stopped)
    }
}

fn hash(argon2: &Argon2<'_>, secret: &[u8]) -> Result<String, HasherError> {
    let refused = |error: argon2::password_hash::Error| HasherError::Refused(error.to_string());
    let hash: PasswordHash = argon2.hash_password(secret).map_err(refused)?;
    Ok(hash.to_string())
}

fn verify(argon2: &Argon2<'_>, secret: &[u8], hash: &str) -> Result<bool, HasherError> {
    let hash = PasswordHash::new(hash).map_err(|error| HasherError::Refused(error.to_string()))?;
    Ok(argon2.verify_password(secret, &hash).is_ok())
}
