//! Owns the checkpoint file, which has a line for each seal and lies outside the database. So a
//! person who can change the database cannot cut off the end of the trail unseen. A line is
//! appended after the commit of its seal.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::ids::LedgerId;
use crate::domain::seal::Seal;

use super::line_file::{Line, LineFile, LineFileError};

/// The line of a seal in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// The ledger of the seal.
    pub ledger_id: LedgerId,
    /// The number of the seal in its ledger.
    pub seq: i64,
    /// The time at which the seal was made.
    pub sealed_at: DateTime<Utc>,
    /// The hash of the seal, in hexadecimal.
    pub seal_hash: String,
    /// The id of the key that signed the seal.
    pub key_id: String,
    /// The signature of the seal, in hexadecimal.
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

/// The file of checkpoints.
#[derive(Debug, Clone)]
pub struct CheckpointFile(LineFile);

impl CheckpointFile {
    /// Returns the checkpoint file at `path`.
    pub const fn new(path: PathBuf) -> Self {
        Self(LineFile::new("AI_CACHE_AUDIT_CHECKPOINT_FILE", path))
    }

    /// Returns whether the file exists.
    pub fn exists(&self) -> Result<bool, LineFileError> {
        self.0.exists()
    }

    /// Adds a line for each seal to the file, which must exist, and waits until the disk has the
    /// lines.
    pub fn append(&self, seals: &[Seal]) -> Result<(), LineFileError> {
        self.0.append(seals.iter().map(Checkpoint::from))
    }

    /// Makes the file if it does not exist.
    pub fn touch(&self) -> Result<(), LineFileError> {
        self.0.touch()
    }

    /// Returns the last whole line. Returns `None` if there is no file or no whole line at its end.
    pub fn last(&self) -> Result<Option<Checkpoint>, LineFileError> {
        self.0.last()
    }

    /// Returns every line in turn. A line that is no checkpoint is `None`. A line that a crash tore
    /// off is left out. The lines end where the file cannot be read.
    pub fn lines(&self) -> Result<impl Iterator<Item = Option<Checkpoint>>, LineFileError> {
        let read = |line| match line {
            Line::Whole(checkpoint) => Some(Some(checkpoint)),
            Line::Strange => Some(None),
            Line::Torn => None,
        };
        Ok(self.0.lines()?.map_while(Result::ok).filter_map(read))
    }
}
