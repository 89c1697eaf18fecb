//! Takes settings out of a source one by one, noting what is wrong in a line each and what each
//! came to for `config check`.

use std::ops::RangeInclusive;

use super::known::{Availability, KNOWN, Known, Secrecy, nearest};
use super::source::Source;
use super::{ConfigErrors, Setting};

/// Reads settings and collects faults.
pub(super) struct Reader<'a> {
    source: &'a Source,
    errors: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        let mut reader = Self { source, errors: Vec::new() };
        reader.check_names();
        reader
    }

    fn check_names(&mut self) {
        for name in self.source.names() {
            let known = KNOWN.iter().find(|known| known.name == name || known.alias == Some(name));
            match known {
                None => self
                    .errors
                    .push(format!("{name} is not a setting; did you mean {}?", nearest(name))),
                Some(known) if known.availability == Availability::Later => {
                    self.errors.push(format!("{name} is not available in this release"));
                }
                Some(_) => {}
            }
        }
    }

    /// Notes a fault of a variable.
    pub(super) fn refuse(&mut self, name: &str, rule: &str) {
        self.errors.push(format!("{name} {rule}"));
    }

    /// The value under the variable's own name or its alias.
    fn find(&self, name: &str) -> Option<(&'a str, String)> {
        if let Some((value, origin)) = self.source.get(name) {
            return Some((value, origin.to_string()));
        }
        let alias = KNOWN.iter().find(|known| known.name == name)?.alias?;
        let (value, origin) = self.source.get(alias)?;
        Some((value, format!("{origin} (as {alias})")))
    }

    /// A value that is not empty, if the variable is set.
    pub(super) fn text(&mut self, name: &str) -> Option<&'a str> {
        let (value, _) = self.find(name)?;
        if value.trim().is_empty() {
            self.refuse(name, "is set to nothing; remove it or give it a value");
            return None;
        }
        Some(value)
    }

    /// A value that `parse` accepts; `rule` completes the sentence "NAME must be …".
    pub(super) fn parsed<T>(
        &mut self,
        name: &str,
        rule: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let value = parse(text.trim());
        if value.is_none() {
            let secret =
                KNOWN.iter().any(|known| known.name == name && known.secrecy == Secrecy::Secret);
            let given = if secret { String::new() } else { format!(", not {text:?}") };
            self.refuse(name, &format!("must be {rule}{given}"));
        }
        value
    }

    /// A switch.
    pub(super) fn flag(&mut self, name: &str, default: bool) -> bool {
        let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        };
        self.parsed(name, "true or false", parse).unwrap_or(default)
    }

    /// A whole number within `range`.
    pub(super) fn number(&mut self, name: &str, range: RangeInclusive<u64>, default: u64) -> u64 {
        let rule = format!("a whole number from {} to {}", range.start(), range.end());
        let parse = |text: &str| text.parse().ok().filter(|value| range.contains(value));
        self.parsed(name, &rule, parse).unwrap_or(default)
    }

    /// What every setting came to, or every fault.
    pub(super) fn finish(self) -> Result<Vec<Setting>, ConfigErrors> {
        if !self.errors.is_empty() {
            return Err(ConfigErrors(self.errors));
        }
        let now = KNOWN.iter().filter(|known| known.availability == Availability::Now);
        Ok(now.map(|known| self.setting(known)).collect())
    }

    fn setting(&self, known: &Known) -> Setting {
        match self.find(known.name) {
            None => Setting {
                name: known.name,
                value: known.default.to_owned(),
                origin: "default".to_owned(),
            },
            Some((value, origin)) => {
                let shown = known.secrecy == Secrecy::Shown;
                let value = if shown { value } else { "[set]" }.to_owned();
                Setting { name: known.name, value, origin }
            }
        }
    }
}
