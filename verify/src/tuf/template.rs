//! Which target names an image: `{registry}/{repository}/{tag}`.

use std::fmt;

use crate::image::{Digest, Reference, is_tag};

/// A target path with placeholders for whole components.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Registry,
    Repository,
    Tag,
    Digest,
}

/// Why a string is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTemplate(pub String);

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            f.write_str(match part {
                Part::Literal(text) => text,
                Part::Registry => "{registry}",
                Part::Repository => "{repository}",
                Part::Tag => "{tag}",
                Part::Digest => "{digest}",
            })?;
        }
        Ok(())
    }
}

impl Template {
    /// Reads a template for tags: with `{tag}` once, and without `{digest}`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn for_tags(text: &str) -> Result<Self, InvalidTemplate> {
        Self::parse(text, &Part::Tag, "{tag}", "{digest}")
    }

    /// Reads a template for digests: with `{digest}` once, and without `{tag}`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn for_digests(text: &str) -> Result<Self, InvalidTemplate> {
        Self::parse(text, &Part::Digest, "{digest}", "{tag}")
    }

    fn parse(text: &str, own: &Part, name: &str, other: &str) -> Result<Self, InvalidTemplate> {
        let parts: Vec<Part> = text.split('/').map(part).collect::<Result<_, _>>()?;
        let count = |wanted: &Part| parts.iter().filter(|part| *part == wanted).count();
        if count(&Part::Tag) + count(&Part::Digest) != 1 || count(own) != 1 {
            let reason = format!("it has to have {name} once, and no {other}");
            return Err(InvalidTemplate(reason));
        }
        if count(&Part::Registry) > 1 || count(&Part::Repository) > 1 {
            return Err(InvalidTemplate("a placeholder is there twice".to_owned()));
        }
        Ok(Self(parts))
    }

    /// Whether `{registry}` is in it: where not, images of two hosts have one name.
    pub fn names_registry(&self) -> bool {
        self.0.contains(&Part::Registry)
    }

    /// Whether `{repository}` is in it: where not, images of two repositories have one name.
    pub fn names_repository(&self) -> bool {
        self.0.contains(&Part::Repository)
    }

    /// The name for a tag of the image's repository.
    pub(super) fn for_tag(&self, image: &Reference, tag: &str) -> String {
        self.render(image, |_| Some(tag.to_owned()))
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("/")
    }

    /// The name for a digest of the image's repository.
    pub(super) fn for_digest(&self, image: &Reference, digest: &Digest) -> String {
        let digest = digest.to_string();
        let parts = self.render(image, |_| Some(digest.clone()));
        parts.into_iter().flatten().collect::<Vec<_>>().join("/")
    }

    /// The components of every name for the image's repository; `None` is the tag's or digest's.
    pub(super) fn components(&self, image: &Reference) -> Vec<Option<String>> {
        self.render(image, |_| None)
    }

    fn render(
        &self,
        image: &Reference,
        own: impl Fn(&Part) -> Option<String>,
    ) -> Vec<Option<String>> {
        let mut components = Vec::new();
        for part in &self.0 {
            match part {
                Part::Literal(text) => components.push(Some(text.clone())),
                Part::Registry => components.push(Some(image.registry().to_owned())),
                Part::Repository => {
                    let path = image.repository().split('/');
                    components.extend(path.map(|component| Some(component.to_owned())));
                }
                Part::Tag | Part::Digest => components.push(own(part)),
            }
        }
        components
    }

    /// Whether this gives `name` for some tag of the repository with these components.
    pub(super) fn gives(components: &[Option<String>], name: &str) -> bool {
        let mut wanted = components.iter();
        let all = name.split('/').all(|component| match wanted.next() {
            Some(Some(literal)) => literal == component,
            Some(None) => is_tag(component),
            None => false,
        });
        all && wanted.next().is_none()
    }
}

fn part(text: &str) -> Result<Part, InvalidTemplate> {
    Ok(match text {
        "{registry}" => Part::Registry,
        "{repository}" => Part::Repository,
        "{tag}" => Part::Tag,
        "{digest}" => Part::Digest,
        _ if text.contains(['{', '}']) => {
            return Err(InvalidTemplate(format!(
                "\"{text}\" is not {{registry}}, {{repository}}, {{tag}} or {{digest}}; a placeholder is a whole component"
            )));
        }
        _ if matches!(text, "" | "." | "..")
            || text.contains(|c: char| c.is_control() || c == '\\') =>
        {
            return Err(InvalidTemplate(format!(
                "\"{}\" cannot be a component",
                text.escape_debug()
            )));
        }
        _ => Part::Literal(text.to_owned()),
    })
}
