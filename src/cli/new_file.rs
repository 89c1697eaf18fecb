//! Owns a new file that only its owner can read. It must never replace an existing file, and never
//! leave an incomplete one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::failure::Failure;

/// A file that is being written. If it is dropped before [`NewFile::keep`], the file is removed.
pub(super) struct NewFile<'a> {
    file: File,
    path: &'a Path,
    bytes: u64,
    is_kept: bool,
}

impl<'a> NewFile<'a> {
    /// Makes the file with mode 0600. Returns an error and changes nothing if `path` exists.
    pub(super) fn create(path: &'a Path) -> Result<Self, Failure> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Failure::usage(format!("{} is there already", path.display()))
            }
            kind => Failure::usage(format!("{}: {kind}", path.display())),
        })?;
        Ok(Self { file, path, bytes: 0, is_kept: false })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| self.failed(&error))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Makes the file durable on the disk and returns its length in bytes.
    pub(super) fn keep(mut self) -> Result<u64, Failure> {
        self.file.sync_all().map_err(|error| self.failed(&error))?;
        self.is_kept = true;
        Ok(self.bytes)
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::not_so(format!("{} cannot be written: {}", self.path.display(), error.kind()))
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            std::fs::remove_file(self.path).ok();
        }
    }
}
