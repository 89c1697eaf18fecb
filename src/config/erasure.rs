//! Where erasures are kept outside the database.

use std::path::PathBuf;

use super::reader::Reader;

/// The erasure ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureConfig {
    /// Where each destroyed key is told of before it is destroyed; `None`: nowhere.
    pub ledger_file: Option<PathBuf>,
}

impl ErasureConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { ledger_file: reader.text("AI_CACHE_ERASURE_LEDGER_FILE").map(PathBuf::from) }
    }
}
