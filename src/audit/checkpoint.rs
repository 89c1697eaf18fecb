//! The checkpoint file: a line for each seal, kept outside the database, so that whoever can change
//! the database cannot cut the trail's end off unseen. Appended to after the seal's commit.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::ids::LedgerId;
use crate::domain::seal::Seal;

/// The end of a file that surely holds a whole line.
const TAIL_BYTES: u64 = 16 * 1024;

/// Why the checkpoint file cannot be used. One line.
#[derive(Debug, thiserror::Error)]
#[error("AI_CACHE_AUDIT_CHECKPOINT_FILE: {} cannot be {verb}: {}", path.display(), source.kind())]
pub struct CheckpointError {
    path: PathBuf,
    verb: &'static str,
    source: io::Error,
}

/// What the file says of a seal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// Its ledger.
    pub ledger_id: LedgerId,
    /// Its place in it.
    pub seq: i64,
    /// When it was made.
    pub sealed_at: DateTime<Utc>,
    /// Its hash, in hexadecimal.
    pub seal_hash: String,
    /// Its key.
    pub key_id: String,
    /// Its signature, in hexadecimal.
    pub signature: String,
}

impl From<&Seal> for Checkpoint {
    fn from(seal: &Seal) -> Self {
        Self {
            ledger_id: seal.content.ledger,
            seq: seal.content.seq,
            sealed_at: seal.content.at,
            seal_hash: hex::encode(&seal.hash),
            key_id: seal.content.key_id.clone(),
            signature: hex::encode(&seal.signature),
        }
    }
}

/// The file, by its path: it may be moved away and back between two seals.
#[derive(Debug, Clone)]
pub struct CheckpointFile(PathBuf);

impl CheckpointFile {
    /// The file at `path`.
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    fn failed(&self, verb: &'static str) -> impl FnOnce(io::Error) -> CheckpointError {
        let path = self.0.clone();
        move |source| CheckpointError { path, verb, source }
    }

    /// Whether it is there.
    pub fn exists(&self) -> Result<bool, CheckpointError> {
        self.0.try_exists().map_err(self.failed("looked for"))
    }

    /// Adds a line for each seal to the file, which must be there, and waits until the disk has them.
    /// What was torn before does not spoil them.
    pub fn append(&self, seals: &[Seal]) -> Result<(), CheckpointError> {
        self.write(seals).map_err(self.failed("written"))
    }

    /// Makes it when it is not there.
    pub fn touch(&self) -> Result<(), CheckpointError> {
        let mut options = OpenOptions::new();
        let made = options.append(true).create(true).mode(0o600).open(&self.0);
        made.and_then(|file| file.sync_all()).map_err(self.failed("made"))
    }

    fn write(&self, seals: &[Seal]) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).append(true).open(&self.0)?;
        let mut lines = Vec::new();
        if ends_inside_a_line(&mut file)? {
            lines.push(b'\n');
        }
        for seal in seals {
            serde_json::to_writer(&mut lines, &Checkpoint::from(seal))?;
            lines.push(b'\n');
        }
        file.write_all(&lines)?;
        file.sync_data()
    }

    /// The last whole line; `None`: there is no file or nothing in it.
    pub fn last(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        if !self.exists()? {
            return Ok(None);
        }
        let tail = read_tail(&self.0).map_err(self.failed("read"))?;
        Ok(tail.rsplit(|byte| *byte == b'\n').find_map(|line| serde_json::from_slice(line).ok()))
    }

    /// Every line in turn; one that is no checkpoint is `None`. What a crash tore off is left out.
    pub fn lines(&self) -> Result<impl Iterator<Item = Option<Checkpoint>>, CheckpointError> {
        let file = File::open(&self.0).map_err(self.failed("read"))?;
        let read = |line: io::Result<Vec<u8>>| match serde_json::from_slice(&line.ok()?) {
            Ok(checkpoint) => Some(Some(checkpoint)),
            Err(error) if error.is_eof() => None,
            Err(_) => Some(None),
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
