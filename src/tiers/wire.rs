//! How a sealed answer is written in Redis: fixed fields, then the sealed bytes. Names no tenant,
//! key or generation: those are the reader's own. What is read is not trusted until it opens, and
//! labels, which opening would not prove, are left out.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use chrono::DateTime;
use uuid::Uuid;

use crate::crypto::Sealed;
use crate::domain::candidate::LabelPrefixes;
use crate::domain::entry::{EntryMeta, Place};
use crate::domain::ids::{EntryId, SubjectKeyId};
use crate::domain::money::{Usage, Usd};
use crate::domain::operation::Operation;
use crate::domain::selector::Position;

use super::StoredAnswer;

const FORMAT: u8 = 1;
const FIXED: usize = 1 + 16 + 1 + 16 + 1 + 4 + 8 + 8 + 4 + 4 + 8 + 8;

/// The bytes to store.
pub(super) fn encode(stored: &StoredAnswer) -> Bytes {
    let StoredAnswer { place: _, meta, labels: _, answer, position } = stored;
    let mut out = BytesMut::with_capacity(FIXED + answer.as_bytes().len());
    out.put_u8(FORMAT);
    out.put_slice(meta.id.0.as_bytes());
    out.put_u8(u8::from(meta.subject_key.is_some()));
    out.put_slice(meta.subject_key.map_or(Uuid::nil(), |id| id.0).as_bytes());
    out.put_u8(u8::try_from(meta.operation.index()).unwrap_or(u8::MAX));
    out.put_i32(meta.key_version);
    out.put_i64(meta.created_at.timestamp_micros());
    out.put_i64(meta.expires_at.timestamp_micros());
    out.put_u32(meta.usage.prompt_tokens);
    out.put_u32(meta.usage.completion_tokens);
    out.put_u64(meta.cost.0);
    out.put_i64(position.0);
    out.put_slice(answer.as_bytes());
    out.freeze()
}

/// The answer for a reader at `place`; `None` when the bytes are of no known form.
pub(super) fn decode(place: &Place, mut bytes: Bytes) -> Option<StoredAnswer> {
    if bytes.len() < FIXED || bytes.get_u8() != FORMAT {
        return None;
    }
    let id = EntryId(Uuid::from_u128(bytes.get_u128()));
    let private = bytes.get_u8() == 1;
    let subject = Uuid::from_u128(bytes.get_u128());
    let operation = *Operation::ALL.get(usize::from(bytes.get_u8()))?;
    let key_version = bytes.get_i32();
    let created_at = DateTime::from_timestamp_micros(bytes.get_i64())?;
    let expires_at = DateTime::from_timestamp_micros(bytes.get_i64())?;
    let usage = Usage { prompt_tokens: bytes.get_u32(), completion_tokens: bytes.get_u32() };
    // Records hold no larger one, and what is read here is recorded before it opens.
    let cost = Some(Usd(bytes.get_u64())).filter(|cost| i64::try_from(cost.0).is_ok())?;
    let position = Position(bytes.get_i64());
    let subject_key = private.then_some(SubjectKeyId(subject));
    let meta =
        EntryMeta { id, operation, subject_key, key_version, created_at, expires_at, usage, cost };
    let (labels, answer) = (LabelPrefixes::Unknown, Sealed::from_bytes(bytes));
    Some(StoredAnswer { place: *place, meta, labels, answer, position })
}
