//! Owns the reading of a client's JSON object, field by field. It collects every fault with a JSON
//! pointer (RFC 6901), so that a reply names all of them at once. A member that no reader took is
//! an unknown field.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};

use super::json::{Json, Object};

/// One field that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The JSON pointer to the field. It is empty for the whole body.
    pub pointer: String,
    /// The text that says what is wrong and what is allowed. It never holds the value.
    pub detail: String,
}

/// The rule for a time, in words.
pub const TIME_RULE: &str = "a time of RFC 3339, such as 2026-01-31T00:00:00Z";

/// Reads a time of RFC 3339 in any zone. Returns `None` if `text` is no such time.
pub fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(DateTime::into)
}

/// An object whose members are taken one by one. A method that takes a member returns `None` if the
/// member is absent or breaks the rule; the second case adds a fault.
#[derive(Debug)]
pub struct Fields {
    pointer: String,
    members: Object,
    errors: Vec<FieldError>,
}

impl Fields {
    /// Begins with the members of a body. Returns an error if the body is no object.
    pub fn root(body: Json) -> Result<Self, Vec<FieldError>> {
        match body {
            Json::Object(members) => Ok(Self::at(String::new(), members)),
            other => Err(vec![FieldError {
                pointer: String::new(),
                detail: format!("must be an object, not {}", other.kind()),
            }]),
        }
    }

    fn at(pointer: String, members: Object) -> Self {
        Self { pointer, members, errors: Vec::new() }
    }

    /// Takes a member of any kind. `null` counts as absent.
    pub fn take(&mut self, name: &str) -> Option<Json> {
        self.members.remove(name).filter(|value| *value != Json::Null)
    }

    /// Adds the fault that a member breaks a rule.
    pub fn refuse(&mut self, name: &str, detail: impl Into<String>) {
        let pointer = self.pointer_to(name);
        self.errors.push(FieldError { pointer, detail: detail.into() });
    }

    fn pointer_to(&self, name: &str) -> String {
        let escaped = name.replace('~', "~0").replace('/', "~1");
        format!("{}/{escaped}", self.pointer)
    }

    fn wrong_kind<T>(&mut self, name: &str, wanted: &str, found: &Json) -> Option<T> {
        self.refuse(name, format!("must be {wanted}, not {}", found.kind()));
        None
    }

    /// Takes a string whose length in bytes is within `length`.
    pub fn text(&mut self, name: &str, length: RangeInclusive<usize>) -> Option<String> {
        match self.take(name)? {
            Json::Text(text) if length.contains(&text.len()) => Some(text),
            Json::Text(_) => {
                let (least, most) = length.into_inner();
                self.refuse(name, format!("must be {least} to {most} bytes of UTF-8"));
                None
            }
            other => self.wrong_kind(name, "a string", &other),
        }
    }

    /// Takes a string that `parse` accepts. `rule` completes the sentence "must be …".
    pub fn parsed<T>(
        &mut self,
        name: &str,
        rule: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        match self.take(name)? {
            Json::Text(text) => {
                let value = parse(&text);
                if value.is_none() {
                    self.refuse(name, format!("must be {rule}"));
                }
                value
            }
            other => self.wrong_kind(name, "a string", &other),
        }
    }

    /// Takes a time of RFC 3339.
    pub fn time(&mut self, name: &str) -> Option<DateTime<Utc>> {
        self.parsed(name, TIME_RULE, parse_time)
    }

    /// Takes a whole number within `range`.
    pub fn number(&mut self, name: &str, range: RangeInclusive<u64>) -> Option<u64> {
        match self.take(name)? {
            Json::Number(value) => {
                let value = value.to_u64().filter(|value| range.contains(value));
                if value.is_none() {
                    let (least, most) = range.into_inner();
                    self.refuse(name, format!("must be a whole number from {least} to {most}"));
                }
                value
            }
            other => self.wrong_kind(name, "a number", &other),
        }
    }

    /// Takes a boolean.
    pub fn flag(&mut self, name: &str) -> Option<bool> {
        match self.take(name)? {
            Json::Bool(value) => Some(value),
            other => self.wrong_kind(name, "a boolean", &other),
        }
    }

    /// Takes an array of at most `count` strings, each with a length in bytes within `length`. A
    /// string that breaks the rule adds a fault and is left out.
    pub fn texts(
        &mut self,
        name: &str,
        count: usize,
        length: RangeInclusive<usize>,
    ) -> Option<Vec<String>> {
        let items = match self.take(name)? {
            Json::Array(items) => items,
            other => return self.wrong_kind(name, "an array of strings", &other),
        };
        if items.len() > count {
            self.refuse(name, format!("must hold at most {count} strings"));
            return None;
        }
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Json::Text(text) if length.contains(&text.len()) => texts.push(text),
                _ => {
                    let mut pointer = self.pointer_to(name);
                    let _infallible = write!(pointer, "/{index}");
                    let (least, most) = length.clone().into_inner();
                    let detail = format!("must be a string of {least} to {most} bytes of UTF-8");
                    self.errors.push(FieldError { pointer, detail });
                }
            }
        }
        Some(texts)
    }

    /// Takes an object, to be read in the same way. The result of its [`Self::finish`] goes to
    /// [`Self::absorb`].
    pub fn child(&mut self, name: &str) -> Option<Self> {
        match self.take(name)? {
            Json::Object(members) => Some(Self::at(self.pointer_to(name), members)),
            other => self.wrong_kind(name, "an object", &other),
        }
    }

    /// Adds the faults of a child that was read.
    pub fn absorb(&mut self, child: Result<(), Vec<FieldError>>) {
        if let Err(errors) = child {
            self.errors.extend(errors);
        }
    }

    /// Takes all remaining members. It is for objects that may hold unknown members.
    pub fn rest(&mut self) -> Object {
        std::mem::take(&mut self.members)
    }

    /// Returns every fault as an error. Each member that was not taken is a fault too.
    pub fn finish(mut self) -> Result<(), Vec<FieldError>> {
        let unknown: Vec<String> = self.members.keys().cloned().collect();
        for name in unknown {
            self.refuse(&name, "is not a known field");
        }
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }
}
