//! The installation's master keys: from a file only its owner can read, or from the environment.
//! They wrap tenants' and persons' keys and never leave the process. Keeps none of them on disk but
//! the file it made itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{CryptoError, Key, MacKey, SealContext, Sealed, SigningKey, random};

/// Names a master key: 1 to 16 of `a-z`, `0-9`, `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MasterKeyId(String);

impl MasterKeyId {
    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        ((1..=16).contains(&text.len()) && text.bytes().all(allowed)).then(|| Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why master keys cannot be had. One line each.
#[derive(Debug, thiserror::Error)]
pub enum KeyProviderError {
    /// The file cannot be read or made.
    #[error("the master key file {} cannot be {verb}: {}", path.display(), source.kind())]
    File {
        /// Where.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Others than its owner can read the file.
    #[error("the master key file {} has mode {mode:04o}; it must be 0600", path.display())]
    FileMode {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The text is not a list of keys.
    #[error("master keys must be written id:base64 of 32 bytes, separated by commas or lines")]
    Malformed,
    /// No random bytes for a new key.
    #[error("no master key could be made")]
    Crypto(#[from] CryptoError),
}

/// Master keys, the first being the active one.
pub struct KeyProvider {
    active: (MasterKeyId, Key),
    others: Vec<(MasterKeyId, Key)>,
}

impl std::fmt::Debug for KeyProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyProvider").field("active", &self.active.0).finish_non_exhaustive()
    }
}

impl KeyProvider {
    /// Reads `id:base64,id:base64…`; commas and line ends separate.
    pub fn from_text(text: &str) -> Result<Self, KeyProviderError> {
        let mut keys = Vec::new();
        for item in text.split([',', '\n']).map(str::trim).filter(|item| !item.is_empty()) {
            let (id, encoded) = item.split_once(':').ok_or(KeyProviderError::Malformed)?;
            let id = MasterKeyId::parse(id).ok_or(KeyProviderError::Malformed)?;
            let bytes = STANDARD.decode(encoded).map_err(|_| KeyProviderError::Malformed)?;
            let bytes = Zeroizing::new(bytes);
            let key = Key::from_slice(&bytes).ok_or(KeyProviderError::Malformed)?;
            if keys.iter().any(|(known, _)| *known == id) {
                return Err(KeyProviderError::Malformed);
            }
            keys.push((id, key));
        }
        let mut keys = keys.into_iter();
        let active = keys.next().ok_or(KeyProviderError::Malformed)?;
        Ok(Self { active, others: keys.collect() })
    }

    /// Reads a key file, refusing one that others than its owner can read.
    pub fn from_file(path: &Path) -> Result<Self, KeyProviderError> {
        let failed =
            |source| KeyProviderError::File { path: path.to_owned(), verb: "read", source };
        let mut file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyProviderError::FileMode { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(failed)?;
        Self::from_text(&text)
    }

    /// Reads a key file, making it with one fresh key and mode 0600 when it is not there. A file
    /// under that name is whole: it is written beside and then linked, which only one of many that
    /// try at once can.
    pub fn from_file_or_new(path: &Path) -> Result<Self, KeyProviderError> {
        let failed =
            |source| KeyProviderError::File { path: path.to_owned(), verb: "made", source };
        if !path.try_exists().map_err(failed)? {
            let beside = path.with_extension(hex::encode(random::<8>()?));
            let made = write_new_key(&beside).and_then(|()| match fs::hard_link(&beside, path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            });
            let removed = fs::remove_file(&beside);
            made.and(removed).map_err(failed)?;
        }
        Self::from_file(path)
    }

    /// The key that wraps from now on.
    pub const fn active_id(&self) -> &MasterKeyId {
        &self.active.0
    }

    /// Wraps a key under the active master key, bound to `bound`.
    pub fn wrap(&self, key: &Key, bound: &[u8]) -> Result<Sealed, CryptoError> {
        Sealed::seal(&self.active.1, &wrap_context(bound), key.as_bytes())
    }

    /// Unwraps a key that was wrapped under the master key `id`.
    pub fn unwrap(&self, id: &str, wrapped: &Sealed, bound: &[u8]) -> Result<Key, CryptoError> {
        let master = self.find(id).ok_or(CryptoError::DoesNotOpen)?;
        let bytes = wrapped.open(master, &wrap_context(bound))?;
        Key::from_slice(bytes.expose()).ok_or(CryptoError::DoesNotOpen)
    }

    /// The key of audit records' MACs, derived from the active master key. Records carry
    /// [`Self::active_id`] beside the MAC.
    pub fn audit_mac_key(&self) -> MacKey {
        audit_mac_key(&self.active.1)
    }

    /// The key of the MACs of records that carry `id`.
    pub fn find_audit_mac_key(&self, id: &str) -> Option<MacKey> {
        self.find(id).map(audit_mac_key)
    }

    /// The key that seals the trail, derived from the active master key. Seals carry
    /// [`Self::active_id`] beside the signature.
    pub fn audit_signing_key(&self) -> Result<SigningKey, CryptoError> {
        SigningKey::derive(&self.active.1, AUDIT_SIGNING)
    }

    /// The key of the signatures of seals that carry `id`; `None`: there is no such master key.
    pub fn find_audit_signing_key(&self, id: &str) -> Option<Result<SigningKey, CryptoError>> {
        self.find(id).map(|master| SigningKey::derive(master, AUDIT_SIGNING))
    }

    fn find(&self, id: &str) -> Option<&Key> {
        let mut keys = std::iter::once(&self.active).chain(&self.others);
        keys.find(|(known, _)| known.as_str() == id).map(|(_, key)| key)
    }
}

/// What the signing key is derived for.
const AUDIT_SIGNING: &str = "ai-cache audit seal signature";

fn audit_mac_key(master: &Key) -> MacKey {
    MacKey::derive(master, "ai-cache audit record mac")
}

fn write_new_key(path: &Path) -> io::Result<()> {
    let key = Zeroizing::new(random::<32>().map_err(io::Error::other)?);
    let encoded = Zeroizing::new(STANDARD.encode(*key));
    let line = Zeroizing::new(format!("k1:{}\n", *encoded));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(line.as_bytes())?;
    file.sync_all()
}

const fn wrap_context(bound: &[u8]) -> SealContext<'_> {
    SealContext { field: "wrapped key", key_version: 1, bound }
}
