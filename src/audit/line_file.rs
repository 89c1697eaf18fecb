//! A file outside the database that takes a line for each thing that must outlive the database.
//! Lines are appended and never changed, and they are on the disk before the caller goes on. A line
//! that a crash tore off does not spoil the lines after it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The length of a file's end that surely holds a whole line.
const TAIL_BYTES: u64 = 16 * 1024;

/// The reason why a file of lines cannot be used. Its message has one line.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {} cannot be {verb}: {}", path.display(), source.kind())]
pub struct LineFileError {
    setting: &'static str,
    path: PathBuf,
    verb: &'static str,
    source: io::Error,
}

/// The content of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<T> {
    /// The value that was written.
    Whole(T),
    /// The beginning of a value.
    Torn,
    /// Bytes that are neither a value nor the beginning of one.
    Strange,
}

/// The file, by its path: it may be moved away and back between two lines.
#[derive(Debug, Clone)]
pub struct LineFile {
    setting: &'static str,
    path: PathBuf,
}

impl LineFile {
    /// Returns the file at `path`, which is set by the variable `setting`.
    pub const fn new(setting: &'static str, path: PathBuf) -> Self {
        Self { setting, path }
    }

    /// Returns a function that turns an I/O error into an error of this file. `verb` names the
    /// operation that failed.
    pub fn failed(&self, verb: &'static str) -> impl FnOnce(io::Error) -> LineFileError {
        let (setting, path) = (self.setting, self.path.clone());
        move |source| LineFileError { setting, path, verb, source }
    }

    /// Returns whether the file exists.
    pub fn exists(&self) -> Result<bool, LineFileError> {
        self.path.try_exists().map_err(self.failed("looked for"))
    }

    /// Makes the file if it does not exist.
    pub fn touch(&self) -> Result<(), LineFileError> {
        let mut options = OpenOptions::new();
        let made = options.append(true).create(true).mode(0o600).open(&self.path);
        made.and_then(|file| file.sync_all()).map_err(self.failed("made"))
    }

    /// Adds lines to the file, which must be there, and waits until the disk has them.
    pub fn append<T: Serialize>(
        &self,
        lines: impl IntoIterator<Item = T>,
    ) -> Result<(), LineFileError> {
        self.write(lines).map_err(self.failed("written"))
    }

    fn write<T: Serialize>(&self, items: impl IntoIterator<Item = T>) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).append(true).open(&self.path)?;
        // Other processes may append too, and must not take the beginning of a line for a torn
        // line.
        match file.lock() {
            // Where there are no locks, only one process writes.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            locked => locked?,
        }
        let mut lines = Vec::new();
        if ends_inside_a_line(&mut file)? {
            lines.push(b'\n');
        }
        for item in items {
            serde_json::to_writer(&mut lines, &item)?;
            lines.push(b'\n');
        }
        file.write_all(&lines)?;
        file.sync_data()
    }

    /// Returns the last whole line. Returns `None` if there is no file or no whole line at its end.
    pub fn last<T: DeserializeOwned>(&self) -> Result<Option<T>, LineFileError> {
        if !self.exists()? {
            return Ok(None);
        }
        let tail = read_tail(&self.path).map_err(self.failed("read"))?;
        Ok(tail.rsplit(|byte| *byte == b'\n').find_map(|line| serde_json::from_slice(line).ok()))
    }

    /// Returns every line in turn. Empty lines are left out.
    pub fn lines<T: DeserializeOwned>(
        &self,
    ) -> Result<impl Iterator<Item = Result<Line<T>, LineFileError>>, LineFileError> {
        let file = File::open(&self.path).map_err(self.failed("read"))?;
        let read = |line: io::Result<Vec<u8>>| {
            let line = match line {
                Ok(line) if line.is_empty() => return None,
                Ok(line) => line,
                Err(error) => return Some(Err(self.failed("read")(error))),
            };
            Some(Ok(match serde_json::from_slice(&line) {
                Ok(item) => Line::Whole(item),
                Err(error) if error.is_eof() => Line::Torn,
                Err(_) => Line::Strange,
            }))
        };
        Ok(BufReader::new(file).split(b'\n').filter_map(read))
    }
}

fn ends_inside_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn read_tail(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    Ok(tail)
}
