//! Seals and opens entries. Each opening takes a receipt and uses it up.

use std::sync::Arc;

use crate::audit::Receipt;
use crate::crypto::{Key, SealContext, Sealed, Secret};
use crate::domain::entry::{EntryMeta, Place, SealedField};
use crate::domain::ids::{EntryId, SubjectKeyId, TenantId};

use super::{KeyringError, SubjectKey, TenantKeys, compress};

/// Text that was opened for a receipt. It goes into a reply or a sealed package, and nowhere else.
pub struct Plaintext(pub(super) Vec<u8>);

impl Plaintext {
    /// Returns the bytes, to be written into a reply or a package.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The key that an entry is sealed under: the key of its person, or the tenant's.
#[derive(Clone)]
pub enum EntryKey {
    /// The tenant shares the entry.
    Shared(Arc<TenantKeys>),
    /// The entry belongs to one person.
    Private(Arc<TenantKeys>, Arc<SubjectKey>),
}

impl EntryKey {
    /// Returns the key for entries of `subject`. Without a `subject`, returns the key for shared
    /// entries.
    pub fn new(tenant: Arc<TenantKeys>, subject: Option<Arc<SubjectKey>>) -> Self {
        match subject {
            None => Self::Shared(tenant),
            Some(subject) => Self::Private(tenant, subject),
        }
    }

    /// Returns the keys of the tenant.
    pub const fn tenant(&self) -> &Arc<TenantKeys> {
        match self {
            Self::Shared(tenant) | Self::Private(tenant, _) => tenant,
        }
    }

    /// Returns the id of the person's key. Returns `None` for shared entries.
    pub fn subject(&self) -> Option<SubjectKeyId> {
        match self {
            Self::Shared(_) => None,
            Self::Private(_, subject) => Some(subject.id),
        }
    }

    /// Returns the version of the key, as entries name it.
    pub fn version(&self) -> i32 {
        match self {
            Self::Shared(tenant) => tenant.enc_version,
            Self::Private(..) => super::tenant_keys::FIRST_VERSION,
        }
    }

    pub(super) fn key(&self) -> &Key {
        match self {
            Self::Shared(tenant) => &tenant.enc,
            Self::Private(_, subject) => &subject.key,
        }
    }

    fn check(&self, place: &Place, meta: &EntryMeta) -> Result<(), KeyringError> {
        let mine = self.tenant().tenant == place.tenant
            && self.subject() == meta.subject_key
            && self.version() == meta.key_version;
        if mine { Ok(()) } else { Err(KeyringError::UnknownVersion) }
    }

    /// Seals one field of an entry.
    pub fn seal(
        &self,
        place: &Place,
        meta: &EntryMeta,
        field: SealedField,
        text: &[u8],
    ) -> Result<Sealed, KeyringError> {
        self.check(place, meta)?;
        let bound = meta.bound_data(place, field);
        let packed = zeroize::Zeroizing::new(compress::pack(text));
        Ok(Sealed::seal(self.key(), &context(meta, field, &bound), &packed)?)
    }

    /// Seals an answer of the upstream that nobody has read.
    pub fn seal_answer(
        &self,
        place: &Place,
        meta: &EntryMeta,
        answer: &Secret,
    ) -> Result<Sealed, KeyringError> {
        self.seal(place, meta, SealedField::Answer, answer.expose())
    }

    /// Opens one field of an entry for the receipt of its reading.
    pub fn open(
        &self,
        receipt: Receipt,
        place: &Place,
        meta: &EntryMeta,
        field: SealedField,
        sealed: &Sealed,
    ) -> Result<Plaintext, KeyringError> {
        if !receipt.covers(place.tenant, meta.id) {
            return Err(KeyringError::ReceiptMismatch);
        }
        drop(receipt);
        self.open_field(place, meta, field, sealed)
    }

    fn open_field(
        &self,
        place: &Place,
        meta: &EntryMeta,
        field: SealedField,
        sealed: &Sealed,
    ) -> Result<Plaintext, KeyringError> {
        self.check(place, meta)?;
        let bound = meta.bound_data(place, field);
        let packed = sealed.open(self.key(), &context(meta, field, &bound))?;
        compress::unpack(packed.expose()).map(Plaintext)
    }
}

fn context<'a>(meta: &EntryMeta, field: SealedField, bound: &'a [u8]) -> SealContext<'a> {
    SealContext { field: field.name(), key_version: meta.key_version, bound }
}

/// Releases an upstream's answer for the receipt of its reading.
pub fn release(
    receipt: Receipt,
    tenant: TenantId,
    entry: EntryId,
    answer: &Secret,
) -> Result<Plaintext, KeyringError> {
    if !receipt.covers(tenant, entry) {
        return Err(KeyringError::ReceiptMismatch);
    }
    drop(receipt);
    Ok(Plaintext(answer.expose().to_vec()))
}

/// An entry in a list, and the key that its labels are sealed under.
pub struct ListedEntry<'a> {
    /// The key that the labels are sealed under.
    pub key: EntryKey,
    /// The place of the entry.
    pub place: Place,
    /// The plain metadata of the entry.
    pub meta: &'a EntryMeta,
    /// The sealed location, vendor types and tags.
    pub labels: &'a Sealed,
}

/// Opens the labels of listed entries for the receipt of the listing. The labels of each entry are
/// opened separately: if some do not open, they hide no others.
pub fn open_labels(
    receipt: Receipt,
    tenant: TenantId,
    entries: &[ListedEntry<'_>],
) -> Result<Vec<Result<Plaintext, KeyringError>>, KeyringError> {
    let theirs = entries.iter().all(|entry| entry.place.tenant == tenant);
    if !theirs || !receipt.covers_list(tenant) {
        return Err(KeyringError::ReceiptMismatch);
    }
    drop(receipt);
    let open = |ListedEntry { key, place, meta, labels }: &ListedEntry<'_>| {
        key.open_field(place, meta, SealedField::Labels, labels)
    };
    Ok(entries.iter().map(open).collect())
}

/// An entry of a person that is to be opened whole.
pub struct WholeEntry<'a> {
    /// The place of the entry.
    pub place: &'a Place,
    /// The plain metadata of the entry.
    pub meta: &'a EntryMeta,
    /// The sealed answer, model and usage.
    pub answer: &'a Sealed,
    /// The sealed query, context and parameters.
    pub question: &'a Sealed,
    /// The sealed location, vendor types and tags.
    pub labels: &'a Sealed,
}

/// An entry that was opened whole.
pub struct OpenedEntry {
    /// The answer, model and usage.
    pub answer: Plaintext,
    /// The query, context and parameters.
    pub question: Plaintext,
    /// The location, vendor types and tags.
    pub labels: Plaintext,
}

/// Opens entries under one key for the receipt of their reading. Each entry is opened when it is
/// asked for: an entry that does not open hides no other.
pub fn open_entries<'a>(
    receipt: Receipt,
    key: &'a EntryKey,
    entries: impl IntoIterator<Item = WholeEntry<'a>> + 'a,
) -> Result<impl Iterator<Item = Result<OpenedEntry, KeyringError>> + 'a, KeyringError> {
    if !receipt.covers_list(key.tenant().tenant) {
        return Err(KeyringError::ReceiptMismatch);
    }
    drop(receipt);
    // `open_field` refuses an entry that is not of the key's tenant and person.
    let open = move |entry: WholeEntry<'a>| {
        let field = |field, sealed| key.open_field(entry.place, entry.meta, field, sealed);
        Ok(OpenedEntry {
            answer: field(SealedField::Answer, entry.answer)?,
            question: field(SealedField::Question, entry.question)?,
            labels: field(SealedField::Labels, entry.labels)?,
        })
    };
    Ok(entries.into_iter().map(open))
}
