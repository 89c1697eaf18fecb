//! An entry is opened for a receipt only.

use ai_cache::crypto::Sealed;
use ai_cache::domain::entry::{EntryMeta, Place, SealedField};
use ai_cache::keyring::EntryKey;

fn read(key: &EntryKey, place: &Place, meta: &EntryMeta, sealed: &Sealed) {
    let _answer = key.open((), place, meta, SealedField::Answer, sealed); //~ E0308
}

fn main() {}
