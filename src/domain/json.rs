//! Owns JSON values as a client sent them, and the only JSON reader for request bodies. It keeps
//! numbers exactly. It never accepts bytes that are not UTF-8, a key twice in one object, or more
//! than 128 levels.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serialize, Serializer};

use super::canonical::Encoder;
use super::decimal::Decimal;

/// The deepest accepted nesting of arrays and objects.
pub const MAX_DEPTH: u8 = 128;

/// The key under which `serde_json`, built to keep numbers exactly, hands over a number that is no
/// 64-bit integer. The text of the number comes as an owned string. The strings of a document are
/// always lent, so that an object which happens to have this key stays an object.
const NUMBER_KEY: &str = "$serde_json::private::Number";

/// The members of an object by key.
pub type Object = BTreeMap<String, Json>;

/// A JSON value (RFC 8259).
#[derive(Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number with its exact value.
    Number(Decimal),
    /// A string.
    Text(String),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(Object),
}

/// The reason why bytes are no acceptable JSON text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The bytes are not UTF-8 (RFC 8259 §8.1).
    #[error("the body is not UTF-8: byte {offset} begins no character")]
    NotUtf8 {
        /// The offset of the first bad byte.
        offset: usize,
    },
    /// The text is not JSON.
    #[error("the body is not JSON: syntax error at line {line}, column {column}")]
    Syntax {
        /// The line of the fault, counted from 1.
        line: usize,
        /// The column of the fault, counted from 1.
        column: usize,
    },
    /// An object names a key twice.
    #[error("an object names the key {key:?} twice at line {line}, column {column}")]
    DuplicateKey {
        /// The key that is named twice.
        key: String,
        /// The line of the fault, counted from 1.
        line: usize,
        /// The column of the fault, counted from 1.
        column: usize,
    },
    /// The text is nested deeper than [`MAX_DEPTH`].
    #[error("the body is nested deeper than 128 levels")]
    TooDeep,
    /// [`Decimal::parse`] does not accept a number, because its exponent is beyond ±1,000,000.
    #[error("a number is out of range at line {line}, column {column}")]
    NumberOutOfRange {
        /// The line of the fault, counted from 1.
        line: usize,
        /// The column of the fault, counted from 1.
        column: usize,
    },
}

impl Json {
    /// Reads one JSON text.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| JsonError::NotUtf8 { offset: error.valid_up_to() })?;
        let fault = Cell::new(None);
        let owned_text = Cell::new(false);
        let mut deserializer = serde_json::Deserializer::from_str(text);
        deserializer.disable_recursion_limit();
        let seed = Seed { depth: 0, fault: &fault, owned_text: &owned_text };
        let value = seed.deserialize(&mut deserializer);
        value.and_then(|value| deserializer.end().map(|()| value)).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            match fault.into_inner() {
                None => JsonError::Syntax { line, column },
                Some(Fault::DuplicateKey(key)) => JsonError::DuplicateKey { key, line, column },
                Some(Fault::TooDeep) => JsonError::TooDeep,
                Some(Fault::NumberOutOfRange) => JsonError::NumberOutOfRange { line, column },
            }
        })
    }

    /// Appends the value to a canonical encoding, with a tag and with its lengths. The members of
    /// an object are in the order of their keys.
    pub fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Null => {
                out.tag(0);
            }
            Self::Bool(value) => {
                out.tag(1).tag(u8::from(*value));
            }
            Self::Number(value) => {
                out.tag(2).text(&value.to_string());
            }
            Self::Text(value) => {
                out.tag(3).text(value);
            }
            Self::Array(items) => {
                out.tag(4).u64(items.len() as u64);
                for item in items {
                    item.encode(out);
                }
            }
            Self::Object(members) => {
                out.tag(5);
                encode_object(members, out);
            }
        }
    }

    /// Returns the kind of the value, in words for messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// Appends the members of an object, in the order of their keys, to a canonical encoding.
pub fn encode_object(members: &Object, out: &mut Encoder) {
    out.u64(members.len() as u64);
    for (key, value) in members {
        out.text(key);
        value.encode(out);
    }
}

impl fmt::Debug for Json {
    /// Writes only the kind of the value, because the value belongs to a client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(value) => value
                .to_string()
                .parse::<serde_json::Number>()
                .map_err(serde::ser::Error::custom)?
                .serialize(serializer),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Object(members) => serializer.collect_map(members),
        }
    }
}

/// A fault that is no syntax error.
enum Fault {
    DuplicateKey(String),
    TooDeep,
    NumberOutOfRange,
}

/// Reads a value at a depth. If something other than the syntax is wrong, it sets `fault`.
#[derive(Clone, Copy)]
struct Seed<'a> {
    depth: u8,
    fault: &'a Cell<Option<Fault>>,
    /// True when the last text that was read was an owned one, which means that it is a number's.
    owned_text: &'a Cell<bool>,
}

impl Seed<'_> {
    fn fail<E: serde::de::Error>(self, fault: Fault) -> E {
        self.fault.set(Some(fault));
        E::custom("refused")
    }

    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(self.fail(Fault::TooDeep));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(Decimal::from(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(Decimal::from(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        self.owned_text.set(true);
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Json::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        if self.depth > MAX_DEPTH {
            return Err(self.fail(Fault::TooDeep));
        }
        let mut object = Object::new();
        let mut next = members.next_key::<String>()?;
        if let Some(key) = next.take_if(|key| key == NUMBER_KEY) {
            let depth = self.depth + 1;
            let value = members.next_value_seed(Self { depth, ..self })?;
            if let (true, Json::Text(text)) = (self.owned_text.take(), &value) {
                return Decimal::parse(text)
                    .map(Json::Number)
                    .ok_or_else(|| self.fail(Fault::NumberOutOfRange));
            }
            object.insert(key, value);
            next = members.next_key()?;
        }
        let inner = self.deeper()?;
        while let Some(key) = next {
            if object.contains_key(&key) {
                return Err(self.fail(Fault::DuplicateKey(key)));
            }
            let value = members.next_value_seed(inner)?;
            object.insert(key, value);
            next = members.next_key::<String>()?;
        }
        Ok(Json::Object(object))
    }
}
