//! Seals and opens packages of exports part by part. Each part is bound to the part before it and
//! to whether another follows. So a part that is cut, moved, or of another attempt does not open,
//! and neither does any part after a missing one.

use crate::audit::Receipt;
use crate::crypto::{SealContext, Sealed, sha256};
use crate::domain::canonical::Encoder;
use crate::domain::ids::GdprRequestId;

use super::{EntryKey, KeyringError, Plaintext};

/// Whether a part is followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    /// Another part follows.
    Inner,
    /// The part is the last one.
    Last,
}

/// The state of a package that is sealed or opened part by part.
struct PartChain {
    key: EntryKey,
    request: GdprRequestId,
    /// The number of the next part, from 0.
    next: u32,
    /// The SHA-256 of the part before, as it is stored. It is all zeros for the first part.
    previous: [u8; 32],
}

impl PartChain {
    const fn new(key: EntryKey, request: GdprRequestId) -> Self {
        Self { key, request, next: 0, previous: [0; 32] }
    }

    /// Returns the data that the next part is bound to.
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
    /// Begins the package of a request. `key` is the person's, or the tenant's if no data of the
    /// person are held.
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

    /// Returns the number of the next part, from 0.
    pub const fn next(&self) -> u32 {
        self.0.next
    }

    /// Opens the next part. The part that a package ends with must have been sealed as the last
    /// one.
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
