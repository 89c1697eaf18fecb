//! Sealing, MACs and master keys: what was sealed opens only as it was sealed (W9), and the
//! libraries compute what the standards say.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is the test's failure")]

mod key_provider;
mod sealing;
mod vectors;

use ai_cache::crypto::{Key, SealContext, Sealed};

/// A key made of one byte.
fn key(byte: u8) -> Key {
    Key::from_slice(&[byte; 32]).unwrap()
}

/// The usual context, bound to `bound`.
const fn context(bound: &[u8]) -> SealContext<'_> {
    SealContext { field: "entry answer", key_version: 1, bound }
}

/// Opens a sealed value. Returns `None` if it does not open.
fn opened(sealed: &Sealed, key: &Key, context: &SealContext<'_>) -> Option<Vec<u8>> {
    let secret = sealed.open(key, context).ok()?;
    Some(secret.expose().to_vec())
}
