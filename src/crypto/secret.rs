//! Owns secrets, which are plaintext that is never printed. Outside `crypto` only
//! `keyring` reads a secret, and only `upstream` makes one.

use std::fmt;

use zeroize::Zeroizing;

/// Plaintext bytes, which are overwritten when they are dropped.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Wraps plaintext.
    pub fn new(plaintext: Vec<u8>) -> Self {
        Self(Zeroizing::new(plaintext))
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the secret is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the plaintext. Outside `crypto` only `keyring` may call it, which the
    /// architecture test checks.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
