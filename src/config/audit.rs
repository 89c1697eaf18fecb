//! Where audit records wait while Postgres is down, and how many; where seals are kept outside.

use std::path::PathBuf;

use chrono::TimeDelta;

use super::reader::Reader;

/// The spool and the checkpoint file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// Its folder; `None`: `spool` in the data folder.
    pub spool_dir: Option<PathBuf>,
    /// Most bytes in it.
    pub spool_max_bytes: u64,
    /// Longest time a record may wait in it before more are refused.
    pub spool_max_age: TimeDelta,
    /// Where each seal of the trail is kept outside the database; `None`: nowhere.
    pub checkpoint_file: Option<PathBuf>,
}

impl AuditConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let megabytes = reader.number("AI_CACHE_AUDIT_SPOOL_MAX_MB", 1..=65_536, 256);
        let minutes = reader.number("AI_CACHE_AUDIT_SPOOL_MAX_MINUTES", 1..=1_440, 15);
        Self {
            spool_dir: reader.text("AI_CACHE_AUDIT_SPOOL_DIR").map(PathBuf::from),
            spool_max_bytes: megabytes * 1024 * 1024,
            spool_max_age: TimeDelta::minutes(i64::try_from(minutes).unwrap_or(15)),
            checkpoint_file: reader.text("AI_CACHE_AUDIT_CHECKPOINT_FILE").map(PathBuf::from),
        }
    }
}
