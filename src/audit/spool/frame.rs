//! A batch as it stands in a segment: its length, its CRC-32C, its records as JSON.

use crate::store::audit::StampedRecord;

/// Length and CRC, 4 bytes each, little-endian.
const HEAD: usize = 8;

/// What every batch's JSON begins with: an array of objects.
const BEGINNING: &[u8] = b"[{";

/// What stands at the beginning of some bytes of a segment.
pub(in crate::audit) enum Frame {
    /// A batch, and the bytes it takes.
    Batch(Vec<StampedRecord>, usize),
    /// Nothing.
    End,
    /// The beginning of a batch whose writing was cut off, and nothing behind it. Nobody was answered
    /// for it.
    Torn,
    /// Something that is no batch and may have been one, and the bytes up to the next batch or the
    /// end.
    Damaged(usize),
}

/// The bytes of a batch.
pub(super) fn encode(rows: &[StampedRecord]) -> Result<Vec<u8>, serde_json::Error> {
    let mut frame = Vec::with_capacity(HEAD + rows.len() * 1_024);
    frame.extend_from_slice(&[0; HEAD]);
    serde_json::to_writer(&mut frame, rows)?;
    // A batch is a thousand records of a few hundred bytes.
    let length = u32::try_from(frame.len() - HEAD).unwrap_or(u32::MAX);
    let crc = crc32c::crc32c(&frame[HEAD..]);
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..HEAD].copy_from_slice(&crc.to_le_bytes());
    Ok(frame)
}

/// Reads what stands first.
pub(in crate::audit) fn decode(bytes: &[u8]) -> Frame {
    if bytes.is_empty() {
        return Frame::End;
    }
    if let Some((rows, length)) = batch(bytes) {
        return Frame::Batch(rows, length);
    }
    // The length itself may be what is damaged, so it does not say where the next batch is.
    let next = (1..bytes.len()).find(|at| batch(&bytes[*at..]).is_some());
    match next {
        Some(at) => Frame::Damaged(at),
        None if is_cut_off(bytes) => Frame::Torn,
        None => Frame::Damaged(bytes.len()),
    }
}

/// The whole batch that stands first, and the bytes it takes.
fn batch(bytes: &[u8]) -> Option<(Vec<StampedRecord>, usize)> {
    let (length, crc, rest) = head(bytes)?;
    let payload = rest.get(..length)?;
    // Cheap before the sum is made: this is asked at every byte behind a damaged batch.
    let whole = payload.starts_with(BEGINNING) && crc32c::crc32c(payload) == crc;
    let rows = whole.then(|| serde_json::from_slice(payload).ok()).flatten()?;
    Some((rows, HEAD + length))
}

/// Whether this is less than it says it is, or the zeros that a file may end in after a crash. What is
/// all there and no batch may have been one, or be one of another release.
fn is_cut_off(bytes: &[u8]) -> bool {
    let shorter = head(bytes).is_none_or(|(length, _, rest)| length > rest.len());
    shorter || bytes.iter().all(|byte| *byte == 0)
}

/// Length and CRC, and what is behind them.
fn head(bytes: &[u8]) -> Option<(usize, u32, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (crc, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    Some((length, u32::from_le_bytes(*crc), rest))
}
