//! Owns the 256-bit key, which is overwritten when it is dropped and is never printed.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{CryptoError, random};

/// A key of 256 bits.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl Key {
    /// Makes a fresh random key.
    pub fn random() -> Result<Self, CryptoError> {
        random().map(Self)
    }

    /// Makes a key from its bytes. Returns `None` if there are not exactly 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Returns the fixed key that is used when encryption at rest is switched off for development.
    /// Everybody knows it, so a value sealed under it is not secret.
    pub const fn public() -> Self {
        Self([0x50; 32])
    }

    /// Returns the bytes, for derivation, wrapping and MACs.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
