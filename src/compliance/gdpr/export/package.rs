//! The zip of an export while it is written: its files, what the manifest says of each, and the
//! parts that are sealed as they fill up. It holds one part in the clear, never the whole.

use std::io::{self, Write};
use std::sync::mpsc;

use chrono::{DateTime, Datelike, Timelike, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipWriter};

use crate::call::ServiceError;
use crate::crypto::Sealed;
use crate::keyring::{PackageSealer, PartKind};

/// The bytes of a part in the clear, in production. A sealed part is no longer than a mebibyte.
pub const PART_BYTES: usize = 1024 * 1024 - 128;

/// The reason why a package could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PackingError {
    /// The zip could not be written.
    #[error("the zip of an export could not be written")]
    Zip(#[from] zip::result::ZipError),
    /// A part could not be sealed.
    #[error("a part of an export could not be sealed")]
    Part(#[from] io::Error),
    /// A line could not be written.
    #[error("a line of an export could not be written as JSON")]
    Line(#[from] serde_json::Error),
}

impl From<PackingError> for ServiceError {
    fn from(error: PackingError) -> Self {
        Self::Package(Box::new(error))
    }
}

/// The manifest's facts about a file.
#[derive(Debug, Clone, Serialize)]
pub struct FileSummary {
    name: &'static str,
    lines: u64,
    bytes: u64,
    sha256: String,
}

/// The file that is being written.
struct FileTally {
    name: &'static str,
    lines: u64,
    bytes: u64,
    hash: Sha256,
}

/// A package that is being written.
pub struct Package {
    zip: ZipWriter<StreamWriter<Parts>>,
    options: SimpleFileOptions,
    file: Option<FileTally>,
    files: Vec<FileSummary>,
}

impl Package {
    /// Begins a package. The sealed parts come out of the returned end as they fill up. It is a
    /// channel of the standard library, because parts are made on the blocking pool and taken,
    /// without waiting, after each piece of work there. It holds no more parts than a page of
    /// entries makes.
    pub fn new(
        sealer: PackageSealer,
        part_bytes: usize,
        at: DateTime<Utc>,
    ) -> (Self, mpsc::Receiver<Sealed>) {
        let (sealed, parts) = mpsc::channel();
        let buffer = Zeroizing::new(Vec::with_capacity(part_bytes));
        let sink = Parts { sealer, part_bytes, buffer, sealed };
        let zip = ZipWriter::new_stream(sink).set_auto_large_file();
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(zip_time(at).unwrap_or_default())
            .unix_permissions(0o644);
        (Self { zip, options, file: None, files: Vec::new() }, parts)
    }

    /// Begins a file; the one before must have ended.
    pub fn begin(&mut self, name: &'static str) -> Result<(), PackingError> {
        self.zip.start_file(name, self.options)?;
        self.file = Some(FileTally { name, lines: 0, bytes: 0, hash: Sha256::new() });
        Ok(())
    }

    /// Writes into the file.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), PackingError> {
        self.zip.write_all(bytes)?;
        if let Some(file) = &mut self.file {
            file.lines += bytes.split(|byte| *byte == b'\n').count() as u64 - 1;
            file.bytes += bytes.len() as u64;
            file.hash.update(bytes);
        }
        Ok(())
    }

    /// Writes one line of JSON into the file.
    pub fn line(&mut self, value: &impl Serialize) -> Result<(), PackingError> {
        let mut line = Zeroizing::new(Vec::with_capacity(4_096));
        serde_json::to_writer(&mut *line, value)?;
        line.push(b'\n');
        self.write(&line)
    }

    /// Ends the file.
    pub fn end(&mut self) {
        if let Some(FileTally { name, lines, bytes, hash }) = self.file.take() {
            let sha256 = hex::encode(hash.finalize());
            self.files.push(FileSummary { name, lines, bytes, sha256 });
        }
    }

    /// Writes a whole file.
    pub fn file(&mut self, name: &'static str, bytes: &[u8]) -> Result<(), PackingError> {
        self.begin(name)?;
        self.write(bytes)?;
        self.end();
        Ok(())
    }

    /// Returns the files so far.
    pub fn files(&self) -> &[FileSummary] {
        &self.files
    }

    /// Ends the package, and seals its last part as the last one.
    pub fn finish(self) -> Result<(), PackingError> {
        let mut parts = self.zip.finish()?.into_inner();
        Ok(parts.seal(PartKind::Last)?)
    }
}

/// Converts a time. Returns `None` where the zip format has no such time.
fn zip_time(at: DateTime<Utc>) -> Option<zip::DateTime> {
    let small = |number: u32| u8::try_from(number).ok();
    let year = u16::try_from(at.year()).ok()?;
    let (month, day) = (small(at.month())?, small(at.day())?);
    let (hour, minute, second) = (small(at.hour())?, small(at.minute())?, small(at.second())?);
    zip::DateTime::from_date_and_time(year, month, day, hour, minute, second).ok()
}

/// Takes the bytes of the zip and seals them part by part.
struct Parts {
    sealer: PackageSealer,
    part_bytes: usize,
    buffer: Zeroizing<Vec<u8>>,
    sealed: mpsc::Sender<Sealed>,
}

impl Parts {
    fn seal(&mut self, kind: PartKind) -> io::Result<()> {
        let sealed = self.sealer.seal(kind, &self.buffer).map_err(io::Error::other)?;
        self.buffer.zeroize();
        // The execution was given up if nobody takes the part any more.
        let _taken = self.sealed.send(sealed);
        Ok(())
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Only now is it known that another part follows.
        if self.buffer.len() == self.part_bytes && !bytes.is_empty() {
            self.seal(PartKind::Inner)?;
        }
        let taken = bytes.len().min(self.part_bytes - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
