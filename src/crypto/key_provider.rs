//! Owns the master and wrapping keys of the installation, from the key file or the environment.
//! Master keys wrap tenants' keys and are the origin of MACs and signatures. Wrapping keys wrap
//! persons' keys alone, so that they can be destroyed. Keys never go anywhere but to the key file.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use super::key_file::{self, LockedFile, Named, Stamp};
use super::key_id::{KeyProviderError, MasterKeyId, WRAPPING};
use super::{CryptoError, Key, MacKey, SealContext, Sealed, SigningKey};

/// The master and wrapping keys. The first key of each kind is the active one.
pub struct KeyProvider {
    /// The active master key. It is the same as long as the process runs.
    active: Named,
    /// The keys as they were last read. No code does I/O or waits while it holds this lock.
    listed: RwLock<Listed>,
    /// The file from which the keys are read again. `None` means that they came from the
    /// environment.
    file: Option<PathBuf>,
}

/// The keys, and the stamp of the file that they were read from.
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
    /// Reads keys in the form `id:base64,id:base64…`. Commas and line ends separate them.
    pub fn from_text(text: &str) -> Result<Self, KeyProviderError> {
        Self::of(key_file::parse(text)?, None)
    }

    /// Reads a key file. Refuses a file that anybody but its owner may use.
    pub fn from_file(path: &Path) -> Result<Self, KeyProviderError> {
        let (keys, stamp) = key_file::read(path)?;
        Self::of(keys, Some((path.to_owned(), stamp)))
    }

    /// Reads a key file. If it is missing, the function first makes it with fresh keys and mode
    /// 0600.
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

    /// Reads the file again if it changed since the last reading. Returns whether it changed.
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

    /// Returns the id of the active master key.
    pub const fn active_id(&self) -> &MasterKeyId {
        &self.active.0
    }

    /// Returns the ids of the wrapping keys in their order. The first one is the active one.
    pub fn wrapping_ids(&self) -> Vec<MasterKeyId> {
        let listed = self.listed.read().unwrap_or_else(PoisonError::into_inner);
        let ids = listed.keys.iter().map(|(id, _)| id).filter(|id| id.is_wrapping());
        ids.cloned().collect()
    }

    /// Wraps a person's key, bound to `bound`, under the active wrapping key. An installation that
    /// has no wrapping key yet uses its active master key. Returns the id of the key that wrapped.
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

    /// Wraps a key under the key `id`, bound to `bound`.
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

    /// Returns whether there is a key `id`. It reads a changed file before it returns false.
    pub fn knows(&self, id: &str) -> bool {
        self.find(id).is_some()
    }

    /// Locks the file, to change its wrapping keys. Returns `None` if the keys come from the
    /// environment. The function waits for the disk.
    pub fn lock(&self) -> Result<Option<LockedKeys<'_>>, KeyProviderError> {
        let Some(path) = &self.file else { return Ok(None) };
        let file = LockedFile::take(path)?;
        self.refresh()?;
        Ok(Some(LockedKeys { provider: self, file }))
    }

    /// Returns the key for the MACs of audit records, derived from the active master key. A record
    /// carries [`Self::active_id`] beside the MAC.
    pub fn audit_mac_key(&self) -> MacKey {
        audit_mac_key(&self.active.1)
    }

    /// Returns the key for the MACs of records that carry `id`. Returns `None` if there is no such
    /// key.
    pub fn find_audit_mac_key(&self, id: &str) -> Option<MacKey> {
        self.find(id).as_ref().map(audit_mac_key)
    }

    /// Returns the key for the MACs of the lines of the erasure ledger, derived from the active
    /// master key. A line carries [`Self::active_id`] beside the MAC.
    pub fn erasure_mac_key(&self) -> MacKey {
        erasure_mac_key(&self.active.1)
    }

    /// Returns the key for the MACs of lines that carry `id`. Returns `None` if there is no such
    /// key.
    pub fn find_erasure_mac_key(&self, id: &str) -> Option<MacKey> {
        self.find(id).as_ref().map(erasure_mac_key)
    }

    /// Returns the key that signs audit seals and certificates, derived from the active master key.
    /// A seal carries [`Self::active_id`] beside the signature.
    pub fn audit_signing_key(&self) -> Result<SigningKey, CryptoError> {
        SigningKey::derive(&self.active.1, AUDIT_SIGNING)
    }

    /// Returns the key for the signatures of seals that carry `id`. Returns `None` if there is no
    /// such key.
    pub fn find_audit_signing_key(&self, id: &str) -> Option<Result<SigningKey, CryptoError>> {
        self.find(id).map(|master| SigningKey::derive(&master, AUDIT_SIGNING))
    }

    /// Returns the key `id`. If it is not known, the function reads a changed file, because the key
    /// may have been added there. Returns `None` if there is no such key or the file cannot be
    /// read.
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

/// The locked key file, whose wrapping keys only this process may change.
pub struct LockedKeys<'a> {
    provider: &'a KeyProvider,
    file: LockedFile,
}

impl LockedKeys<'_> {
    /// Adds a fresh wrapping key with this number. It is the active one from then on.
    pub fn add_wrapping_key(&self, number: u64) -> Result<MasterKeyId, KeyProviderError> {
        let fresh = key_file::fresh(&format!("{WRAPPING}{number}"))?;
        let id = fresh.0.clone();
        self.change(|keys| {
            let first = keys.iter().position(|(id, _)| id.is_wrapping()).unwrap_or(keys.len());
            keys.insert(first, fresh);
        })?;
        Ok(id)
    }

    /// Removes these wrapping keys from the file. They are then destroyed for good.
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

/// The purpose that the signing key is derived for.
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
