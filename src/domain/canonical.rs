//! Owns the canonical, length-prefixed encoding under every key, hash and bound context. Two
//! different values never give the same bytes. The encoding must never change, because every cache
//! key and the hash of every record would change with it.

/// Appends values so that the whole can be read back in one way only. Numbers are big-endian and of
/// fixed width, an optional value begins with a presence byte, and everything else begins with its
/// length.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// Begins an encoding with a label, which keeps encodings for different purposes apart.
    pub fn new(label: &str) -> Self {
        let mut encoder = Self { bytes: Vec::with_capacity(256) };
        encoder.text(label);
        encoder
    }

    /// Appends one byte that tags an alternative.
    pub fn tag(&mut self, tag: u8) -> &mut Self {
        self.bytes.push(tag);
        self
    }

    /// Appends a number of 8 bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends a signed number of 8 bytes.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends bytes behind their length.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.u64(value.len() as u64);
        self.bytes.extend_from_slice(value);
        self
    }

    /// Appends text behind its length in bytes.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// Appends a value that may be absent. An absent value and an empty one differ.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) -> &mut Self {
        match value {
            None => self.tag(0),
            Some(value) => {
                self.tag(1);
                write(self, value);
                self
            }
        }
    }

    /// Returns the bytes that were written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns the bytes that were written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}
