//! The checkpoint file: a line for each seal, kept outside the database, so that whoever can change
//! the database cannot cut the trail's end off unseen. Appended to after the seal's commit.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::ids::LedgerId;
use crate::domain::seal::Seal;

use super::line_file::{Line, LineFile, LineFileError};

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

/// The file of checkpoints.
#[derive(Debug, Clone)]
pub struct CheckpointFile(LineFile);

impl CheckpointFile {
    /// The file at `path`.
    pub const fn new(path: PathBuf) -> Self {
        Self(LineFile::new("AI_CACHE_AUDIT_CHECKPOINT_FILE", path))
    }

    /// Whether it is there.
    pub fn exists(&self) -> Result<bool, LineFileError> {
        self.0.exists()
    }

    /// Adds a line for each seal to the file, which must be there, and waits until the disk has them.
    pub fn append(&self, seals: &[Seal]) -> Result<(), LineFileError> {
        self.0.append(seals.iter().map(Checkpoint::from))
    }

    /// Makes it when it is not there.
    pub fn touch(&self) -> Result<(), LineFileError> {
        self.0.touch()
    }

    /// The last whole line; `None`: there is no file or nothing in it.
    pub fn last(&self) -> Result<Option<Checkpoint>, LineFileError> {
        self.0.last()
    }

    /// Every line in turn; one that is no checkpoint is `None`. What a crash tore off is left out.
    pub fn lines(&self) -> Result<impl Iterator<Item = Option<Checkpoint>>, LineFileError> {
        let read = |line| match line {
            Line::Whole(checkpoint) => Some(Some(checkpoint)),
            Line::Strange => Some(None),
            Line::Torn => None,
        };
        Ok(self.0.lines()?.map_while(Result::ok).filter_map(read))
    }
}
