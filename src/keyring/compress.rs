//! Compression before sealing. One byte in front says whether it was worth it. Contexts are kept
//! per thread: making one costs more than using it on a small answer.

use std::cell::RefCell;

use super::KeyringError;

/// Shorter texts are left as they are: unpacking one costs as much as deriving its key.
const THRESHOLD: usize = 4_096;

/// Nothing longer is ever sealed, so nothing longer is unpacked.
const MAX_UNPACKED: usize = 32 * 1024 * 1024;

const LEVEL: i32 = 1;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

thread_local! {
    static PACKER: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The form that is sealed: compressed when that is shorter.
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

/// The text again.
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
