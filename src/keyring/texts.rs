//! Seals and opens short texts about persons that are no entries, such as the reason of a request
//! or a hold. They are sealed under the tenant's key and opened for a receipt.

use uuid::Uuid;

use crate::audit::Receipt;
use crate::crypto::{SealContext, Sealed};
use crate::domain::canonical::Encoder;

use super::{KeyringError, Plaintext, TenantKeys};

/// The kind of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextKind {
    /// The subject of a request.
    RequestSubject,
    /// The reason why a request was filed, and its name elsewhere.
    RequestDetails,
    /// The reason why something happened to a request.
    EventNote,
    /// The subject of a hold, and the reason why it was set.
    HoldReason,
    /// The reason why a hold was lifted.
    HoldLift,
}

impl TextKind {
    const fn name(self) -> &'static str {
        match self {
            Self::RequestSubject => "request subject",
            Self::RequestDetails => "request details",
            Self::EventNote => "event note",
            Self::HoldReason => "hold reason",
            Self::HoldLift => "hold lift",
        }
    }
}

/// The place of a text. A text that was moved elsewhere does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextPlace {
    /// The kind of the text.
    pub kind: TextKind,
    /// The id of the request, event or hold.
    pub object: Uuid,
}

impl TextPlace {
    fn bound(self, keys: &TenantKeys) -> Vec<u8> {
        let mut out = Encoder::new("ai-cache text");
        out.bytes(keys.tenant.0.as_bytes()).bytes(self.object.as_bytes());
        out.finish()
    }

    fn context<'a>(self, keys: &TenantKeys, bound: &'a [u8]) -> SealContext<'a> {
        SealContext { field: self.kind.name(), key_version: keys.enc_version, bound }
    }
}

impl TenantKeys {
    /// Seals a text.
    pub fn seal_text(&self, place: TextPlace, text: &[u8]) -> Result<Sealed, KeyringError> {
        let bound = place.bound(self);
        Ok(Sealed::seal(&self.enc, &place.context(self, &bound), text)?)
    }
}

/// Opens texts of the tenant of `keys`, in their order, for the receipt of their reading.
pub fn open_texts(
    receipt: Receipt,
    keys: &TenantKeys,
    texts: &[(TextPlace, &Sealed)],
) -> Result<Vec<Plaintext>, KeyringError> {
    if !receipt.covers_list(keys.tenant) {
        return Err(KeyringError::ReceiptMismatch);
    }
    drop(receipt);
    let open = |(place, sealed): &(TextPlace, &Sealed)| {
        let bound = place.bound(keys);
        let text = sealed.open(&keys.enc, &place.context(keys, &bound))?;
        Ok(Plaintext(text.expose().to_vec()))
    };
    texts.iter().map(open).collect()
}
