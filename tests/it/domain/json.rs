//! Bodies are read strictly: what is not plain JSON of reasonable shape is refused by name, and
//! nothing makes the reader panic.

use ai_cache::domain::fields::Fields;
use ai_cache::domain::json::{Json, JsonError, Object};
use proptest::prelude::*;
use rstest::rstest;

fn parse(text: &str) -> Result<Json, JsonError> {
    Json::parse(text.as_bytes())
}

#[rstest]
#[case("{\"a\":1,\"a\":2}", "a")]
#[case("{\"a\":1,\"\\u0061\":1}", "a")]
#[case("[{\"x\":{\"b\":null,\"c\":1,\"b\":null}}]", "b")]
#[case("{\"\":1,\"\":1}", "")]
#[case(
    "{\"$serde_json::private::Number\":1,\"$serde_json::private::Number\":1}",
    "$serde_json::private::Number"
)]
fn a_key_named_twice_is_refused(#[case] text: &str, #[case] twice: &str) {
    let error = parse(text).unwrap_err();
    assert!(matches!(error, JsonError::DuplicateKey { key, .. } if key == twice));
}

#[rstest]
#[case("[", "]")]
#[case("{\"a\":", "}")]
#[case("{\"$serde_json::private::Number\":", "}")]
fn only_128_levels_are_read(#[case] open: &str, #[case] close: &str) {
    let nested =
        |depth: usize, inner: &str| format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
    for inner in ["1", "1.5", "\"x\"", "null", "1e999"] {
        assert!(parse(&nested(128, inner)).is_ok(), "{inner}");
        for depth in [129, 130, 131, 1_000, 100_000] {
            let error = parse(&nested(depth, inner)).unwrap_err();
            assert_eq!(error, JsonError::TooDeep, "{depth} levels around {inner}");
        }
    }
    let unclosed = open.repeat(100_000);
    assert_eq!(parse(&unclosed).unwrap_err(), JsonError::TooDeep);
}

#[test]
fn a_body_that_is_not_utf8_is_refused_with_the_place() {
    assert_eq!(Json::parse(b"{\"a\":\"\xff\"}").unwrap_err(), JsonError::NotUtf8 { offset: 6 });
    // A surrogate and an overlong slash are no UTF-8 either.
    for bytes in [&b"\"\xed\xa0\x80\""[..], b"\"\xc0\xaf\"", b"\"\xe2\x82"] {
        assert!(matches!(Json::parse(bytes).unwrap_err(), JsonError::NotUtf8 { .. }));
    }
}

#[rstest]
#[case("")]
#[case(" ")]
#[case("{")]
#[case("{}{}")]
#[case("[1,]")]
#[case("{\"a\":1,}")]
#[case("{a:1}")]
#[case("'a'")]
#[case("01")]
#[case("1.")]
#[case(".1")]
#[case("+1")]
#[case("NaN")]
#[case("\"\\ud800\"")]
#[case("\"\u{1}\"")]
#[case("// no\n1")]
#[case("\u{feff}1")]
#[case("{\"$serde_json::private::Number\":}")]
fn what_is_not_json_is_a_syntax_error(#[case] text: &str) {
    assert!(matches!(parse(text).unwrap_err(), JsonError::Syntax { .. }));
}

#[rstest]
#[case("1e1000001")]
#[case("[0.5e-99999999999]")]
#[case("{\"a\":-1e999999999999999999999999}")]
fn a_number_beyond_all_reason_is_refused(#[case] text: &str) {
    assert!(matches!(parse(text).unwrap_err(), JsonError::NumberOutOfRange { .. }));
}

/// The library that reads numbers passes them under a key of its own; a client may send that key.
#[rstest]
#[case("\"x\"")]
#[case("\"5\"")]
#[case("5")]
#[case("1.5")]
#[case("null")]
#[case("[1.5,2]")]
#[case("{\"$serde_json::private::Number\":\"7\"}")]
#[case("{\"$serde_json::private::Number\":1.5}")]
fn an_object_with_the_librarys_own_key_stays_an_object(#[case] value: &str) {
    for key in [
        "$serde_json::private::Number",
        "$serde_json::private::RawValue",
        "\\u0024serde_json::private::Number",
    ] {
        for text in [
            format!("{{\"{key}\":{value}}}"),
            format!("{{\"{key}\":{value},\"a\":1.5}}"),
            format!("{{\"a\":\"x\",\"{key}\":{value}}}"),
        ] {
            let Json::Object(members) = parse(&text).unwrap() else {
                panic!("{text} is no object any more");
            };
            let inner = members.get(&key.replace("\\u0024", "$")).unwrap();
            assert!(*inner == parse(value).unwrap(), "{text}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Json::parse(&bytes);
    }

    #[test]
    fn no_text_of_json_pieces_makes_the_reader_panic(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"a\"", "1", "-", "1e5", "1.5", "null", "true", " ",
            "\"$serde_json::private::Number\"", "\"1\"", "\\", "\"",
        ]), 0..24),
    ) {
        let _ = parse(&pieces.concat());
    }

    #[test]
    fn what_serde_json_writes_is_read(text in any::<String>(), number in any::<f64>()) {
        let value = serde_json::json!({ "text": text, "list": [number, text, null, true] });
        let Ok(Json::Object(members)) = parse(&value.to_string()) else {
            return Err(TestCaseError::fail("no object"));
        };
        prop_assert!(members["text"] == Json::Text(text));
    }
}

#[test]
fn debug_output_shows_the_kind_and_not_the_value() {
    let value = parse("{\"secret\":\"hunter2\"}").unwrap();
    assert_eq!(format!("{value:?}"), "an object");
}

#[test]
fn pointers_name_every_bad_field_and_escape_its_name() {
    let body = parse("{\"a/b\":1,\"c~d\":2,\"list\":[\"ok\",7],\"child\":{\"~/\":1},\"n\":1.5}");
    let mut fields = Fields::root(body.unwrap()).unwrap();
    fields.texts("list", 9, 1..=9);
    fields.number("n", 0..=9);
    let child = fields.child("child").unwrap();
    fields.absorb(child.finish());
    let mut pointers: Vec<String> =
        fields.finish().unwrap_err().into_iter().map(|error| error.pointer).collect();
    pointers.sort();
    assert_eq!(pointers, ["/a~1b", "/child/~0~1", "/c~0d", "/list/1", "/n"]);
}

#[rstest]
#[case("[]")]
#[case("null")]
#[case("\"{}\"")]
fn a_body_that_is_no_object_is_refused_as_a_whole(#[case] text: &str) {
    let errors = Fields::root(parse(text).unwrap()).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].pointer, "");
    assert!(Fields::root(Json::Object(Object::new())).is_ok());
}
