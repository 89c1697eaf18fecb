//! Owns the lock that gives each data folder and server one holder: an flock on a file that names
//! the holder's process. The kernel releases the lock when the process ends, so a kill -9 leaves
//! nothing to clean up.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::EmbeddedError;

#[derive(Debug)]
pub(super) struct FolderLock {
    file: File,
}

/// The result of [`FolderLock::take`].
pub(super) enum Taken {
    Mine(FolderLock),
    /// Another process holds the lock. The id is `None` if that process has not written it yet.
    Other(Option<u32>),
}

impl FolderLock {
    pub(super) fn take(path: &Path) -> Result<Taken, EmbeddedError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(EmbeddedError::folder("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Taken::Other(holder(&mut file))),
            Err(TryLockError::Error(source)) => {
                return Err(EmbeddedError::folder("lock", path)(source));
            }
        }
        write_holder(&mut file).map_err(EmbeddedError::folder("write", path))?;
        Ok(Taken::Mine(Self { file }))
    }
}

impl Drop for FolderLock {
    /// Unlocks explicitly. A child forked elsewhere in this process may hold a copy of the
    /// descriptor for a moment, and the copy would keep the lock if the file were only closed.
    fn drop(&mut self) {
        // An error is ignored, because the lock ends with the process in any case.
        drop(self.file.unlock());
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}
