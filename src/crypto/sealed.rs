//! Owns sealed values, which only `keyring` may open for other modules. A value is sealed by
//! AES-256-GCM under a key that is derived for one seal call only, so that no pair of key and nonce
//! repeats, and it carries a commitment to that key (key-committing AEAD).

use std::fmt;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use bytes::Bytes;
use hkdf::Hkdf;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{CryptoError, Key, Secret, random};

/// The format in which values are sealed, under keys from HKDF-SHA-256 (RFC 5869).
const FORMAT: u8 = 2;
/// The former format, under keys from HKDF-SHA-512. Values in this format still open.
const FORMER: u8 = 1;
const SALT: usize = 32;
const COMMITMENT: usize = 32;
const HEADER: usize = 1 + SALT + COMMITMENT;
const TAG: usize = 16;

/// The fixed nonce. Each derived key seals one message only, so no pair of key and nonce repeats.
const NONCE: [u8; 12] = [0; 12];

/// The context that a value is sealed for. It goes into the derived key and the authenticated data.
#[derive(Debug, Clone, Copy)]
pub struct SealContext<'a> {
    /// The name of the field that the value is.
    pub field: &'a str,
    /// The version of the key that it is sealed under.
    pub key_version: i32,
    /// Everything else that the value is bound to, in canonical encoding.
    pub bound: &'a [u8],
}

/// A sealed value: format ‖ salt (32) ‖ commitment (32) ‖ ciphertext ‖ tag (16). A clone is
/// cheap.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Bytes);

/// The keys of one seal call, which HKDF derives from the long-lived key and the salt of the call.
struct CallKeys {
    aead: Aes256Gcm,
    commitment: [u8; COMMITMENT],
}

impl CallKeys {
    /// Derives the keys by the rules of `format`.
    fn derive(
        format: u8,
        key: &Key,
        salt: &[u8],
        context: &SealContext<'_>,
    ) -> Result<Self, CryptoError> {
        let version = context.key_version.to_be_bytes();
        let field = context.field.as_bytes();
        let length = u32::try_from(field.len()).map_err(|_| CryptoError::TooLong)?.to_be_bytes();
        let info = |purpose: &'static [u8]| [purpose, &length, field, &version];
        let (salt, key) = (Some(salt), key.as_bytes());
        let mut material = Zeroizing::new([0; 32 + COMMITMENT]);
        match format {
            FORMAT => Hkdf::<Sha256>::new(salt, key)
                .expand_multi_info(&info(b"ai-cache seal 2"), &mut *material),
            FORMER => Hkdf::<Sha512>::new(salt, key)
                .expand_multi_info(&info(b"ai-cache seal 1"), &mut *material),
            _ => return Err(CryptoError::DoesNotOpen),
        }
        .map_err(|_| CryptoError::TooLong)?;
        let (aead_key, commitment) = material.split_at(32);
        Ok(Self {
            aead: Aes256Gcm::new_from_slice(aead_key).map_err(|_| CryptoError::TooLong)?,
            commitment: commitment.try_into().map_err(|_| CryptoError::TooLong)?,
        })
    }
}

impl Sealed {
    /// Seals `plaintext` under `key` for `context`, with a fresh salt.
    pub fn seal(
        key: &Key,
        context: &SealContext<'_>,
        plaintext: &[u8],
    ) -> Result<Self, CryptoError> {
        let salt = random::<SALT>()?;
        let keys = CallKeys::derive(FORMAT, key, &salt, context)?;
        let payload = Payload { msg: plaintext, aad: context.bound };
        let ciphertext =
            keys.aead.encrypt(&NONCE.into(), payload).map_err(|_| CryptoError::TooLong)?;
        let mut bytes = Vec::with_capacity(HEADER + ciphertext.len());
        bytes.push(FORMAT);
        bytes.extend_from_slice(&salt);
        bytes.extend_from_slice(&keys.commitment);
        bytes.extend_from_slice(&ciphertext);
        Ok(Self(bytes.into()))
    }

    /// Opens the value. Outside `crypto` only `keyring` may call it, which the
    /// architecture test checks.
    pub fn open(&self, key: &Key, context: &SealContext<'_>) -> Result<Secret, CryptoError> {
        let bytes = &*self.0;
        if bytes.len() < HEADER + TAG {
            return Err(CryptoError::DoesNotOpen);
        }
        let (header, ciphertext) = bytes.split_at(HEADER);
        let (salt, commitment) = header[1..].split_at(SALT);
        let keys = CallKeys::derive(header[0], key, salt, context)?;
        if !bool::from(keys.commitment.ct_eq(commitment)) {
            return Err(CryptoError::DoesNotOpen);
        }
        keys.aead
            .decrypt(&NONCE.into(), Payload { msg: ciphertext, aad: context.bound })
            .map(Secret::new)
            .map_err(|_| CryptoError::DoesNotOpen)
    }

    /// Takes stored bytes. Only [`Self::open`] checks whether they are a sealed value.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// Returns the bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}
