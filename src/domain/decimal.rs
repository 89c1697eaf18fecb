//! Owns numbers with their exact decimal value: 5000, 5000.0 and 5e3 are one number, and 2^53 and
//! 2^53+1 are two. A number never passes through floating point.

use std::fmt;

/// The largest accepted size of the exponent of a number in normal form.
const MAX_EXPONENT: i64 = 1_000_000;

/// A decimal number in normal form: `digits` × 10^`exponent`. The digits have no leading or
/// trailing zeros. Zero is `0` × 10^0 without a sign.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// The same number in normal form.
    fn normal(self) -> Self {
        let Self { negative, digits, exponent } = self;
        let significant = digits.trim_start_matches('0').trim_end_matches('0');
        if significant.is_empty() {
            return Self { negative: false, digits: "0".to_owned(), exponent: 0 };
        }
        let trailing = digits.len() - digits.trim_end_matches('0').len();
        let exponent = exponent.saturating_add(i64::try_from(trailing).unwrap_or(i64::MAX));
        Self { negative, digits: significant.to_owned(), exponent }
    }

    /// Reads a JSON number (RFC 8259 §6). Returns `None` if `text` is no JSON number, or if the
    /// exponent of its normal form is beyond ±1,000,000.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (mantissa, ""),
        };
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let padded = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || padded || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let exponent = exponent - i64::try_from(fraction.len()).ok()?;
        let value = Self { negative, digits: format!("{whole}{fraction}"), exponent }.normal();
        (value.exponent.abs() <= MAX_EXPONENT).then_some(value)
    }

    /// Returns whether the number is below zero.
    pub const fn is_negative(&self) -> bool {
        self.negative
    }

    /// Returns the value × 10^`places`.
    #[must_use]
    pub fn shifted(mut self, places: i64) -> Self {
        if self.digits != "0" {
            self.exponent += places;
        }
        self
    }

    /// Returns the value as an unsigned integer. Returns `None` if it is negative, has a fraction
    /// or does not fit.
    pub fn to_u64(&self) -> Option<u64> {
        if self.negative || self.exponent < 0 {
            return None;
        }
        let scale = 10_u64.checked_pow(u32::try_from(self.exponent).ok()?)?;
        self.digits.parse::<u64>().ok()?.checked_mul(scale)
    }
}

impl From<u64> for Decimal {
    fn from(value: u64) -> Self {
        Self { negative: false, digits: value.to_string(), exponent: 0 }.normal()
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        let digits = value.unsigned_abs().to_string();
        Self { negative: value < 0, digits, exponent: 0 }.normal()
    }
}

fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let magnitude = digits.trim_start_matches('0');
    let value = if magnitude.is_empty() { 0 } else { magnitude.parse::<i64>().ok()? };
    let value = if text.starts_with('-') { -value } else { value };
    (value.abs() <= MAX_EXPONENT * 2).then_some(value)
}

impl fmt::Display for Decimal {
    /// Writes the plain form if it needs at most 20 zeros between the digits and the decimal point,
    /// and the form with an exponent otherwise. The text is always a JSON number, and the same text
    /// for the same value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negative {
            f.write_str("-")?;
        }
        let point = i64::try_from(self.digits.len()).unwrap_or(i64::MAX) + self.exponent;
        match (self.exponent, point) {
            (0, _) => f.write_str(&self.digits),
            (1..=20, _) => {
                f.write_str(&self.digits)?;
                (0..self.exponent).try_for_each(|_| f.write_str("0"))
            }
            (..0, 1..) => {
                let (whole, fraction) =
                    self.digits.split_at(usize::try_from(point).unwrap_or(self.digits.len()));
                write!(f, "{whole}.{fraction}")
            }
            (..0, -20..=0) => {
                f.write_str("0.")?;
                (point..0).try_for_each(|_| f.write_str("0"))?;
                f.write_str(&self.digits)
            }
            _ => write!(f, "{}e{}", self.digits, self.exponent),
        }
    }
}
