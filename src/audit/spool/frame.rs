//! Encodes and decodes a batch of a segment: its length, its CRC-32C, and its records as JSON.

use crate::store::audit::StampedRecord;

/// The size of a batch's head: length and CRC, 4 bytes each, little-endian.
const HEAD: usize = 8;

/// The beginning of every batch's JSON: an array of objects.
const BEGINNING: &[u8] = b"[{";

/// The result of decoding the beginning of some bytes of a segment.
pub(in crate::audit) enum Frame {
    /// A batch, and the number of bytes that it takes.
    Batch(Vec<StampedRecord>, usize),
    /// There are no bytes left.
    End,
    /// The beginning of a batch whose writing was cut off, with nothing after it. No caller was
    /// answered for it.
    Torn,
    /// Bytes that are no batch but may have been one. The number says how many bytes there are up
    /// to the next batch or the end.
    Damaged(usize),
}

/// Encodes records as one batch.
pub(super) fn encode(rows: &[StampedRecord]) -> Result<Vec<u8>, serde_json::Error> {
    let mut frame = Vec::with_capacity(HEAD + rows.len() * 1_024);
    frame.extend_from_slice(&[0; HEAD]);
    serde_json::to_writer(&mut frame, rows)?;
    // A batch has at most a thousand records of a few hundred bytes, so its length fits.
    let length = u32::try_from(frame.len() - HEAD).unwrap_or(u32::MAX);
    let crc = crc32c::crc32c(&frame[HEAD..]);
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..HEAD].copy_from_slice(&crc.to_le_bytes());
    Ok(frame)
}

/// Decodes the frame at the beginning of the bytes.
pub(in crate::audit) fn decode(bytes: &[u8]) -> Frame {
    if bytes.is_empty() {
        return Frame::End;
    }
    if let Some((rows, length)) = batch(bytes) {
        return Frame::Batch(rows, length);
    }
    // The length itself may be damaged, so it does not say where the next batch is.
    let next = (1..bytes.len()).find(|at| batch(&bytes[*at..]).is_some());
    match next {
        Some(at) => Frame::Damaged(at),
        None if is_cut_off(bytes) => Frame::Torn,
        None => Frame::Damaged(bytes.len()),
    }
}

/// Returns the batch that the bytes begin with, and the number of bytes that it takes. Returns
/// `None` if they begin with no whole batch.
fn batch(bytes: &[u8]) -> Option<(Vec<StampedRecord>, usize)> {
    let (length, crc, rest) = head(bytes)?;
    let payload = rest.get(..length)?;
    // This check is cheap and comes before the checksum, because `decode` calls `batch` for every
    // byte after a damaged batch.
    let whole = payload.starts_with(BEGINNING) && crc32c::crc32c(payload) == crc;
    let rows = whole.then(|| serde_json::from_slice(payload).ok()).flatten()?;
    Some((rows, HEAD + length))
}

/// Returns whether there are fewer bytes than the head says, or only the zeros that a file may end
/// in after a crash. Bytes that are all there and are no batch may have been one, or may be a batch
/// of another release.
fn is_cut_off(bytes: &[u8]) -> bool {
    let shorter = head(bytes).is_none_or(|(length, _, rest)| length > rest.len());
    shorter || bytes.iter().all(|byte| *byte == 0)
}

/// Returns the length, the CRC, and the bytes after them. Returns `None` if the head is cut off.
fn head(bytes: &[u8]) -> Option<(usize, u32, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (crc, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    Some((length, u32::from_le_bytes(*crc), rest))
}
