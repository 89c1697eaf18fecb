//! Bearer tokens: what is handed out is read back, and nothing else is.

use ai_cache::domain::ids::TokenId;
use ai_cache::domain::token::BearerToken;
use proptest::prelude::*;
use rstest::rstest;
use uuid::Uuid;

fn token() -> BearerToken {
    BearerToken::new(TokenId(Uuid::from_bytes([0xab; 16])), [0x5c; 32])
}

proptest! {
    #[test]
    fn a_revealed_token_is_read_back(id in any::<[u8; 16]>(), random in any::<[u8; 32]>()) {
        let token = BearerToken::new(TokenId(Uuid::from_bytes(id)), random);
        let read = BearerToken::parse(&token.reveal()).unwrap();
        prop_assert_eq!(read.id, token.id);
        prop_assert_eq!(read.secret(), &random);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>(), tail in "[_a-zA-Z0-9-]{0,100}") {
        prop_assert!(BearerToken::parse(&text).is_none());
        let prefixed = format!("aic_{tail}");
        prop_assert!(BearerToken::parse(&prefixed).is_none());
    }

    #[test]
    fn two_characters_in_each_others_place_are_refused(
        random in any::<[u8; 32]>(),
        place in 37_usize..84,
    ) {
        let text = BearerToken::new(token().id, random).reveal().to_string();
        let mut swapped = text.clone().into_bytes();
        swapped.swap(place, place + 1);
        let swapped = String::from_utf8(swapped).unwrap();
        prop_assert!(swapped == text || BearerToken::parse(&swapped).is_none());
    }
}

#[test]
fn any_one_character_changed_is_refused() {
    let text = token().reveal().to_string();
    assert_eq!(text.len(), 85);
    let mut tried = 0;
    for place in 0..text.len() {
        for other in b' '..=b'~' {
            let mut changed = text.clone().into_bytes();
            if changed[place] != other {
                changed[place] = other;
                let changed = String::from_utf8(changed).unwrap();
                assert!(BearerToken::parse(&changed).is_none(), "{place}: {other}");
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 85 * 94);
}

#[test]
fn a_token_cut_or_lengthened_is_refused() {
    let text = token().reveal().to_string();
    for length in 0..text.len() {
        assert!(BearerToken::parse(&text[..length]).is_none(), "{length}");
    }
    for more in [" ", "=", "A", "\n"] {
        assert!(BearerToken::parse(&format!("{text}{more}")).is_none());
        assert!(BearerToken::parse(&format!("{more}{text}")).is_none());
    }
}

#[rstest]
#[case("")]
#[case("aic")]
#[case("aic__")]
#[case("Bearer aic_x_y")]
#[case("aic_abababab-abab-abab-abab-abababababab_x")]
fn what_is_no_token_is_refused(#[case] text: &str) {
    assert!(BearerToken::parse(text).is_none());
}

#[test]
fn debug_output_holds_no_secret() {
    let shown = format!("{:?}", token());
    assert!(shown.contains("[redacted]"));
    let text = token().reveal().to_string();
    let secret = text.splitn(3, '_').nth(2).unwrap();
    assert!(!shown.contains(secret) && !shown.contains("92, 92") && !shown.contains("5c5c"));
}
