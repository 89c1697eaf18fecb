//! Takes settings out of a source one by one, noting what is wrong in a line each and what each
//! came to for `config check`.

use std::ops::RangeInclusive;

use super::known::{Availability, KNOWN, Known, Secrecy, nearest};
use super::source::{Source, ValueOrigin};
use super::{ConfigErrors, Setting};

/// Reads settings and collects faults.
pub(super) struct Reader<'a> {
    source: &'a Source,
    errors: Vec<String>,
}

/// A variable that is set.
struct Given<'a> {
    /// Its own name or its alias, whichever was used.
    name: &'static str,
    /// Without outer white space.
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

    /// Notes a fault of a variable.
    pub(super) fn refuse(&mut self, name: &str, rule: &str) {
        self.errors.push(format!("{name} {rule}"));
    }

    /// The value under the variable's own name, else under its alias.
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

    /// Whether the variable is set, be it to a good value or a bad one.
    pub(super) fn is_set(&self, name: &'static str) -> bool {
        self.find(name).is_some()
    }

    /// A value that is not empty, if the variable is set.
    pub(super) fn text(&mut self, name: &'static str) -> Option<&'a str> {
        self.find_filled(name).map(|given| given.value)
    }

    /// A value that `parse` accepts; `rule` completes the sentence "NAME must be …".
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

    /// A switch, if it is set.
    pub(super) fn flag(&mut self, name: &'static str) -> Option<bool> {
        let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        };
        self.parsed(name, "true or false", parse)
    }

    /// A whole number within `range`.
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
