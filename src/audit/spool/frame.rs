//! A batch as it stands in a segment: its length, its CRC-32C, its records as JSON.

use crate::store::audit::StampedRecord;

/// Length and CRC, 4 bytes each, little-endian.
const HEAD: usize = 8;

/// What stands at the beginning of some bytes of a segment.
pub(in crate::audit) enum Frame {
    /// A batch, and the bytes it takes.
    Batch(Vec<StampedRecord>, usize),
    /// Nothing.
    End,
    /// The beginning of a batch whose writing was cut off. Nobody was answered for it.
    Torn,
    /// Something that is no batch, the bytes it says it takes, and more behind it.
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
    let Some((head, rest)) = bytes.split_at_checked(HEAD) else {
        return if bytes.is_empty() { Frame::End } else { Frame::Torn };
    };
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (length, crc) = (usize::try_from(number(0)).unwrap_or(usize::MAX), number(4));
    // After a crash a file may end in zeros.
    if length == 0 || length > rest.len() {
        return Frame::Torn;
    }
    let (payload, behind) = rest.split_at(length);
    let rows = (crc32c::crc32c(payload) == crc).then(|| serde_json::from_slice(payload).ok());
    match rows.flatten() {
        Some(rows) => Frame::Batch(rows, HEAD + length),
        None if behind.is_empty() => Frame::Torn,
        None => Frame::Damaged(HEAD + length),
    }
}
