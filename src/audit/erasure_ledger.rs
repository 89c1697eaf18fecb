//! Owns the file of the erasure ledger: a line for each person's key before the key is destroyed. A
//! restored backup has the key back and cannot be served from unseen. The file lies outside the
//! database, and a line that was not written with a master key says nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::crypto::KeyProvider;
use crate::domain::canonical::Encoder;
use crate::domain::ids::{GdprRequestId, SubjectKeyId, TenantId};

use super::line_file::{Line, LineFile, LineFileError};

/// The decision about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErasureDecision {
    /// The key is destroyed.
    Erased,
    /// The key is kept after all: a failure, and then a legal hold, followed an earlier line.
    Kept,
}

/// The content of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erasure {
    /// The tenant of the key.
    pub tenant: TenantId,
    /// The id of the subject key.
    pub subject: SubjectKeyId,
    /// The request that the decision belongs to.
    pub request: GdprRequestId,
    /// The time of the decision.
    pub at: DateTime<Utc>,
    /// The decision about the key.
    pub verdict: ErasureDecision,
}

impl Erasure {
    fn canonical(&self) -> Vec<u8> {
        let Self { tenant, subject, request, at, verdict } = self;
        let mut out = Encoder::new("ai-cache erasure ledger line 1");
        out.bytes(tenant.0.as_bytes()).bytes(subject.0.as_bytes()).bytes(request.0.as_bytes());
        out.i64(at.timestamp_micros()).tag(match verdict {
            ErasureDecision::Erased => 1,
            ErasureDecision::Kept => 2,
        });
        out.finish()
    }
}

/// A line as it stands in the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    tenant_id: TenantId,
    subject_key_id: SubjectKeyId,
    request_id: GdprRequestId,
    at: DateTime<Utc>,
    verdict: ErasureDecision,
    /// The id of the master key that the key of the MAC is derived from.
    key_id: String,
    #[serde(with = "hex::serde")]
    mac: [u8; 32],
}

impl From<&Written> for Erasure {
    fn from(line: &Written) -> Self {
        Self {
            tenant: line.tenant_id,
            subject: line.subject_key_id,
            request: line.request_id,
            at: line.at,
            verdict: line.verdict,
        }
    }
}

/// The content of the file.
#[derive(Debug, Clone, Default)]
pub struct Read {
    /// The number of lines that this installation wrote.
    pub lines: u64,
    /// The number of lines that are torn, or that were not written with a known master key.
    pub unreadable: u64,
    /// The last line of each key.
    pub last: BTreeMap<(TenantId, SubjectKeyId), Erasure>,
}

impl Read {
    /// Returns the last line of each key that is destroyed.
    pub fn erased(&self) -> impl Iterator<Item = &Erasure> {
        self.last.values().filter(|erasure| erasure.verdict == ErasureDecision::Erased)
    }
}

/// The file of erasures.
#[derive(Debug, Clone)]
pub struct ErasureLedger {
    file: LineFile,
    keys: Arc<KeyProvider>,
}

impl ErasureLedger {
    /// Returns the file at `path`. The master keys in `keys` tell which lines are genuine.
    pub const fn new(path: PathBuf, keys: Arc<KeyProvider>) -> Self {
        Self { file: LineFile::new("AI_CACHE_ERASURE_LEDGER_FILE", path), keys }
    }

    /// Returns whether the file exists.
    pub fn exists(&self) -> Result<bool, LineFileError> {
        self.file.exists()
    }

    /// Makes the file if it does not exist.
    pub fn touch(&self) -> Result<(), LineFileError> {
        self.file.touch()
    }

    /// Adds lines to the file, which must be there, and waits until the disk has them.
    pub fn append(&self, erasures: &[Erasure]) -> Result<(), LineFileError> {
        let key = self.keys.erasure_mac_key();
        let key_id = self.keys.active_id().as_str();
        self.file.append(erasures.iter().map(|erasure| Written {
            tenant_id: erasure.tenant,
            subject_key_id: erasure.subject,
            request_id: erasure.request,
            at: erasure.at,
            verdict: erasure.verdict,
            key_id: key_id.to_owned(),
            mac: key.mac(&erasure.canonical()),
        }))
    }

    /// Reads the whole file.
    pub fn read(&self) -> Result<Read, LineFileError> {
        let mut read = Read::default();
        for line in self.file.lines()? {
            match self.judge(&line?) {
                Some(erasure) => {
                    read.lines += 1;
                    read.last.insert((erasure.tenant, erasure.subject), erasure);
                }
                None => read.unreadable += 1,
            }
        }
        Ok(read)
    }

    fn judge(&self, line: &Line<Written>) -> Option<Erasure> {
        let Line::Whole(written) = line else { return None };
        let erasure = Erasure::from(written);
        let key = self.keys.find_erasure_mac_key(&written.key_id)?;
        key.verifies(&[&erasure.canonical()], &written.mac).then_some(erasure)
    }
}
