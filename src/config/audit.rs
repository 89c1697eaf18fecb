//! Owns the settings of the spool, where audit records wait while Postgres is away, and of the file
//! of checkpoints.

use std::path::PathBuf;

use chrono::TimeDelta;

use super::reader::Reader;

/// The settings of the spool and of the file of checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// The folder of the spool. `None` means `spool` in the data folder.
    pub spool_dir: Option<PathBuf>,
    /// The greatest number of bytes in the spool.
    pub spool_max_bytes: u64,
    /// The longest time that a record may wait in the spool. After it the spool refuses more
    /// records.
    pub spool_max_age: TimeDelta,
    /// The file outside the database that gets a line for each seal of the trail. `None` means that
    /// there is no such file.
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
