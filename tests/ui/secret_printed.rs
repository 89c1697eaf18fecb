//! Plaintext that was not paid for cannot be printed.

use ai_cache::crypto::Secret;

fn show(answer: &Secret) -> String {
    format!("{answer}") //~ E0277
}

fn main() {}
