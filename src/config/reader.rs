//! Owns the reading of settings from a source, one by one. It notes each fault in one line, and the
//! value of each setting for `config check`. It never stops at the first fault.

use std::ops::RangeInclusive;

use super::known::{Availability, KNOWN, Known, Secrecy, nearest};
use super::source::{Source, ValueOrigin};
use super::{ConfigErrors, Setting};

/// Reads settings and collects faults.
pub(super) struct Reader<'a> {
    source: &'a Source,
    errors: Vec<String>,
}

/// A variable that is set in the source.
struct Given<'a> {
    /// The name under which it is set: its own name or its alias.
    name: &'static str,
    /// The value without outer white space.
    value: &'a str,
    origin: &'a ValueOrigin,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        let mut reader = Self { source, errors: Vec::new() };
        reader.check_names();
        reader
    }

    fn check_names(&mut self) {
        for name in self.source.names() {
            match KNOWN.iter().find(|known| known.covers(name)) {
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

    /// Adds a fault of a variable.
    pub(super) fn refuse(&mut self, name: &str, rule: &str) {
        self.errors.push(format!("{name} {rule}"));
    }

    /// Returns the value under the variable's own name, or else the value under its alias.
    fn find(&self, name: &'static str) -> Option<Given<'a>> {
        let given = |name: &'static str| {
            let (value, origin) = self.source.get(name)?;
            Some(Given { name, value: value.trim(), origin })
        };
        let alias = || KNOWN.iter().find(|known| known.name == name)?.alias;
        given(name).or_else(|| given(alias()?))
    }

    fn find_filled(&mut self, name: &'static str) -> Option<Given<'a>> {
        let given = self.find(name)?;
        if given.value.is_empty() {
            self.refuse(given.name, "is set to nothing; remove it or give it a value");
            return None;
        }
        Some(given)
    }

    /// Returns whether the variable is set, to a good or a bad value.
    pub(super) fn is_set(&self, name: &'static str) -> bool {
        self.find(name).is_some()
    }

    /// Returns a value that is not empty. Returns `None` if the variable is not set or is empty. An
    /// empty value is a fault.
    pub(super) fn text(&mut self, name: &'static str) -> Option<&'a str> {
        self.find_filled(name).map(|given| given.value)
    }

    /// Returns the value that `parse` accepts. Returns `None` if the variable is not set, or if
    /// `parse` refuses it, which is a fault. `rule` completes the sentence "NAME must be …".
    pub(super) fn parsed<T>(
        &mut self,
        name: &'static str,
        rule: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let given = self.find_filled(name)?;
        let parsed = parse(given.value);
        if parsed.is_none() {
            let mut all = KNOWN.iter();
            let shown = all.any(|known| known.name == name && known.secrecy == Secrecy::Shown);
            let but = if shown { format!(", not {:?}", given.value) } else { String::new() };
            self.refuse(given.name, &format!("must be {rule}{but}"));
        }
        parsed
    }

    /// Returns a switch, or `default` if the variable is not set or is refused.
    pub(super) fn flag(&mut self, name: &'static str) -> Option<bool> {
        let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        };
        self.parsed(name, "true or false", parse)
    }

    /// Returns a whole number within `range`, or `default` if the variable is not set or is
    /// refused.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        let rule = format!("a whole number from {} to {}", range.start(), range.end());
        let parse = |text: &str| text.parse().ok().filter(|value| range.contains(value));
        self.parsed(name, &rule, parse).unwrap_or(default)
    }

    /// Returns the final value of every setting, or all faults as an error.
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
            Some(given) => {
                let secret = known.secrecy == Secrecy::Secret;
                let value = if secret { "[set]" } else { given.value }.to_owned();
                let own = given.name == known.name;
                let alias = if own { String::new() } else { format!(" (as {})", given.name) };
                Setting { name: known.name, value, origin: format!("{}{alias}", given.origin) }
            }
        }
    }
}
