//! The form of a sealed answer in Redis: fixed fields, the prefixes of the labels, a MAC over these
//! and the place, then the sealed bytes. It names no tenant and no key, because those are the
//! reader's own. A lying Redis can hide a value or show an older one, and nothing else.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use chrono::DateTime;
use uuid::Uuid;

use crate::crypto::Sealed;
use crate::domain::candidate::LabelPrefixes;
use crate::domain::entry::{EntryMeta, Place};
use crate::domain::ids::{EntryId, SubjectKeyId};
use crate::domain::money::{Usage, Usd};
use crate::domain::operation::Operation;
use crate::domain::selector::{Generation, Position};

use super::{StoredAnswer, WarmName};

const FORMAT: u8 = 2;
const FIXED: usize = 1 + 16 + 1 + 16 + 1 + 4 + 8 + 8 + 8 + 4 + 4 + 8 + 8 + 2;
const MAC: usize = 32;

/// The position of a value that is proven as far as its reader is.
const NEWEST: Position = Position(i64::MAX);

/// The count of labels that means that the labels are not known.
const UNKNOWN: u16 = u16::MAX;

/// Returns the bytes to store.
pub(super) fn encode(name: &WarmName<'_>, stored: &StoredAnswer) -> Bytes {
    let StoredAnswer { place, meta, labels, answer, position } = stored;
    let (count, prefixes): (u16, &[u64]) = match labels {
        LabelPrefixes::Known(prefixes) => match u16::try_from(prefixes.len()) {
            Ok(count) if count != UNKNOWN => (count, prefixes),
            _ => (UNKNOWN, &[]),
        },
        LabelPrefixes::Unknown => (UNKNOWN, &[]),
    };
    let head = FIXED + size_of_val(prefixes);
    let mut out = BytesMut::with_capacity(head + MAC + answer.as_bytes().len());
    out.put_u8(FORMAT);
    out.put_slice(meta.id.0.as_bytes());
    out.put_u8(u8::from(meta.subject_key.is_some()));
    out.put_slice(meta.subject_key.map_or(Uuid::nil(), |id| id.0).as_bytes());
    out.put_u8(u8::try_from(meta.operation.index()).unwrap_or(u8::MAX));
    out.put_i32(meta.key_version);
    out.put_i64(place.generation.0);
    out.put_i64(meta.created_at.timestamp_micros());
    out.put_i64(meta.expires_at.timestamp_micros());
    out.put_u32(meta.usage.prompt_tokens);
    out.put_u32(meta.usage.completion_tokens);
    out.put_u64(meta.cost.0);
    out.put_i64(position.0);
    out.put_u16(count);
    for prefix in prefixes {
        out.put_u64(*prefix);
    }
    let proof = name.mac.mac_parts(&bound(&name.era.to_be_bytes(), place, &out));
    out.put_slice(&proof);
    out.put_slice(answer.as_bytes());
    out.freeze()
}

/// Returns the parts that the MAC is made over. They have fixed lengths, but for a head that tells
/// its own length.
fn bound<'a>(era: &'a [u8; 8], place: &'a Place, head: &'a [u8]) -> [&'a [u8]; 4] {
    [era, place.tenant.0.as_bytes(), &place.key.0, head]
}

/// Reads the answer for a reader at `place`. Returns `None` if the bytes have no known form. Bytes
/// with the form but without a right MAC give an answer that does not open, so that it is recorded
/// and removed like every value that does not open.
pub(super) fn decode(name: &WarmName<'_>, place: &Place, mut bytes: Bytes) -> Option<StoredAnswer> {
    let head = head_length(&bytes).filter(|head| bytes.len() >= head + MAC)?;
    let (proven, rest) = bytes.split_at(head);
    let era = name.era.to_be_bytes();
    let is_authentic = name.mac.verifies(&bound(&era, place, proven), &rest[..MAC]);
    bytes.advance(1);
    let id = EntryId(Uuid::from_u128(bytes.get_u128()));
    let private = bytes.get_u8() == 1;
    let subject = Uuid::from_u128(bytes.get_u128());
    let operation = *Operation::ALL.get(usize::from(bytes.get_u8()))?;
    let key_version = bytes.get_i32();
    let generation = Generation(bytes.get_i64());
    let created_at = DateTime::from_timestamp_micros(bytes.get_i64())?;
    let expires_at = DateTime::from_timestamp_micros(bytes.get_i64())?;
    let usage = Usage { prompt_tokens: bytes.get_u32(), completion_tokens: bytes.get_u32() };
    // Records hold no larger cost, and the cost that is read here is recorded before the answer
    // opens.
    let cost = Some(Usd(bytes.get_u64())).filter(|cost| i64::try_from(cost.0).is_ok())?;
    let position = Position(bytes.get_i64());
    let count = bytes.get_u16();
    let labels = match count {
        UNKNOWN => LabelPrefixes::Unknown,
        count => LabelPrefixes::Known((0..count).map(|_| bytes.get_u64()).collect()),
    };
    bytes.advance(MAC);
    let subject_key = private.then_some(SubjectKeyId(subject));
    let meta =
        EntryMeta { id, operation, subject_key, key_version, created_at, expires_at, usage, cost };
    if !is_authentic {
        let (labels, answer) = (LabelPrefixes::Known([].into()), Sealed::from_bytes(Bytes::new()));
        return Some(StoredAnswer { place: *place, meta, labels, answer, position: NEWEST });
    }
    let (place, answer) = (Place { generation, ..*place }, Sealed::from_bytes(bytes));
    Some(StoredAnswer { place, meta, labels, answer, position })
}

/// Returns the length of the fields and labels. Returns `None` if the bytes are too short.
fn head_length(bytes: &[u8]) -> Option<usize> {
    let fixed = bytes.get(..FIXED).filter(|fixed| fixed[0] == FORMAT)?;
    let count = u16::from_be_bytes([fixed[FIXED - 2], fixed[FIXED - 1]]);
    let labels = if count == UNKNOWN { 0 } else { usize::from(count) };
    Some(FIXED + labels * size_of::<u64>())
}
