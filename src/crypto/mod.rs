//! Owns sealing, MACs, signatures and master keys, built on well-kept libraries. All random bytes
//! for keys and salts come from the operating system through [`random`]. It never knows a tenant.

mod key;
mod key_file;
mod key_id;
mod key_provider;
mod mac;
mod sealed;
mod secret;
mod signing;

pub use key::Key;
pub use key_id::{KeyProviderError, MasterKeyId};
pub use key_provider::{KeyProvider, LockedKeys};
pub use mac::{MacKey, sha256};
pub use sealed::{SealContext, Sealed};
pub use secret::Secret;
pub use signing::SigningKey;

/// The reason why a cryptographic step failed. It says nothing about keys or contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
    /// A sealed value does not open, because it was changed, cut, moved or sealed under another
    /// key.
    #[error("a sealed value does not open")]
    DoesNotOpen,
    /// A value is too long to be sealed.
    #[error("a value is too long to be sealed")]
    TooLong,
}

/// Returns fresh random bytes from the operating system.
pub fn random<const N: usize>() -> Result<[u8; N], CryptoError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| CryptoError::NoRandomness)?;
    Ok(bytes)
}
