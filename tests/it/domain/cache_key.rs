//! Two questions share a key exactly when they are the same question (C3).

use ai_cache::domain::cache_key::KeyParts;
use ai_cache::domain::ids::SubjectKeyId;
use ai_cache::domain::json::Json;
use ai_cache::domain::normalize;
use ai_cache::domain::query::QueryRequest;
use proptest::prelude::*;
use rstest::rstest;
use uuid::Uuid;

fn request(body: &str) -> QueryRequest {
    QueryRequest::parse(Json::parse(body.as_bytes()).unwrap()).unwrap()
}

fn key(request: &QueryRequest) -> Vec<u8> {
    KeyParts::of(request, None, "demo", "model-1").canonical()
}

fn key_of(body: &str) -> Vec<u8> {
    key(&request(body))
}

/// A question with every field, one of them replaced.
fn body_with(field: &str, value: &str) -> String {
    let mut fields = [
        ("query", "\"Best venues\""),
        ("location", "\"New York\""),
        ("vendorTypes", "[\"venue\",\"florist\"]"),
        ("budget", "5000"),
        ("weddingDate", "\"2027-06-12\""),
        ("guestCount", "120"),
        ("mood", "{\"a\":[1,null]}"),
        ("operation", "\"wedding-query\""),
        ("parameters", "{\"temperature\":0}"),
    ];
    let place = fields.iter_mut().find(|(name, _)| *name == field).unwrap();
    place.1 = value;
    let value_of = |name: &str| fields.iter().find(|(known, _)| *known == name).unwrap().1;
    let context: Vec<String> =
        fields[1..7].iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!(
        "{{\"query\":{},\"weddingContext\":{{{}}},\"operation\":{},\"parameters\":{}}}",
        value_of("query"),
        context.join(","),
        value_of("operation"),
        value_of("parameters"),
    )
}

#[rstest]
#[case("query", "\"best venues\"")]
#[case("query", "\"Best venues?\"")]
#[case("query", "\"Bestvenues\"")]
#[case("location", "\"New York, NY\"")]
#[case("location", "\"new york\"")]
#[case("location", "null")]
#[case("vendorTypes", "[\"venue\"]")]
#[case("vendorTypes", "[\"venueflorist\"]")]
#[case("vendorTypes", "[\"venue,florist\"]")]
#[case("vendorTypes", "[]")]
#[case("budget", "5000.01")]
#[case("budget", "0")]
#[case("budget", "null")]
#[case("weddingDate", "\"2027-06-13\"")]
#[case("weddingDate", "null")]
#[case("guestCount", "121")]
#[case("guestCount", "0")]
#[case("guestCount", "null")]
#[case("mood", "{\"a\":[1]}")]
#[case("mood", "{\"a\":[null,1]}")]
#[case("mood", "{\"a\":[\"1\",null]}")]
#[case("mood", "null")]
#[case("operation", "\"chat\"")]
#[case("parameters", "{\"temperature\":1}")]
#[case("parameters", "{\"temperature\":\"0\"}")]
#[case("parameters", "{\"temperature\":0,\"top_p\":1}")]
#[case("parameters", "{}")]
fn a_change_of_any_one_field_changes_the_key(#[case] field: &str, #[case] value: &str) {
    let base = body_with("operation", "\"wedding-query\"");
    assert_ne!(key_of(&base), key_of(&body_with(field, value)));
}

#[test]
fn person_model_and_upstream_are_part_of_the_key() {
    let request = request("{\"query\":\"q\"}");
    let person = |byte| Some(SubjectKeyId(Uuid::from_bytes([byte; 16])));
    let keys = [
        KeyParts::of(&request, None, "demo", "m").canonical(),
        KeyParts::of(&request, person(0), "demo", "m").canonical(),
        KeyParts::of(&request, person(1), "demo", "m").canonical(),
        KeyParts::of(&request, None, "demo2", "m").canonical(),
        KeyParts::of(&request, None, "demo", "m2").canonical(),
        KeyParts::of(&request, None, "m", "demo").canonical(),
        KeyParts::of(&request, None, "dem", "om").canonical(),
    ];
    let different: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(different.len(), keys.len());
}

#[rstest]
#[case("budget", "5000.0")]
#[case("budget", "5e3")]
#[case("budget", "50.00E+2")]
#[case("budget", "500000e-2")]
#[case("guestCount", "1.2e2")]
#[case("vendorTypes", "[\"florist\",\"venue\"]")]
#[case("vendorTypes", "[\"VENUE\",\"Florist\"]")]
#[case("vendorTypes", "[\" venue \",\"florist\",\"venue\",\"\\tVenue\"]")]
#[case("vendorTypes", "[\"venue\",\"florist\",\"  \"]")]
#[case("mood", "{\"a\":[1.0,null]}")]
#[case("mood", " { \"\\u0061\" : [ 1e0 , null ] } ")]
#[case("query", "\"  Best   venues\\n\"")]
#[case("query", "\"Best\\u00a0venues\"")]
#[case("parameters", "{\"temperature\":-0.0}")]
fn what_does_not_count_leaves_the_key_alone(#[case] field: &str, #[case] value: &str) {
    let base = body_with("operation", "\"wedding-query\"");
    assert_eq!(key_of(&base), key_of(&body_with(field, value)));
}

#[rstest]
#[case::composed("{\"query\":\"caf\\u00e9\"}", "{\"query\":\"cafe\\u0301\"}")]
#[case::order(
    "{\"query\":\"q\",\"weddingContext\":{\"b\":1,\"a\":{\"y\":1,\"x\":2}}}",
    "{\"weddingContext\":{\"a\":{\"x\":2,\"y\":1},\"b\":1},\"query\":\"q\"}"
)]
#[case::absent("{\"query\":\"q\"}", "{\"query\":\"q\",\"weddingContext\":{}}")]
#[case::null("{\"query\":\"q\"}", "{\"query\":\"q\",\"weddingContext\":null}")]
#[case::operation("{\"query\":\"q\"}", "{\"query\":\"q\",\"operation\":\"wedding-query\"}")]
#[case::how(
    "{\"query\":\"q\"}",
    "{\"query\":\"q\",\"cache\":{\"mode\":\"refresh\",\"ttlSeconds\":9,\"tags\":[\"x\"]}}"
)]
#[case::resolved("{\"query\":\"q\"}", "{\"query\":\"q\",\"model\":\"m\",\"subjectId\":\"s\"}")]
fn two_ways_to_ask_the_same_share_a_key(#[case] one: &str, #[case] other: &str) {
    assert_eq!(key_of(one), key_of(other));
}

#[rstest]
#[case("9007199254740992", "9007199254740993")]
#[case("18446744073709551615", "18446744073709551616")]
#[case("-9223372036854775808", "-9223372036854775809")]
#[case("0.1", "0.1000000000000000055")]
#[case("1e-7", "1e-8")]
#[case("1e400", "1e401")]
#[case("1", "-1")]
#[case("1", "\"1\"")]
#[case("0", "false")]
#[case("null", "\"null\"")]
#[case("[]", "{}")]
#[case("[[1],2]", "[[1,2]]")]
#[case("\"ab\"", "[\"a\",\"b\"]")]
#[case("{\"$serde_json::private::Number\":\"5\"}", "5")]
fn two_values_of_a_free_field_never_share_a_key(#[case] one: &str, #[case] other: &str) {
    assert_ne!(key_of(&body_with("mood", one)), key_of(&body_with("mood", other)));
}

/// Small alphabets, so that near misses and true repetitions are both frequent.
fn any_request() -> impl Strategy<Value = QueryRequest> {
    let text = || "[ab \u{e9}]{0,3}x";
    let types = prop::collection::vec("[aAb]{1,2}", 0..3);
    let number = prop_oneof![Just("1"), Just("1.0"), Just("10e-1"), Just("2"), Just("12")];
    let other = prop::collection::btree_map("[ab]", number.clone(), 0..3);
    let context = (prop::option::of(text()), types, prop::option::of(number.clone()), other);
    (text(), context, prop::option::of(number)).prop_map(|(query, context, temperature)| {
        let (location, types, budget, others) = context;
        let mut members: Vec<String> =
            others.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        members.extend(location.map(|text| format!("\"location\":{text:?}")));
        members.push(format!("\"vendorTypes\":{types:?}"));
        members.extend(budget.map(|value| format!("\"budget\":{value}")));
        let temperature = temperature.map(|value| format!("\"temperature\":{value}"));
        request(&format!(
            "{{\"query\":{query:?},\"weddingContext\":{{{}}},\"parameters\":{{{}}}}}",
            members.join(","),
            temperature.unwrap_or_default()
        ))
    })
}

proptest! {
    #[test]
    fn keys_are_equal_exactly_when_the_parsed_questions_are(
        one in any_request(),
        other in any_request(),
        names in prop::array::uniform4("[ab]{1,2}"),
    ) {
        let [model_1, model_2, upstream_1, upstream_2] = &names;
        let first = KeyParts::of(&one, None, upstream_1, model_1).canonical();
        let second = KeyParts::of(&other, None, upstream_2, model_2).canonical();
        let same = (&one.query, &one.context, &one.parameters, model_1, upstream_1)
            == (&other.query, &other.context, &other.parameters, model_2, upstream_2);
        prop_assert_eq!(first == second, same);
        prop_assert_eq!(key(&one) == key(&other), one.query == other.query
            && one.context == other.context && one.parameters == other.parameters);
    }

    #[test]
    fn normalizing_twice_changes_nothing_more(raw in any::<String>()) {
        let once = normalize::text(&raw);
        prop_assert_eq!(&normalize::text(&once), &once);
        let names = normalize::name_set([raw.as_str()]);
        prop_assert_eq!(&normalize::name_set(names.iter().map(String::as_str)), &names);
    }

    #[test]
    fn white_space_around_and_between_words_does_not_count(
        words in prop::collection::vec("[a-z\u{e9}\u{4e2d}]{1,4}", 1..5),
        spaces in prop::collection::vec("[ \t\n\r\u{a0}\u{2003}\u{3000}]{1,3}", 6),
    ) {
        let mut raw = spaces[5].clone();
        for (word, space) in words.iter().zip(&spaces) {
            raw.push_str(word);
            raw.push_str(space);
        }
        prop_assert_eq!(normalize::text(&raw), words.join(" "));
    }
}

#[test]
fn case_of_a_name_does_not_count_where_only_one_case_has_a_composed_letter() {
    assert_eq!(normalize::name_set(["J\u{30c}"]), normalize::name_set(["\u{1f0}"]));
}
