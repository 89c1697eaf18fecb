//! When two texts are the same question. Never folds case: "IT" and "it" may be two questions.

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// NFC (UAX #15), outer white space removed, inner runs of white space made one space.
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

/// Names of which case, outer white space, order and repetition do not count; one of white space
/// only is none. Composed again after the case is gone: `J̌` has no composed form, `ǰ` has.
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
