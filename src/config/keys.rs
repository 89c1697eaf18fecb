//! Owns the setting of where the master keys and wrapping keys are. It never keeps a key in a file.

use std::collections::BTreeSet;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::reader::Reader;
use super::secret::SecretText;

/// The place of the master keys and wrapping keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysConfig {
    /// The keys are in the environment, as `id:base64,…`.
    Text(SecretText),
    /// The keys are in this file.
    File(PathBuf),
    /// The keys are in a file in the data folder, which is made if it is missing. Only an
    /// installation with the embedded database may use it.
    DataFolder,
}

/// Checks keys by the rules of `crypto`, so that a fault is reported together with all other faults
/// of the settings. Returns `None` if a key breaks a rule.
fn parse_keys(text: &str) -> Option<SecretText> {
    let mut ids = BTreeSet::new();
    for item in text.split([',', '\n']).map(str::trim).filter(|item| !item.is_empty()) {
        let (id, encoded) = item.split_once(':')?;
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let named = (1..=16).contains(&id.len()) && id.bytes().all(allowed);
        let key = Zeroizing::new(STANDARD.decode(encoded).ok()?);
        if !named || key.len() != 32 || !ids.insert(id) {
            return None;
        }
    }
    // Wrapping keys wrap the keys of persons and nothing else, so one key must be a master key.
    let has_master = ids.iter().any(|id| !id.starts_with("wrap-"));
    has_master.then(|| SecretText::new(text))
}

impl KeysConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let rule = "id:base64 of 32 bytes, several separated by commas, each with an id of its own \
                    of 1 to 16 of a-z, 0-9 and -, one not beginning with wrap-";
        let text = reader.parsed("AI_CACHE_MASTER_KEYS", rule, parse_keys);
        let file = reader.text("AI_CACHE_MASTER_KEY_FILE");
        if reader.is_set("AI_CACHE_MASTER_KEYS") && reader.is_set("AI_CACHE_MASTER_KEY_FILE") {
            let rule = "and AI_CACHE_MASTER_KEYS are both set; only one may be";
            reader.refuse("AI_CACHE_MASTER_KEY_FILE", rule);
        }
        match (text, file) {
            (Some(text), _) => Self::Text(text),
            (None, Some(file)) => Self::File(PathBuf::from(file)),
            (None, None) => Self::DataFolder,
        }
    }
}
