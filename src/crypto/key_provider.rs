//! The installation's keys that wrap others: from a file only its owner can read, or from the
//! environment. Master keys wrap tenants' keys, and MACs and signatures are made with what is
//! derived from them; wrapping keys wrap persons' keys alone, so that they can be destroyed now and
//! then. They never leave the process. Keeps none of them on disk but in the file it made itself.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use super::key_file::{self, LockedFile, Named, Stamp};
use super::key_id::{KeyProviderError, MasterKeyId, WRAPPING};
use super::{CryptoError, Key, MacKey, SealContext, Sealed, SigningKey};

/// Master and wrapping keys, the first of each kind being the active one.
pub struct KeyProvider {
    /// The active master key, the same as long as the process runs.
    active: Named,
    /// Every key as it was read last. Nothing waits under it but the reading of a small file.
    listed: RwLock<Listed>,
    /// Where they are read anew from; `None`: they came from the environment.
    file: Option<PathBuf>,
}

/// The keys, and which file they were read from.
struct Listed {
    keys: Vec<Named>,
    stamp: Option<Stamp>,
}

impl std::fmt::Debug for KeyProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyProvider").field("active", &self.active.0).finish_non_exhaustive()
    }
}

impl KeyProvider {
    /// Reads `id:base64,id:base64…`; commas and line ends separate.
    pub fn from_text(text: &str) -> Result<Self, KeyProviderError> {
        Self::of(key_file::parse(text)?, None)
    }

    /// Reads a key file, refusing one that others than its owner can read.
    pub fn from_file(path: &Path) -> Result<Self, KeyProviderError> {
        let (keys, stamp) = key_file::read(path)?;
        Self::of(keys, Some((path.to_owned(), stamp)))
    }

    /// Reads a key file, making it with fresh keys and mode 0600 when it is not there.
    pub fn from_file_or_new(path: &Path) -> Result<Self, KeyProviderError> {
        key_file::make_if_missing(path)?;
        Self::from_file(path)
    }

    fn of(keys: Vec<Named>, file: Option<(PathBuf, Stamp)>) -> Result<Self, KeyProviderError> {
        let active = keys.iter().find(|(id, _)| !id.is_wrapping()).cloned();
        let active = active.ok_or(KeyProviderError::Malformed)?;
        let (file, stamp) = file.unzip();
        Ok(Self { active, listed: RwLock::new(Listed { keys, stamp }), file })
    }

    /// Reads the file anew if it is another one than before; whether it was.
    pub fn refresh(&self) -> Result<bool, KeyProviderError> {
        let Some(path) = &self.file else { return Ok(false) };
        let now = key_file::stamp(path)?;
        if self.listed.read().unwrap_or_else(PoisonError::into_inner).stamp == Some(now) {
            return Ok(false);
        }
        let (keys, stamp) = key_file::read(path)?;
        let mut listed = self.listed.write().unwrap_or_else(PoisonError::into_inner);
        *listed = Listed { keys, stamp: Some(stamp) };
        Ok(true)
    }

    /// The key that wraps from now on.
    pub const fn active_id(&self) -> &MasterKeyId {
        &self.active.0
    }

    /// The names of the wrapping keys in their order: the first is the active one.
    pub fn wrapping_ids(&self) -> Vec<MasterKeyId> {
        let listed = self.listed.read().unwrap_or_else(PoisonError::into_inner);
        let ids = listed.keys.iter().map(|(id, _)| id).filter(|id| id.is_wrapping());
        ids.cloned().collect()
    }

    /// Wraps a person's key, bound to `bound`: under the active wrapping key, or under the active
    /// master key of an installation that has no wrapping key yet.
    pub fn wrap_persons(
        &self,
        key: &Key,
        bound: &[u8],
    ) -> Result<(MasterKeyId, Sealed), CryptoError> {
        let (id, wrapping) = {
            let listed = self.listed.read().unwrap_or_else(PoisonError::into_inner);
            let first = listed.keys.iter().find(|(id, _)| id.is_wrapping());
            first.unwrap_or(&self.active).clone()
        };
        Ok((id, Sealed::seal(&wrapping, &wrap_context(bound), key.as_bytes())?))
    }

    /// Wraps a key under the active master key, bound to `bound`.
    pub fn wrap(&self, key: &Key, bound: &[u8]) -> Result<Sealed, CryptoError> {
        Sealed::seal(&self.active.1, &wrap_context(bound), key.as_bytes())
    }

    /// Wraps a key under the key of that name, bound to `bound`.
    pub fn wrap_under(
        &self,
        id: &MasterKeyId,
        key: &Key,
        bound: &[u8],
    ) -> Result<Sealed, CryptoError> {
        let wrapping = self.find(id.as_str()).ok_or(CryptoError::DoesNotOpen)?;
        Sealed::seal(&wrapping, &wrap_context(bound), key.as_bytes())
    }

    /// Unwraps a key that was wrapped under the key `id`.
    pub fn unwrap(&self, id: &str, wrapped: &Sealed, bound: &[u8]) -> Result<Key, CryptoError> {
        let master = self.find(id).ok_or(CryptoError::DoesNotOpen)?;
        let bytes = wrapped.open(&master, &wrap_context(bound))?;
        Key::from_slice(bytes.expose()).ok_or(CryptoError::DoesNotOpen)
    }

    /// Whether there is a key of that name, after a look at the file.
    pub fn knows(&self, id: &str) -> bool {
        self.find(id).is_some()
    }

    /// Takes the file, to change its wrapping keys; `None`: the keys come from the environment.
    /// Waits for the disk.
    pub fn lock(&self) -> Result<Option<LockedKeys<'_>>, KeyProviderError> {
        let Some(path) = &self.file else { return Ok(None) };
        let file = LockedFile::take(path)?;
        self.refresh()?;
        Ok(Some(LockedKeys { provider: self, file }))
    }

    /// The key of audit records' MACs, derived from the active master key. Records carry
    /// [`Self::active_id`] beside the MAC.
    pub fn audit_mac_key(&self) -> MacKey {
        audit_mac_key(&self.active.1)
    }

    /// The key of the MACs of records that carry `id`.
    pub fn find_audit_mac_key(&self, id: &str) -> Option<MacKey> {
        self.find(id).as_ref().map(audit_mac_key)
    }

    /// The key of the MACs of the erasure ledger's lines, derived from the active master key. Lines
    /// carry [`Self::active_id`] beside the MAC.
    pub fn erasure_mac_key(&self) -> MacKey {
        erasure_mac_key(&self.active.1)
    }

    /// The key of the MACs of lines that carry `id`.
    pub fn find_erasure_mac_key(&self, id: &str) -> Option<MacKey> {
        self.find(id).as_ref().map(erasure_mac_key)
    }

    /// The key that seals the trail, derived from the active master key. Seals carry
    /// [`Self::active_id`] beside the signature.
    pub fn audit_signing_key(&self) -> Result<SigningKey, CryptoError> {
        SigningKey::derive(&self.active.1, AUDIT_SIGNING)
    }

    /// The key of the signatures of seals that carry `id`; `None`: there is no such master key.
    pub fn find_audit_signing_key(&self, id: &str) -> Option<Result<SigningKey, CryptoError>> {
        self.find(id).map(|master| SigningKey::derive(&master, AUDIT_SIGNING))
    }

    /// The key of that name. One that is not known may have been added to the file.
    fn find(&self, id: &str) -> Option<Key> {
        if self.active.0.as_str() == id {
            return Some(self.active.1.clone());
        }
        self.listed_key(id).or_else(|| match self.refresh() {
            Ok(true) => self.listed_key(id),
            Ok(false) => None,
            Err(error) => {
                tracing::error!(%error, "the keys cannot be read anew");
                None
            }
        })
    }

    fn listed_key(&self, id: &str) -> Option<Key> {
        let listed = self.listed.read().unwrap_or_else(PoisonError::into_inner);
        let found = listed.keys.iter().find(|(known, _)| known.as_str() == id);
        found.map(|(_, key)| key.clone())
    }
}

/// The key file, held by the one process that may change its wrapping keys.
pub struct LockedKeys<'a> {
    provider: &'a KeyProvider,
    file: LockedFile,
}

impl LockedKeys<'_> {
    /// Adds a fresh wrapping key of that number, which is the active one from then on.
    pub fn add_wrapping_key(&self, number: u64) -> Result<MasterKeyId, KeyProviderError> {
        let fresh = key_file::fresh(&format!("{WRAPPING}{number}"))?;
        let id = fresh.0.clone();
        self.change(|keys| {
            let first = keys.iter().position(|(id, _)| id.is_wrapping()).unwrap_or(keys.len());
            keys.insert(first, fresh);
        })?;
        Ok(id)
    }

    /// Removes these wrapping keys from the file, and so for good.
    pub fn remove_wrapping_keys(&self, ids: &[MasterKeyId]) -> Result<(), KeyProviderError> {
        self.change(|keys| keys.retain(|(id, _)| !(id.is_wrapping() && ids.contains(id))))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Named>)) -> Result<(), KeyProviderError> {
        let provider = self.provider;
        provider.refresh()?;
        let mut keys = {
            let listed = provider.listed.read().unwrap_or_else(PoisonError::into_inner);
            listed.keys.clone()
        };
        change(&mut keys);
        self.file.replace(&keys)?;
        provider.refresh()?;
        Ok(())
    }
}

/// What the signing key is derived for.
const AUDIT_SIGNING: &str = "ai-cache audit seal signature";

fn audit_mac_key(master: &Key) -> MacKey {
    MacKey::derive(master, "ai-cache audit record mac")
}

fn erasure_mac_key(master: &Key) -> MacKey {
    MacKey::derive(master, "ai-cache erasure ledger mac")
}

const fn wrap_context(bound: &[u8]) -> SealContext<'_> {
    SealContext { field: "wrapped key", key_version: 1, bound }
}
