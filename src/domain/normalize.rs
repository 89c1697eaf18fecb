//! Owns the normalization of texts, which decides whether two texts are the same question. It never
//! folds the case of a question, because "IT" and "it" may be two questions.

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Composes a text (NFC, UAX #15), removes its outer white space and replaces each inner run of
/// white space by one space.
pub fn text(raw: &str) -> String {
    let composed: std::borrow::Cow<'_, str> =
        if is_nfc(raw) { raw.into() } else { raw.nfc().collect::<String>().into() };
    let mut out = String::with_capacity(composed.len());
    for word in composed.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// Normalizes names whose case, outer white space, order and repetition do not count. A name of
/// white space only is left out. Each name is composed again after it was made lower case, because
/// `J̌` has no composed form and `ǰ` has one.
pub fn name_set<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut set: Vec<String> = names
        .into_iter()
        .map(|name| text(&text(name).to_lowercase()))
        .filter(|name| !name.is_empty())
        .collect();
    set.sort_unstable();
    set.dedup();
    set
}
