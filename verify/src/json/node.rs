//! Typed reading of parsed JSON, with errors that name the file and the member.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;

use super::{Object, Value};
use crate::hash::unhex;
use crate::outcome::{Denial, shortened};
use crate::sorted::Sorted;

/// A value, and where it is.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    file: &'a str,
    name: &'a str,
    value: &'a Value<'a>,
}

impl<'a> Node<'a> {
    /// The whole of `file`.
    pub(crate) fn whole(file: &'a str, value: &'a Value<'a>) -> Self {
        Self { file, name: "the file", value }
    }

    /// The file that it is in.
    pub(crate) fn file(&self) -> &'a str {
        self.file
    }

    /// A refusal that names the file.
    pub(crate) fn malformed(&self, reason: impl Into<String>) -> Denial {
        Denial::MalformedMetadata { file: self.file.to_owned(), reason: reason.into() }
    }

    fn is_not(&self, what: &str) -> Denial {
        self.malformed(format!("{:?} is not {what}", shortened(self.name)))
    }

    /// An object's members.
    pub(crate) fn object(&self) -> Result<&'a Object<'a>, Denial> {
        match self.value {
            Value::Object(members) => Ok(members),
            _ => Err(self.is_not("an object")),
        }
    }

    /// A member that has to be there.
    pub(crate) fn get(&self, name: &'a str) -> Result<Self, Denial> {
        let value = self.object()?.get(name);
        let value = value.ok_or_else(|| self.malformed(format!("it has no \"{name}\"")))?;
        Ok(Self { file: self.file, name, value })
    }

    /// A member that may be absent or null: Go writes an empty list or map as null.
    pub(crate) fn optional(&self, name: &'a str) -> Result<Option<Self>, Denial> {
        Ok(match self.object()?.get(name) {
            None | Some(Value::Null) => None,
            Some(value) => Some(Self { file: self.file, name, value }),
        })
    }

    /// An object's members, by name, each with its place.
    pub(crate) fn members(
        &self,
    ) -> Result<impl ExactSizeIterator<Item = (&'a str, Self)> + use<'a>, Denial> {
        let file = self.file;
        let members = self.object()?.iter();
        Ok(members.map(move |(name, value)| (name, Self { file, name, value })))
    }

    /// What each member of an object holds, by name.
    pub(crate) fn each_member<T>(
        &self,
        read: impl Fn(Self) -> Result<T, Denial>,
    ) -> Result<Sorted<Box<str>, T>, Denial> {
        let members = self.members()?;
        let mut all = Vec::with_capacity(members.len());
        for (name, node) in members {
            all.push((name.into(), read(node)?));
        }
        self.sorted(all)
    }

    /// Values by names, each of which may be there once.
    pub(crate) fn sorted<T>(&self, all: Vec<(Box<str>, T)>) -> Result<Sorted<Box<str>, T>, Denial> {
        let twice = |name: String| format!("{:?} is there twice", shortened(&name));
        Sorted::new(all).map_err(|name| self.malformed(twice(name)))
    }

    /// The elements.
    pub(crate) fn elements(&self) -> Result<impl ExactSizeIterator<Item = Self> + use<'a>, Denial> {
        let Self { file, name, value } = *self;
        match value {
            Value::Array(values) => Ok(values.iter().map(move |value| Self { file, name, value })),
            _ => Err(self.is_not("a list")),
        }
    }

    /// A string.
    pub(crate) fn string(&self) -> Result<&'a str, Denial> {
        match self.value {
            Value::String(text) => Ok(text),
            _ => Err(self.is_not("a string")),
        }
    }

    /// An integer of at least 0.
    pub(crate) fn unsigned(&self) -> Result<u64, Denial> {
        match self.value {
            Value::Unsigned(integer) => Ok(*integer),
            _ => Err(self.is_not("a whole number of 64 bits")),
        }
    }

    /// An integer of at least 1.
    pub(crate) fn positive(&self) -> Result<u64, Denial> {
        match self.unsigned()? {
            0 => Err(self.is_not("at least 1")),
            number => Ok(number),
        }
    }

    /// Bytes in padded base64 of the standard alphabet.
    pub(crate) fn base64(&self) -> Result<Vec<u8>, Denial> {
        BASE64_STANDARD.decode(self.string()?).map_err(|_| self.is_not("base64"))
    }

    /// So many bytes in base64.
    pub(crate) fn bytes<const N: usize>(&self) -> Result<[u8; N], Denial> {
        self.base64()?.try_into().map_err(|_| self.is_not(&format!("{N} bytes in base64")))
    }

    /// So many bytes in hex.
    pub(crate) fn hex<const N: usize>(&self) -> Result<[u8; N], Denial> {
        let bytes = unhex(self.string()?).and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| self.is_not(&format!("{N} bytes in hex")))
    }

    /// True or false.
    pub(crate) fn boolean(&self) -> Result<bool, Denial> {
        match self.value {
            Value::Bool(value) => Ok(*value),
            _ => Err(self.is_not("true or false")),
        }
    }

    /// As canonical JSON.
    pub(crate) fn canonical(&self) -> String {
        String::from_utf8_lossy(&super::canonical(self.value)).into_owned()
    }

    /// A time by RFC 3339.
    pub(crate) fn time(&self) -> Result<Timestamp, Denial> {
        self.string()?.parse().map_err(|_| self.is_not("a time by RFC 3339"))
    }
}
