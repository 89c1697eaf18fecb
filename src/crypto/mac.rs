//! Owns HMAC-SHA-256 (RFC 2104) under a prepared key, for blind indexes and MACs, and SHA-256. It
//! never prints a key.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Key;

/// A key prepared for HMAC-SHA-256.
#[derive(Clone)]
pub struct MacKey(Hmac<Sha256>);

impl MacKey {
    /// Derives a MAC key from `key` for one purpose: HMAC(key, purpose).
    pub fn derive(key: &Key, purpose: &str) -> Self {
        let derived = Self::prepared(key.as_bytes()).mac(purpose.as_bytes());
        Self::prepared(&derived)
    }

    fn prepared(key: &[u8; 32]) -> Self {
        let mut block = [0; 64];
        block[..32].copy_from_slice(key);
        Self(Hmac::new(&block.into()))
    }

    /// Returns the MAC of `message`.
    pub fn mac(&self, message: &[u8]) -> [u8; 32] {
        self.mac_parts(&[message])
    }

    /// Returns the MAC of the parts, one after the other. The MAC does not show where a part ends,
    /// so the number and lengths of the parts must be fixed, or the parts must show their own ends.
    pub fn mac_parts(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Returns whether `claimed` is the MAC of the parts. The comparison takes the same time
    /// wherever the two MACs differ.
    pub fn verifies(&self, parts: &[&[u8]], claimed: &[u8]) -> bool {
        self.mac_parts(parts).ct_eq(claimed).into()
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Returns the SHA-256 (FIPS 180-4) of `message`.
pub fn sha256(message: &[u8]) -> [u8; 32] {
    Sha256::digest(message).into()
}
