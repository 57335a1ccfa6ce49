//! JSON, read once: the typed values and the bytes that signatures cover come from one parse.

mod node;

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use crate::limits;
use crate::outcome::{Denial, shortened};
use crate::sorted::{ALLOCATION, Sorted};

pub(crate) use node::Node;

/// A JSON value as signed metadata may hold it: integers only, no member twice. Text is the file's
/// own where nothing in it is escaped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    #[default]
    Null,
    Bool(bool),
    Unsigned(u64),
    /// Less than 0.
    Negative(i64),
    String(Cow<'a, str>),
    Array(Box<[Value<'a>]>),
    Object(Object<'a>),
}

/// An object's members, in the canonical order.
pub(crate) type Object<'a> = Sorted<Cow<'a, str>, Value<'a>>;

impl Value<'_> {
    /// Takes an object's member out; null where there is none.
    pub(crate) fn take(&mut self, name: &str) -> Self {
        match self {
            Self::Object(members) => members.get_mut(name).map(std::mem::take),
            _ => None,
        }
        .unwrap_or_default()
    }
}

/// Reads one JSON text. Refused: duplicate members, numbers that are no integers of 64 bits, lone
/// surrogates, bytes that are not UTF-8, anything after the value, nesting deeper than
/// `serde_json`'s 128 levels, and what would take more than [`limits::json_bytes`].
pub(crate) fn parse<'a>(file: &str, bytes: &'a [u8]) -> Result<Value<'a>, Denial> {
    let limit = limits::json_bytes(bytes.len() as u64);
    let budget = Budget(Cell::new(Some(limit)));
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = Seed(&budget)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    parsed.map_err(|error| match budget.0.get() {
        None => Denial::LimitExceeded {
            what: format!("the memory that the values of {file} take, in bytes,"),
            limit,
        },
        Some(_) => {
            Denial::MalformedMetadata { file: file.to_owned(), reason: reason(bytes, &error) }
        }
    })
}

/// A page in the place of metadata is the commonest mistake in an URL.
fn reason(bytes: &[u8], error: &serde_json::Error) -> String {
    if bytes.trim_ascii_start().starts_with(b"<") {
        return "it is a page of HTML or XML, not JSON: the URL is not that of metadata".to_owned();
    }
    error.to_string()
}

/// The canonical form of both dialects (OLPC's, and Docker's): members sorted by their bytes, no white space, and only `\` and `"`
/// escaped.
pub(crate) fn canonical(value: &Value<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

fn write(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Unsigned(integer) => out.extend_from_slice(integer.to_string().as_bytes()),
        Value::Negative(integer) => out.extend_from_slice(integer.to_string().as_bytes()),
        Value::String(text) => write_string(text, out),
        Value::Array(values) => {
            out.push(b'[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(value, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            out.push(b'{');
            for (index, (name, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(name, out);
                out.push(b':');
                write(value, out);
            }
            out.push(b'}');
        }
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// What the values of one file may take yet, in bytes; `None` once it was too little.
struct Budget(Cell<Option<u64>>);

impl Budget {
    fn spend<E: Error>(&self, bytes: usize) -> Result<(), E> {
        self.0.set(self.0.get().and_then(|left| left.checked_sub(bytes as u64)));
        self.0.get().map(drop).ok_or_else(|| E::custom("too large"))
    }
}

#[derive(Clone, Copy)]
struct Seed<'b>(&'b Budget);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value without fractions")
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(u64::try_from(value).map_or(Value::Negative(value), Value::Unsigned))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Value<'de>, E> {
        Text(self.0).visit_borrowed_str(value).map(Value::String)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value<'de>, E> {
        Text(self.0).visit_str(value).map(Value::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value<'de>, A::Error> {
        self.0.spend(ALLOCATION)?;
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(self)? {
            self.0.spend(size_of::<Value<'de>>())?;
            values.push(value);
        }
        Ok(Value::Array(values.into_boxed_slice()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value<'de>, A::Error> {
        self.0.spend(ALLOCATION)?;
        let mut members = Vec::new();
        while let Some(name) = access.next_key_seed(Text(self.0))? {
            self.0.spend(size_of::<(Cow<'de, str>, Value<'de>)>())?;
            members.push((name, access.next_value_seed(self)?));
        }
        Object::new(members).map(Value::Object).map_err(|name| {
            let name = shortened(&name);
            A::Error::custom(format_args!("member {name:?} is there twice"))
        })
    }
}

/// Reads a string.
#[derive(Clone, Copy)]
struct Text<'b>(&'b Budget);

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text<'_> {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Cow<'de, str>, E> {
        self.0.spend(ALLOCATION + value.len())?;
        Ok(Cow::Owned(value.to_owned()))
    }
}

#[cfg(test)]
mod tests;
