//! Names of master and wrapping keys, and why keys cannot be had.

use std::path::PathBuf;

use super::CryptoError;

/// How names of wrapping keys begin.
pub(super) const WRAPPING: &str = "wrap-";

/// Names a master key or a wrapping key: 1 to 16 of `a-z`, `0-9`, `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MasterKeyId(String);

impl MasterKeyId {
    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        ((1..=16).contains(&text.len()) && text.bytes().all(allowed)).then(|| Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number in a wrapping key's name.
    pub fn wrapping_number(&self) -> Option<u64> {
        self.0.strip_prefix(WRAPPING)?.parse().ok()
    }

    /// Whether it is a wrapping key's.
    pub fn is_wrapping(&self) -> bool {
        self.0.starts_with(WRAPPING)
    }
}

/// Why master keys cannot be had. One line each.
#[derive(Debug, thiserror::Error)]
pub enum KeyProviderError {
    /// The file cannot be read or made.
    #[error("the master key file {} cannot be {verb}: {}", path.display(), source.kind())]
    File {
        /// Where.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Others than its owner can read the file.
    #[error("the master key file {} has mode {mode:04o}; it must be 0600", path.display())]
    FileMode {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The text is not a list of keys.
    #[error(
        "master keys must be written id:base64 of 32 bytes, separated by commas or lines, one of them \
         with an id that does not begin with wrap-"
    )]
    Malformed,
    /// Another process changes the file.
    #[error("the master key file {} is being changed by another process", .0.display())]
    Busy(PathBuf),
    /// No random bytes for a new key.
    #[error("no master key could be made")]
    Crypto(#[from] CryptoError),
}
