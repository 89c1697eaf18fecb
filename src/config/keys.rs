//! Where the master keys are.

use std::path::PathBuf;

use super::reader::Reader;
use super::secret::SecretText;

/// Master keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysConfig {
    /// In the environment, as `id:base64,…`.
    Text(SecretText),
    /// In a file.
    File(PathBuf),
    /// In the data folder, made when it is not there; only with the embedded database.
    DataFolder,
}

impl KeysConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let text = reader.text("AI_CACHE_MASTER_KEYS");
        let file = reader.text("AI_CACHE_MASTER_KEY_FILE");
        match (text, file) {
            (Some(_), Some(_)) => {
                let rule = "and AI_CACHE_MASTER_KEYS are both set; only one may be";
                reader.refuse("AI_CACHE_MASTER_KEY_FILE", rule);
                Self::DataFolder
            }
            (Some(text), None) => Self::Text(SecretText::new(text)),
            (None, Some(file)) => Self::File(PathBuf::from(file)),
            (None, None) => Self::DataFolder,
        }
    }
}
