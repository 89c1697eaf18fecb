//! Owns amounts of US dollars and the cost of an answer. An amount is a whole number of picodollars
//! (10^-12 dollars), so that a price of 0.15 dollars for a million tokens needs no rounding.

use std::fmt;
use std::ops::Add;

use serde::{Deserialize, Serialize};

const PICO_PER_DOLLAR: u64 = 1_000_000_000_000;

/// An amount of US dollars in picodollars. Sums stop at the largest value instead of wrapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Usd(pub u64);

impl Add for Usd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Usd {
    /// Writes the dollars as a decimal without trailing zeros, such as `0.000252`, `1.5` or `0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dollars, pico) = (self.0 / PICO_PER_DOLLAR, self.0 % PICO_PER_DOLLAR);
        if pico == 0 {
            return write!(f, "{dollars}");
        }
        let fraction = format!("{pico:012}");
        write!(f, "{dollars}.{}", fraction.trim_end_matches('0'))
    }
}

/// The tokens that one answer took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The tokens of the question.
    pub prompt_tokens: u32,
    /// The tokens of the answer.
    pub completion_tokens: u32,
}

/// The prices of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prices {
    /// The price of one token of the question.
    pub prompt: Usd,
    /// The price of one token of the answer.
    pub completion: Usd,
}

impl Usage {
    /// The greatest number of tokens of a kind that is believed of one answer. Every tier can hold
    /// this number.
    pub const MOST_TOKENS: u32 = i32::MAX as u32;
}

impl Prices {
    /// Returns the cost of an answer that took `usage`. It is at most the greatest amount that
    /// every tier can hold.
    pub fn cost(self, usage: Usage) -> Usd {
        let part = |price: Usd, tokens: u32| price.0.saturating_mul(u64::from(tokens));
        let prompt = part(self.prompt, usage.prompt_tokens);
        let both = prompt.saturating_add(part(self.completion, usage.completion_tokens));
        Usd(both.min(i64::MAX.unsigned_abs()))
    }
}
