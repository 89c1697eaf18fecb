//! A sealed value opens under its own key, field, version and bound data, unchanged, and never
//! else.

use ai_cache::crypto::{CryptoError, Key, SealContext, Sealed, Secret, random};
use proptest::prelude::*;

use super::{context, key, opened};

/// format ‖ salt ‖ commitment, then ciphertext ‖ tag.
const HEADER: usize = 1 + 32 + 32;
const TAG: usize = 16;

fn seal(key: &Key, context: &SealContext<'_>, text: &[u8]) -> Sealed {
    Sealed::seal(key, context, text).unwrap()
}

#[test]
fn each_flipped_bit_and_each_changed_byte_refuses_to_open() {
    let (key, context) = (key(1), context(b"bound"));
    let bytes = seal(&key, &context, b"an answer").as_bytes().to_vec();
    assert_eq!(bytes[0], 2, "the present format");
    let mut refused = 0;
    for place in 0..bytes.len() {
        for change in 1..=u8::MAX {
            let mut changed = bytes.clone();
            changed[place] ^= change;
            let changed = Sealed::from_bytes(changed);
            assert!(opened(&changed, &key, &context).is_none(), "byte {place}");
            refused += 1;
        }
    }
    assert_eq!(refused, (HEADER + b"an answer".len() + TAG) * 255);
    let unchanged = Sealed::from_bytes(bytes);
    assert_eq!(opened(&unchanged, &key, &context).unwrap(), b"an answer");
}

#[test]
fn each_cut_and_each_lengthened_value_refuses_to_open() {
    let (key, context) = (key(1), context(b"bound"));
    for text in [&b""[..], b"an answer"] {
        let bytes = seal(&key, &context, text).as_bytes().to_vec();
        for length in 0..bytes.len() {
            for part in [&bytes[..length], &bytes[bytes.len() - length..]] {
                let cut = Sealed::from_bytes(part.to_vec());
                assert!(opened(&cut, &key, &context).is_none(), "{length} bytes");
            }
        }
        let longer = Sealed::from_bytes([&bytes[..], &[0]].concat());
        assert!(opened(&longer, &key, &context).is_none());
    }
}

proptest! {
    #[test]
    fn what_was_sealed_is_what_opens(
        text in prop::collection::vec(any::<u8>(), 0..600),
        bound in prop::collection::vec(any::<u8>(), 0..80),
        field in "[a-z ]{0,20}",
        key_version in any::<i32>(),
        bytes in any::<[u8; 32]>(),
    ) {
        let key = Key::from_slice(&bytes).unwrap();
        let context = SealContext { field: &field, key_version, bound: &bound };
        let sealed = seal(&key, &context, &text);
        prop_assert_eq!(sealed.as_bytes().len(), HEADER + text.len() + TAG);
        let stored = Sealed::from_bytes(sealed.as_bytes().to_vec());
        prop_assert_eq!(opened(&stored, &key, &context), Some(text));
    }

    #[test]
    fn any_change_or_cut_of_any_value_refuses_to_open(
        text in prop::collection::vec(any::<u8>(), 0..600),
        place in any::<prop::sample::Index>(),
        change in 1_u8..,
        length in any::<prop::sample::Index>(),
    ) {
        let (key, context) = (key(1), context(b"bound"));
        let mut bytes = seal(&key, &context, &text).as_bytes().to_vec();
        let cut = Sealed::from_bytes(bytes[..length.index(bytes.len())].to_vec());
        prop_assert!(opened(&cut, &key, &context).is_none());
        let place = place.index(bytes.len());
        bytes[place] ^= change;
        prop_assert!(opened(&Sealed::from_bytes(bytes), &key, &context).is_none());
    }

    #[test]
    fn no_bytes_make_opening_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(opened(&Sealed::from_bytes(bytes), &key(1), &context(b"")).is_none());
    }

    #[test]
    fn the_end_of_one_value_behind_the_head_of_another_refuses_to_open(
        one in prop::collection::vec(any::<u8>(), 0..100),
        other in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let (key, context) = (key(1), context(b"bound"));
        let (one, other) = (seal(&key, &context, &one), seal(&key, &context, &other));
        for cut in [1, 33, HEADER] {
            let mixed = [&one.as_bytes()[..cut], &other.as_bytes()[cut..]].concat();
            // The format byte is the same in both.
            let opens = opened(&Sealed::from_bytes(mixed), &key, &context).is_some();
            prop_assert_eq!(opens, cut == 1);
        }
    }
}

#[test]
fn another_key_field_version_or_binding_refuses_to_open() {
    let right = SealContext { field: "entry answer", key_version: 1, bound: b"tenant and key" };
    let sealed = seal(&key(1), &right, b"an answer");
    let wrong = [
        SealContext { field: "entry question", ..right },
        SealContext { field: "entry answe", ..right },
        SealContext { field: "", ..right },
        SealContext { key_version: 2, ..right },
        SealContext { key_version: 0, ..right },
        SealContext { key_version: i32::MIN, ..right },
        SealContext { bound: b"tenant and ke", ..right },
        SealContext { bound: b"tenant and key\0", ..right },
        SealContext { bound: b"", ..right },
    ];
    for context in wrong {
        let error = sealed.open(&key(1), &context).unwrap_err();
        assert_eq!(error, CryptoError::DoesNotOpen, "{context:?}");
    }
    for other in [key(2), Key::public(), Key::random().unwrap()] {
        let error = sealed.open(&other, &right).unwrap_err();
        assert_eq!(error, CryptoError::DoesNotOpen);
    }
    assert_eq!(opened(&sealed, &key(1), &right).unwrap(), b"an answer");
}

/// AES-GCM alone does not commit to its key; the stored commitment does.
#[test]
fn a_value_sealed_under_one_key_opens_under_no_other() {
    let context = context(b"bound");
    let keys: Vec<Key> = (0..16).map(key).collect();
    let mut opens = 0;
    for sealing in &keys {
        let sealed = seal(sealing, &context, b"an answer");
        opens += keys.iter().filter(|opening| opened(&sealed, opening, &context).is_some()).count();
    }
    assert_eq!(opens, keys.len());
}

/// A blob that carries another key's commitment, so that only the tag could refuse it, and one
/// whose ciphertext is another key's, so that only the commitment could.
#[test]
fn commitment_and_tag_each_refuse_by_themselves() {
    let context = context(b"bound");
    let of = |byte| seal(&key(byte), &context, b"an answer").as_bytes().to_vec();
    let (mine, theirs) = (of(1), of(2));
    let tag_only = [&mine[..HEADER], &theirs[HEADER..]].concat();
    let commitment_only = [&mine[..33], &theirs[33..HEADER], &mine[HEADER..]].concat();
    for mixed in [tag_only, commitment_only] {
        let mixed = Sealed::from_bytes(mixed);
        assert!(opened(&mixed, &key(1), &context).is_none());
        assert!(opened(&mixed, &key(2), &context).is_none());
    }
}

#[test]
fn two_seals_of_one_text_have_nothing_in_common() {
    let (key, context) = (key(1), context(b"bound"));
    let texts = [&b"the same text, long enough"[..]; 2];
    let [one, other] = texts.map(|text| seal(&key, &context, text));
    let (one, other) = (one.as_bytes(), other.as_bytes());
    assert_eq!(one[0], other[0]);
    assert_ne!(one[1..33], other[1..33], "salt");
    assert_ne!(one[33..HEADER], other[33..HEADER], "commitment");
    assert_ne!(one[HEADER..], other[HEADER..], "ciphertext");
    let salts: std::collections::BTreeSet<Vec<u8>> =
        (0..500).map(|_| seal(&key, &context, b"x").as_bytes()[1..33].to_vec()).collect();
    assert_eq!(salts.len(), 500);
}

#[test]
fn random_bytes_differ_each_time() {
    let draws: std::collections::BTreeSet<[u8; 32]> = (0..100).map(|_| random().unwrap()).collect();
    assert_eq!(draws.len(), 100);
}

#[test]
fn a_key_has_32_bytes() {
    for length in [0, 16, 31, 33, 64] {
        assert!(Key::from_slice(&vec![7; length]).is_none(), "{length}");
    }
}

#[test]
fn debug_output_holds_neither_keys_nor_texts() {
    let context = context(b"bound");
    let sealed = seal(&key(77), &context, b"hunter2");
    assert_eq!(format!("{:?}", key(77)), "[redacted]");
    assert_eq!(format!("{sealed:?}"), "Sealed(88 bytes)");
    let secret = Secret::new(b"hunter2".to_vec());
    assert_eq!(format!("{secret:?}"), "[redacted]");
    assert_eq!((secret.len(), secret.is_empty()), (7, false));
}
