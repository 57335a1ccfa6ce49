//! JSON, read once: the typed values and the bytes that signatures cover come from one parse.

mod node;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use crate::limits;
use crate::outcome::{Denial, shortened};

pub(crate) use node::Node;

/// A JSON value as signed metadata may hold it: integers only, no member twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    String(String),
    Array(Vec<Value>),
    Object(BTreeMap<String, Value>),
}

impl Value {
    /// Takes an object's member out; null where there is none.
    pub(crate) fn take(&mut self, name: &str) -> Self {
        match self {
            Self::Object(members) => members.remove(name),
            _ => None,
        }
        .unwrap_or(Self::Null)
    }
}

/// Reads one JSON text. Refused: duplicate members, numbers that are no integers of 64 bits, lone
/// surrogates, bytes that are not UTF-8, anything after the value, nesting deeper than
/// `serde_json`'s 128 levels, and more values than [`limits::JSON_VALUES`].
pub(crate) fn parse(file: &str, bytes: &[u8]) -> Result<Value, Denial> {
    // Zero where there are too many.
    let left = Cell::new(limits::JSON_VALUES + 1);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = Seed { left: &left }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    parsed.map_err(|error| match left.get() {
        0 => Denial::LimitExceeded {
            what: format!("the number of JSON values in {file}"),
            limit: limits::JSON_VALUES,
        },
        _ => Denial::MalformedMetadata { file: file.to_owned(), reason: reason(bytes, &error) },
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
pub(crate) fn canonical(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Integer(integer) => out.extend_from_slice(integer.to_string().as_bytes()),
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

#[derive(Clone, Copy)]
struct Seed<'c> {
    left: &'c Cell<u64>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.left.get().checked_sub(1) {
            Some(left) if left > 0 => self.left.set(left),
            _ => {
                self.left.set(0);
                return Err(D::Error::custom("too many values"));
            }
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value without fractions")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(name) = access.next_key::<String>()? {
            let value = access.next_value_seed(self)?;
            if members.contains_key(&name) {
                let name = shortened(&name);
                return Err(A::Error::custom(format_args!("member {name:?} is there twice")));
            }
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests;
