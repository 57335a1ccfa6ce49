//! JSON, read once: the typed values and the bytes that signatures cover come from one parse.

mod node;

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use crate::limits;
use crate::outcome::{Denial, shortened};

pub(crate) use node::Node;

/// A JSON value as signed metadata may hold it: integers only, no member twice. Small, and nothing
/// of it is larger than it has to be: whoever writes an unverified file chooses what it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// At least 0.
    Unsigned(u64),
    /// Below 0.
    Negative(i64),
    String(Box<str>),
    Array(Box<[Value]>),
    Object(Members),
}

/// An object's members, sorted by their names' bytes, no name twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Members(Box<[(Box<str>, Value)]>);

impl Members {
    /// Sorts them; the name of one that is there twice, if there is any.
    pub(crate) fn new(mut members: Vec<(Box<str>, Value)>) -> Result<Self, Box<str>> {
        members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        match members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(pair[0].0.clone()),
            None => Ok(Self(members.into())),
        }
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.0.binary_search_by(|(member, _)| (**member).cmp(name)).ok()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.position(name).map(|position| &self.0[position].1)
    }

    pub(crate) fn iter(
        &self,
    ) -> impl DoubleEndedIterator<Item = (&str, &Value)> + ExactSizeIterator {
        self.0.iter().map(|(name, value)| (&**name, value))
    }
}

impl Value {
    /// Takes an object's member out, which is null then; null where there is none.
    pub(crate) fn take(&mut self, name: &str) -> Self {
        if let Self::Object(members) = self
            && let Some(position) = members.position(name)
        {
            return std::mem::replace(&mut members.0[position].1, Self::Null);
        }
        Self::Null
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
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(u64::try_from(value).map_or(Value::Negative(value), Value::Unsigned))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.into()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = access.next_key::<Box<str>>()? {
            members.push((name, access.next_value_seed(self)?));
        }
        Members::new(members).map(Value::Object).map_err(|name| {
            let name = shortened(&name);
            A::Error::custom(format_args!("member {name:?} is there twice"))
        })
    }
}

#[cfg(test)]
mod tests;
