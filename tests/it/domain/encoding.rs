//! The canonical encoding is injective: bytes can be read back in one way only.

use ai_cache::domain::canonical::Encoder;
use ai_cache::domain::decimal::Decimal;
use ai_cache::domain::json::Json;
use proptest::prelude::*;

fn encoded(value: &Json) -> Vec<u8> {
    let mut out = Encoder::new("test");
    value.encode(&mut out);
    out.finish()
}

/// Any JSON value over small alphabets, so that two of them are often nearly or wholly the same.
fn any_json() -> impl Strategy<Value = Json> {
    let number = (-20_i64..20, -3_i32..4).prop_map(|(digits, exponent)| {
        Json::Number(Decimal::parse(&format!("{digits}e{exponent}")).unwrap())
    });
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        number,
        "[ab\u{0}]{0,3}".prop_map(Json::Text),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            prop::collection::btree_map("[ab]{0,2}", inner, 0..4).prop_map(Json::Object),
        ]
    })
}

proptest! {
    #[test]
    fn two_values_have_the_same_bytes_exactly_when_they_are_equal(
        one in any_json(),
        other in any_json(),
    ) {
        prop_assert_eq!(encoded(&one) == encoded(&other), one == other);
    }

    #[test]
    fn no_encoding_is_the_beginning_of_another(one in any_json(), other in any_json()) {
        let (first, second) = (encoded(&one), encoded(&other));
        prop_assert!(one == other || !first.starts_with(&second));
    }

    #[test]
    fn a_value_written_as_json_is_read_back_the_same(value in any_json()) {
        let text = serde_json::to_vec(&value).unwrap();
        let read = Json::parse(&text).unwrap();
        prop_assert_eq!(encoded(&read), encoded(&value));
    }

    #[test]
    fn texts_do_not_run_into_each_other(
        one in prop::collection::vec("[ab]{0,3}", 0..4),
        other in prop::collection::vec("[ab]{0,3}", 0..4),
    ) {
        let write = |texts: &[String]| {
            let mut out = Encoder::new("test");
            for text in texts {
                out.text(text);
            }
            out.finish()
        };
        prop_assert_eq!(write(&one) == write(&other), one == other);
    }
}

#[test]
fn absent_empty_and_zero_are_three_things() {
    let write = |value: Option<&str>| {
        let mut out = Encoder::new("test");
        out.option(value, |out, text| {
            out.text(text);
        });
        out.finish()
    };
    assert_ne!(write(None), write(Some("")));
    assert_ne!(write(Some("")), write(Some("\0")));
}

#[test]
fn encodings_for_two_purposes_differ() {
    assert_ne!(Encoder::new("a").finish(), Encoder::new("b").finish());
    let mut out = Encoder::new("a");
    out.text("b");
    assert_ne!(out.finish(), Encoder::new("ab").finish());
}
