//! Packages of exports, sealed and opened part by part. Each part is bound to the one before it and
//! to whether one follows: a part that is cut, moved, missing or of another attempt does not open.

use crate::audit::Receipt;
use crate::crypto::{SealContext, Sealed, sha256};
use crate::domain::canonical::Encoder;
use crate::domain::ids::GdprRequestId;

use super::{EntryKey, KeyringError, Plaintext};

/// Whether a part is followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    /// Another follows.
    Inner,
    /// It is the last.
    Last,
}

/// Where a package has come to.
struct PartChain {
    key: EntryKey,
    request: GdprRequestId,
    /// Number of the next part, from 0.
    next: u32,
    /// SHA-256 of the part before, as it is stored; of the first: zeros.
    previous: [u8; 32],
}

impl PartChain {
    const fn new(key: EntryKey, request: GdprRequestId) -> Self {
        Self { key, request, next: 0, previous: [0; 32] }
    }

    /// What the next part is bound to.
    fn bound(&self, kind: PartKind) -> Vec<u8> {
        let mut out = Encoder::new("ai-cache export part");
        out.bytes(self.key.tenant().tenant().0.as_bytes()).bytes(self.request.0.as_bytes());
        out.u64(u64::from(self.next)).bytes(&self.previous);
        out.text(match kind {
            PartKind::Inner => "inner",
            PartKind::Last => "last",
        });
        out.finish()
    }

    fn context<'a>(&self, bound: &'a [u8]) -> SealContext<'a> {
        SealContext { field: "export part", key_version: self.key.version(), bound }
    }

    fn advance(&mut self, sealed: &Sealed) {
        self.next += 1;
        self.previous = sha256(sealed.as_bytes());
    }
}

/// Seals a package, part by part.
pub struct PackageSealer(PartChain);

impl PackageSealer {
    /// Begins the package of a request, for the person of `key`, or under the tenant's key for
    /// somebody of whom nothing is held.
    pub const fn new(key: EntryKey, request: GdprRequestId) -> Self {
        Self(PartChain::new(key, request))
    }

    /// Seals the next part.
    pub fn seal(&mut self, kind: PartKind, text: &[u8]) -> Result<Sealed, KeyringError> {
        let bound = self.0.bound(kind);
        let sealed = Sealed::seal(self.0.key.key(), &self.0.context(&bound), text)?;
        self.0.advance(&sealed);
        Ok(sealed)
    }
}

/// Opens a package, part by part, for the receipt of its download.
pub struct PackageReader(PartChain);

impl PackageReader {
    /// Begins to open the package of a request.
    pub fn new(
        receipt: Receipt,
        key: EntryKey,
        request: GdprRequestId,
    ) -> Result<Self, KeyringError> {
        if !receipt.covers_list(key.tenant().tenant()) {
            return Err(KeyringError::ReceiptMismatch);
        }
        drop(receipt);
        Ok(Self(PartChain::new(key, request)))
    }

    /// Number of the next part, from 0.
    pub const fn next(&self) -> u32 {
        self.0.next
    }

    /// Opens the next part. What a package ends with must have been sealed as its last.
    pub fn open_part(
        &mut self,
        kind: PartKind,
        sealed: &Sealed,
    ) -> Result<Plaintext, KeyringError> {
        let bound = self.0.bound(kind);
        let text = sealed.open(self.0.key.key(), &self.0.context(&bound))?;
        self.0.advance(sealed);
        Ok(Plaintext(text.expose().to_vec()))
    }
}
