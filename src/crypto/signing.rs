//! Owns Ed25519 (RFC 8032) signatures under a key that is derived from a master key.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::{CryptoError, Key, MacKey};

/// A key that signs.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Derives a signing key from `key` for one purpose.
    pub fn derive(key: &Key, purpose: &str) -> Result<Self, CryptoError> {
        let seed = MacKey::derive(key, purpose).mac(b"ed25519 seed");
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed);
        Ok(Self(pair.map_err(|_| CryptoError::DoesNotOpen)?))
    }

    /// Returns the signature of `message`, 64 bytes. The same message always gives the same one.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }

    /// Returns whether `signature` is the signature of `message` by this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let public = UnparsedPublicKey::new(&ED25519, self.0.public_key());
        public.verify(message, signature).is_ok()
    }

    /// Returns the public half of the key, 32 bytes.
    pub fn public(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
