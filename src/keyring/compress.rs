//! Compresses texts before they are sealed. One byte in front says whether a text is compressed.
//! Contexts are kept per thread, because making one costs more than using it on a small answer.

use std::cell::RefCell;

use super::KeyringError;

/// The length below which a text is left as it is: unpacking it would cost as much as deriving its
/// key.
const THRESHOLD: usize = 4_096;

/// The longest text that is unpacked. Nothing longer is ever sealed.
const MAX_UNPACKED: usize = 32 * 1024 * 1024;

const LEVEL: i32 = 1;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

thread_local! {
    static PACKER: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Returns the form that is sealed: the compressed text if it is shorter, else the text.
pub(super) fn pack(text: &[u8]) -> Vec<u8> {
    let compressed = if text.len() < THRESHOLD { None } else { compress(text) };
    let (form, bytes) = match &compressed {
        Some(bytes) if bytes.len() < text.len() => (ZSTD, bytes.as_slice()),
        _ => (PLAIN, text),
    };
    let mut packed = Vec::with_capacity(1 + bytes.len());
    packed.push(form);
    packed.extend_from_slice(bytes);
    packed
}

/// Returns the text of a packed form.
pub(super) fn unpack(packed: &[u8]) -> Result<Vec<u8>, KeyringError> {
    match packed.split_first() {
        Some((&PLAIN, text)) => Ok(text.to_vec()),
        Some((&ZSTD, bytes)) => decompress(bytes).ok_or(KeyringError::Malformed),
        _ => Err(KeyringError::Malformed),
    }
}

fn compress(text: &[u8]) -> Option<Vec<u8>> {
    PACKER.with_borrow_mut(|packer| {
        if packer.is_none() {
            *packer = zstd::bulk::Compressor::new(LEVEL).ok();
        }
        packer.as_mut()?.compress(text).ok()
    })
}

fn decompress(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = zstd::zstd_safe::get_frame_content_size(bytes).ok().flatten()?;
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_UNPACKED)?;
    UNPACKER.with_borrow_mut(|unpacker| {
        if unpacker.is_none() {
            *unpacker = zstd::bulk::Decompressor::new().ok();
        }
        unpacker.as_mut()?.decompress(bytes, length).ok()
    })
}
