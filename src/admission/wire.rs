//! The parts of a request's objects that matter here, borrowed from their bytes.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A string, borrowed where it has no escapes; empty where it is null.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or null")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_unit<E: Error>(self) -> Result<Text<'de>, E> {
                Ok(Text::default())
            }
        }

        deserializer.deserialize_any(TextVisitor)
    }
}

/// `group` and `kind`, or `group` and `resource`; the version decides nothing here.
#[derive(Debug, Default, Deserialize)]
pub(super) struct GroupName<'a> {
    #[serde(borrow, default)]
    pub(super) group: Text<'a>,
    #[serde(borrow, default, alias = "resource")]
    pub(super) kind: Text<'a>,
}

/// A pod's images, as whom they are pulled, and nothing else of it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodSpec<'a> {
    #[serde(borrow, default, deserialize_with = "few")]
    pub(super) containers: Option<Vec<Container<'a>>>,
    #[serde(borrow, default, deserialize_with = "few")]
    pub(super) init_containers: Option<Vec<Container<'a>>>,
    #[serde(borrow, default, deserialize_with = "few")]
    pub(super) ephemeral_containers: Option<Vec<Container<'a>>>,
    #[serde(borrow, default, deserialize_with = "few")]
    pub(super) volumes: Option<Vec<Volume<'a>>>,
    #[serde(borrow, default)]
    pub(super) service_account_name: Text<'a>,
    #[serde(borrow, default, deserialize_with = "few")]
    pub(super) image_pull_secrets: Option<Vec<Named<'a>>>,
}

/// Most entries of a list that are read. They take more memory here than on the wire, and a pod has
/// a handful.
const ENTRIES: usize = 4096;

/// A list of at most [`ENTRIES`]; `None` where it is null.
fn few<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Few<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Few<T> {
        type Value = Option<Vec<T>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {ENTRIES} entries")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = list.next_element()? {
                if entries.len() == ENTRIES {
                    return Err(A::Error::invalid_length(ENTRIES + 1, &self));
                }
                entries.push(entry);
            }
            Ok(Some(entries))
        }
    }

    deserializer.deserialize_any(Few(PhantomData))
}

/// Something by its name.
#[derive(Debug, Deserialize)]
pub(super) struct Named<'a> {
    #[serde(borrow, default)]
    pub(super) name: Text<'a>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Container<'a> {
    #[serde(borrow, default)]
    pub(super) name: Text<'a>,
    #[serde(borrow, default)]
    pub(super) image: Text<'a>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Volume<'a> {
    #[serde(borrow, default)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) image: Option<ImageVolume<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ImageVolume<'a> {
    #[serde(borrow, default)]
    pub(super) reference: Text<'a>,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    pub(super) fn read(text: &str) -> Option<Self> {
        match text {
            "CREATE" => Some(Self::Create),
            "UPDATE" => Some(Self::Update),
            "DELETE" => Some(Self::Delete),
            "CONNECT" => Some(Self::Connect),
            _ => None,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// An object, as far as it was looked at.
#[derive(Debug, Default)]
pub(super) enum Object<'a> {
    /// Missing or null.
    #[default]
    Absent,
    /// There, and not looked into.
    Skipped,
    /// There; `None` where it has no pod spec.
    Read(Option<PodSpec<'a>>),
}

/// Reads an object by the steps to its pod spec; `None` skips it.
pub(super) struct ObjectSeed<'s>(pub(super) Option<&'s [Cow<'static, str>]>);

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_> {
    type Value = Object<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for ObjectSeed<'_> {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Object::Absent)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            None => IgnoredAny::deserialize(deserializer).map(|IgnoredAny| Object::Skipped),
            Some(steps) => Descend(steps).deserialize(deserializer).map(Object::Read),
        }
    }
}

/// Follows the steps through nested objects; null or missing on the way is `None`.
struct Descend<'s>(&'s [Cow<'static, str>]);

impl<'de> DeserializeSeed<'de> for Descend<'_> {
    type Value = Option<PodSpec<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            [] => Deserialize::deserialize(deserializer),
            _ => deserializer.deserialize_option(self),
        }
    }
}

impl<'de> Visitor<'de> for Descend<'_> {
    type Value = Option<PodSpec<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")?;
        self.0.first().map_or(Ok(()), |step| write!(f, " with the member {step}"))
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((step, rest)) = self.0.split_first() else { return Ok(None) };
        let mut found = None;
        while let Some(key) = map.next_key::<Text<'de>>()? {
            if *key != **step {
                map.next_value::<IgnoredAny>()?;
            } else if found.is_some() {
                return Err(A::Error::custom(format_args!("duplicate field `{step}`")));
            } else {
                found = Some(map.next_value_seed(Descend(rest))?);
            }
        }
        Ok(found.flatten())
    }
}
