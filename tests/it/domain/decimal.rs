//! Numbers keep their exact value, and one value has one text.

use ai_cache::domain::decimal::Decimal;
use proptest::prelude::*;
use rstest::rstest;

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).unwrap()
}

/// Any JSON number as text.
fn any_number() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,4})?"
}

proptest! {
    #[test]
    fn the_text_of_a_number_is_json_and_reads_back_the_same(text in any_number()) {
        let value = decimal(&text);
        let shown = value.to_string();
        prop_assert_eq!(&decimal(&shown), &value);
        prop_assert!(shown.parse::<serde_json::Number>().is_ok(), "{}", shown);
        prop_assert!(shown.len() <= text.len() + 48, "{} became {}", text, shown);
    }

    #[test]
    fn moving_the_point_by_the_exponent_changes_nothing(
        digits in "[1-9][0-9]{0,20}",
        zeros in 0_usize..30,
        exponent in -50_i32..50,
    ) {
        let plain = decimal(&format!("{digits}e{exponent}"));
        let moved = i32::try_from(zeros).unwrap();
        let padded = format!("{digits}{}e{}", "0".repeat(zeros), exponent - moved);
        prop_assert_eq!(&decimal(&padded), &plain);
        let small = format!("0.{}{digits}e{}", "0".repeat(zeros),
            exponent + moved + i32::try_from(digits.len()).unwrap());
        prop_assert_eq!(&decimal(&small), &plain);
    }

    #[test]
    fn whole_numbers_survive(value in any::<u64>(), signed in any::<i64>()) {
        prop_assert_eq!(decimal(&value.to_string()).to_u64(), Some(value));
        prop_assert_eq!(decimal(&value.to_string()), Decimal::from(value));
        prop_assert_eq!(decimal(&signed.to_string()), Decimal::from(signed));
    }
}

#[rstest]
#[case("5000", "5000")]
#[case("5000.0", "5000")]
#[case("5e3", "5000")]
#[case("5E+3", "5000")]
#[case("-0", "0")]
#[case("0.00e12", "0")]
#[case("0.10", "0.1")]
#[case("12.50", "12.5")]
#[case("1e20", "100000000000000000000")]
#[case("1e21", "1e21")]
#[case("1e-20", "0.00000000000000000001")]
#[case("1e-22", "1e-22")]
#[case("9007199254740993", "9007199254740993")]
#[case("-1.5e1", "-15")]
fn a_number_is_shown_plainly(#[case] text: &str, #[case] shown: &str) {
    assert_eq!(decimal(text).to_string(), shown);
}

#[rstest]
#[case("")]
#[case("-")]
#[case("+1")]
#[case("01")]
#[case("-01")]
#[case("1.")]
#[case(".5")]
#[case("1.e5")]
#[case("1e")]
#[case("1e+")]
#[case("1e1.5")]
#[case("1 ")]
#[case("--1")]
#[case("0x10")]
#[case("NaN")]
#[case("Infinity")]
#[case("1_000")]
#[case("\u{661}")]
#[case("1e1000001")]
#[case("1e-1000001")]
#[case("1e99999999999999999999")]
fn what_is_no_json_number_or_out_of_range_is_refused(#[case] text: &str) {
    assert_eq!(Decimal::parse(text), None);
}

#[rstest]
#[case("1.5")]
#[case("-1")]
#[case("18446744073709551616")]
#[case("1e20")]
#[case("1e1000000")]
#[case("1e-1")]
fn what_is_no_64_bit_whole_number_is_none(#[case] text: &str) {
    assert_eq!(decimal(text).to_u64(), None);
}
