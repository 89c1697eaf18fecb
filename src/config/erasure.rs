//! Owns the setting of the erasure ledger's file, which lies outside the database.

use std::path::PathBuf;

use super::reader::Reader;

/// The settings of the erasure ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureConfig {
    /// The file that gets a line for each key before the key is destroyed. `None` means that there
    /// is no such file.
    pub ledger_file: Option<PathBuf>,
}

impl ErasureConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { ledger_file: reader.text("AI_CACHE_ERASURE_LEDGER_FILE").map(PathBuf::from) }
    }
}
