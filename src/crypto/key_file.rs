//! Owns the file of master and wrapping keys, which is read and replaced as a whole. The new file
//! is written beside the old one, synced to the disk and then renamed, so that a reader never meets
//! a part of a file.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::key_id::{KeyProviderError, MasterKeyId};
use super::{Key, random};

/// A key with its id.
pub(super) type Named = (MasterKeyId, Key);

/// The facts about a file that show, without reading it, whether it is still the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl From<&fs::Metadata> for Stamp {
    fn from(found: &fs::Metadata) -> Self {
        let modified = (found.mtime(), found.mtime_nsec());
        Self { inode: found.ino(), length: found.len(), modified }
    }
}

/// Reads keys in the form `id:base64,id:base64…`. Commas and line ends separate them. One of the
/// keys must be a master key.
pub(super) fn parse(text: &str) -> Result<Vec<Named>, KeyProviderError> {
    let mut keys: Vec<Named> = Vec::new();
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
    let has_master = keys.iter().any(|(id, _)| !id.is_wrapping());
    if has_master { Ok(keys) } else { Err(KeyProviderError::Malformed) }
}

/// Reads a key file and its stamp. Refuses a file that anybody but its owner may use.
pub(super) fn read(path: &Path) -> Result<(Vec<Named>, Stamp), KeyProviderError> {
    let failed = failed(path, "read");
    let mut file = File::open(path).map_err(&failed)?;
    let found = file.metadata().map_err(&failed)?;
    let mode = found.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyProviderError::FileMode { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(&failed)?;
    Ok((parse(&text)?, Stamp::from(&found)))
}

/// Returns the stamp of the file at `path`.
pub(super) fn stamp(path: &Path) -> Result<Stamp, KeyProviderError> {
    fs::metadata(path).map(|found| Stamp::from(&found)).map_err(failed(path, "read"))
}

/// Makes a key file with a fresh master key, a fresh wrapping key and mode 0600 if it is missing. A
/// file at `path` is always whole, because it is written under another name and then linked. If
/// several processes try at once, only one of them can link its file.
pub(super) fn make_if_missing(path: &Path) -> Result<(), KeyProviderError> {
    let failed = failed(path, "made");
    if path.try_exists().map_err(&failed)? {
        return Ok(());
    }
    let beside = path.with_extension(hex::encode(random::<8>()?));
    let keys = [fresh("k1")?, fresh("wrap-1")?];
    let made = write(&beside, &keys, 0o600).and_then(|_| match fs::hard_link(&beside, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    });
    let removed = fs::remove_file(&beside);
    made.and(removed).map_err(failed)
}

/// Makes a fresh key with the id `name`.
pub(super) fn fresh(name: &str) -> Result<Named, KeyProviderError> {
    let id = MasterKeyId::parse(name).ok_or(KeyProviderError::Malformed)?;
    Ok((id, Key::random()?))
}

/// The key file, held by the one process that may change it.
#[derive(Debug)]
pub(super) struct LockedFile {
    path: PathBuf,
    /// The folder, which carries the lock, because each change replaces the file itself.
    folder: File,
}

impl LockedFile {
    /// Takes the lock. Returns an error if another process has it.
    pub(super) fn take(path: &Path) -> Result<Self, KeyProviderError> {
        // The change must replace the file itself and not a link to it.
        let found = fs::canonicalize(path).map_err(failed(path, "found"))?;
        let folder = found.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
        let folder = File::open(folder).map_err(failed(path, "locked"))?;
        match folder.try_lock() {
            Ok(()) => Ok(Self { path: found, folder }),
            Err(fs::TryLockError::WouldBlock) => Err(KeyProviderError::Busy(path.to_owned())),
            Err(fs::TryLockError::Error(source)) => Err(failed(path, "locked")(source)),
        }
    }

    /// Replaces the keys in the file. The owner and the owner's permissions stay the same.
    pub(super) fn replace(&self, keys: &[Named]) -> Result<(), KeyProviderError> {
        self.write_anew(keys).map_err(failed(&self.path, "written"))
    }

    fn write_anew(&self, keys: &[Named]) -> io::Result<()> {
        let before = fs::metadata(&self.path)?;
        // The name is always the same, so that the next process replaces the file of a killed one.
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = write(&beside, keys, 0o600)?;
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != (before.uid(), before.gid()) {
            fchown(&file, Some(before.uid()), Some(before.gid()))?;
        }
        file.set_permissions(Permissions::from_mode(before.mode() & 0o700))?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        self.folder.sync_all()
    }
}

impl Drop for LockedFile {
    /// Unlocks explicitly, because a child that this process forked may hold a copy of the
    /// descriptor.
    fn drop(&mut self) {
        // An error is ignored, because the lock ends with the process in any case.
        drop(self.folder.unlock());
    }
}

fn write(path: &Path, keys: &[Named], mode: u32) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    for (id, key) in keys {
        let encoded = Zeroizing::new(STANDARD.encode(key.as_bytes()));
        let line = Zeroizing::new(format!("{}:{}\n", id.as_str(), *encoded));
        file.write_all(line.as_bytes())?;
    }
    file.sync_all()?;
    Ok(file)
}

fn failed(path: &Path, verb: &'static str) -> impl Fn(io::Error) -> KeyProviderError {
    let path = path.to_owned();
    move |source| KeyProviderError::File { path: path.clone(), verb, source }
}
