//! Owns the ids of master and wrapping keys, and the errors of reading, making and changing keys.

use std::path::PathBuf;

use super::CryptoError;

/// The beginning of the id of each wrapping key.
pub(super) const WRAPPING: &str = "wrap-";

/// The id of a master key or a wrapping key: 1 to 16 of `a-z`, `0-9` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MasterKeyId(String);

impl MasterKeyId {
    /// Reads an id. Returns `None` if its length or a character is not allowed.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        ((1..=16).contains(&text.len()) && text.bytes().all(allowed)).then(|| Self(text.to_owned()))
    }

    /// Returns the text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the number in the id of a wrapping key. Returns `None` if the id is a master key's,
    /// or has no number.
    pub fn wrapping_number(&self) -> Option<u64> {
        self.0.strip_prefix(WRAPPING)?.parse().ok()
    }

    /// Returns whether the id is a wrapping key's.
    pub fn is_wrapping(&self) -> bool {
        self.0.starts_with(WRAPPING)
    }
}

/// The reason why keys cannot be read, made or changed. Each message is one line.
#[derive(Debug, thiserror::Error)]
pub enum KeyProviderError {
    /// The key file cannot be found, locked, read, made or written.
    #[error("the master key file {} cannot be {verb}: {}", path.display(), source.kind())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The action that failed, as a participle such as "read".
        verb: &'static str,
        /// The cause of the failure.
        source: std::io::Error,
    },
    /// Somebody other than its owner may use the file.
    #[error("the master key file {} has mode {mode:04o}; it must be 0600", path.display())]
    FileMode {
        /// The path of the file.
        path: PathBuf,
        /// The permission bits of the file.
        mode: u32,
    },
    /// The text is no list of keys with at least one master key.
    #[error(
        "master keys must be written id:base64 of 32 bytes, separated by commas or lines, one of them \
         with an id that does not begin with wrap-"
    )]
    Malformed,
    /// Another process is changing the file.
    #[error("the master key file {} is being changed by another process", .0.display())]
    Busy(PathBuf),
    /// The operating system gave no random bytes for a new key.
    #[error("no master key could be made")]
    Crypto(#[from] CryptoError),
}
