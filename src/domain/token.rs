//! Owns the text of a bearer token: `aic_<tokenId>_<secret>`. The secret carries a checksum, so
//! that a token with a typo is refused without hashing. A token is never printed after it was made.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::ids::TokenId;

const PREFIX: &str = "aic_";
const RANDOM_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 4;

/// A bearer token whose checksum is right.
#[derive(Clone)]
pub struct BearerToken {
    /// The id of the token that it claims to be.
    pub id: TokenId,
    random: Zeroizing<[u8; RANDOM_BYTES]>,
}

impl BearerToken {
    /// Makes a token of fresh random bytes.
    pub fn new(id: TokenId, random: [u8; RANDOM_BYTES]) -> Self {
        Self { id, random: Zeroizing::new(random) }
    }

    /// Reads a token. Returns `None` if its form or its checksum is wrong.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let canonical = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if id.len() != 32 || !id.bytes().all(canonical) {
            return None;
        }
        let id = TokenId(Uuid::try_parse(id).ok()?);
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).ok()?);
        let (random, checksum) = bytes.split_at_checked(RANDOM_BYTES)?;
        let token = Self::new(id, random.try_into().ok()?);
        (checksum == token.checksum()).then_some(token)
    }

    /// Returns the secret, which is hashed and compared.
    pub fn secret(&self) -> &[u8] {
        &*self.random
    }

    /// Returns the text of the token, to hand it out once.
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(self.random.to_vec());
        bytes.extend_from_slice(&self.checksum());
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(&*bytes));
        Zeroizing::new(format!("{PREFIX}{}_{}", self.id.0.simple(), *secret))
    }

    fn checksum(&self) -> [u8; CHECKSUM_BYTES] {
        crc32c::crc32c_append(crc32c::crc32c(self.id.0.as_bytes()), &*self.random).to_be_bytes()
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BearerToken({}, [redacted])", self.id)
    }
}
