//! A 256-bit key, overwritten when dropped, never printed.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{CryptoError, random};

/// A 256-bit key.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl Key {
    /// A fresh random key.
    pub fn random() -> Result<Self, CryptoError> {
        random().map(Self)
    }

    /// A key from its bytes; `None` unless there are 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The fixed key used when encryption at rest is switched off for development: known to
    /// everybody, so what it seals is not secret.
    pub const fn public() -> Self {
        Self([0x50; 32])
    }

    /// The bytes, for derivation, wrapping and MACs.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
