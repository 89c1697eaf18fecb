//! The canonical, length-prefixed encoding under every key, hash and bound context: two different
//! values never give the same bytes. Changing it changes every cache key and every record's hash.

/// Appends values so that the whole can be read back in one way only: fixed-width numbers are
/// big-endian, everything else carries its length, optional values a presence byte.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// Starts with a label that keeps encodings made for different purposes apart.
    pub fn new(label: &str) -> Self {
        let mut encoder = Self { bytes: Vec::with_capacity(256) };
        encoder.text(label);
        encoder
    }

    /// One byte, for tags of alternatives.
    pub fn tag(&mut self, tag: u8) -> &mut Self {
        self.bytes.push(tag);
        self
    }

    /// A number, 8 bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A signed number, 8 bytes.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Bytes behind their length.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.u64(value.len() as u64);
        self.bytes.extend_from_slice(value);
        self
    }

    /// Text behind its length in bytes.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// A value that may be absent; absent and empty differ.
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

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// What was written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}
