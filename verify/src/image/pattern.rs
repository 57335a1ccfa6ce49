//! Patterns over references, matched component by component.

use super::Digest;
use super::Reference;
use super::grammar::{is_host, is_path_component, is_tag, looks_like_host};
use super::reference::{DOCKER_HUB, DOCKER_HUB_LEGACY};
use crate::limits::REFERENCE_BYTES;

/// A pattern such as `registry.example.com/payments/**`.
///
/// Its first component is the registry's host with its port, the others are the repository's
/// path. `*` stands for any run of characters within one component; `**`, alone in its component,
/// for any number of components below the host, none included; as the first component for any
/// host and any number of components. `:tag` or `@sha256:...` at the end is literal and covers
/// only references with that tag or that digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    text: String,
    name_len: usize,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a string is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPattern(pub String);

const ANY_PATH: &str = "**";

impl Pattern {
    /// Reads a pattern. What could never match a normalised reference is an error.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        if text.is_empty() {
            return invalid("it is empty");
        }
        if text.len() > REFERENCE_BYTES {
            return invalid(format!("it is longer than {REFERENCE_BYTES} bytes"));
        }
        if text.contains("://") {
            return invalid("it is a URL; write it without the scheme, as registry/repository");
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = Digest::parse(digest).map_err(|error| InvalidPattern(error.0))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return invalid(format!(
                "\"{}\" is not a tag; a pattern's tag is literal",
                tag.escape_debug()
            ));
        }
        check_name(name)?;
        let host_len = name.find('/').unwrap_or(name.len());
        let text = format!("{}{}", text[..host_len].to_ascii_lowercase(), &text[host_len..]);
        Ok(Self { text, name_len: name.len(), tag: tag.map(str::to_owned), digest })
    }

    /// The pattern `**`, which covers every image.
    pub fn everything() -> Self {
        Self { text: ANY_PATH.to_owned(), name_len: ANY_PATH.len(), tag: None, digest: None }
    }

    /// Whether the reference is covered.
    pub fn matches(&self, image: &Reference) -> bool {
        let tag = self.tag.is_none() || self.tag.as_deref() == image.tag();
        let digest = self.digest.is_none() || self.digest.as_ref() == image.digest();
        tag && digest && self.matches_name(image.name())
    }

    /// Whether `name`, a normalised `registry/repository`, is covered. A tag or digest of the
    /// pattern is left aside.
    pub fn matches_name(&self, name: &str) -> bool {
        let patterns: Vec<&str> = self.components().collect();
        let components: Vec<&str> = name.split('/').collect();
        let (Some((pattern_host, pattern_path)), Some((host, path))) =
            (patterns.split_first(), components.split_first())
        else {
            return false;
        };
        // As the first component, `**` is any host and any path.
        let pattern_path = if *pattern_host == ANY_PATH { &patterns[..] } else { pattern_path };
        covers(pattern_host, host)
            && glob(pattern_path, path, |pattern| *pattern == ANY_PATH, |p, text| covers(p, text))
    }

    /// Whether it says nothing of tags and digests.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// The host, where it is literal.
    pub fn literal_host(&self) -> Option<&str> {
        self.components().next().filter(|host| !host.contains('*'))
    }

    /// The whole `registry/repository`, where it is literal.
    pub fn literal_name(&self) -> Option<&str> {
        Some(self.name()).filter(|name| !name.contains('*'))
    }

    /// The literal components that it begins with, joined by `/`; empty where the host is not
    /// literal.
    pub fn literal_prefix(&self) -> &str {
        let name = self.name();
        match name.find('*') {
            Some(star) => name[..star].rfind('/').map_or("", |end| &name[..end]),
            None => name,
        }
    }

    /// How many components are literal: the more, the more specific.
    pub fn specificity(&self) -> usize {
        self.components().filter(|component| !component.contains('*')).count()
    }

    /// How many bytes of its name are literal: tells `example.com/team-*/**` from
    /// `example.com/**`, whose literal components are as many.
    pub fn literal_bytes(&self) -> usize {
        self.name().bytes().filter(|byte| *byte != b'*').count()
    }

    /// The pattern as written, with its host in lower case.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn name(&self) -> &str {
        &self.text[..self.name_len]
    }

    fn components(&self) -> impl Iterator<Item = &str> {
        self.name().split('/')
    }
}

/// Whether one component of a pattern covers one of a name.
fn covers(pattern: &str, text: &str) -> bool {
    glob(pattern.as_bytes(), text.as_bytes(), |byte| *byte == b'*', |p, byte| p == byte)
}

/// Whether `pattern` covers the whole of `text`; a star covers any run of items, also an empty
/// one. Only the last star is ever moved: an earlier one that takes more cannot help a later one.
/// So the work is at most the product of both lengths.
fn glob<P, T>(
    pattern: &[P],
    text: &[T],
    is_star: impl Fn(&P) -> bool,
    one: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(item) if is_star(item) => {
                last_star = Some((p, t));
                p += 1;
            }
            Some(item) if one(item, &text[t]) => {
                p += 1;
                t += 1;
            }
            _ => match last_star {
                Some((star, taken)) => (p, t) = (star, taken + 1),
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(is_star)
}

fn invalid<T>(reason: impl Into<String>) -> Result<T, InvalidPattern> {
    Err(InvalidPattern(reason.into()))
}

/// Colons of the host, the port's and IPv6's, start no tag.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    if let Some(tag) = text.strip_prefix("**:") {
        return (ANY_PATH, Some(tag));
    }
    let host_len = text.find('/').unwrap_or(text.len());
    match text[host_len..].find(':') {
        Some(colon) => (&text[..host_len + colon], Some(&text[host_len + colon + 1..])),
        None => (text, None),
    }
}

fn check_name(name: &str) -> Result<(), InvalidPattern> {
    if name == ANY_PATH {
        return Ok(());
    }
    let Some((host, path)) = name.split_once('/') else {
        return without_path(name);
    };
    check_host(host, path)?;
    let mut previous = host;
    for component in path.split('/') {
        check_component(component)?;
        if component == ANY_PATH && previous == ANY_PATH {
            return invalid("** follows **; one is enough");
        }
        previous = component;
    }
    if host == DOCKER_HUB && path != ANY_PATH && !path.contains('/') {
        return invalid(format!(
            "repositories of {DOCKER_HUB} have two components; write {DOCKER_HUB}/library/{path}"
        ));
    }
    Ok(())
}

fn without_path(name: &str) -> Result<(), InvalidPattern> {
    let shown = name.escape_debug();
    if name == "*" {
        invalid("\"*\" covers one component; write ** for every image")
    } else if looks_like_host(name) && is_host(name) {
        invalid(format!("it names no repository; write {shown}/** for all of this registry"))
    } else {
        invalid(format!("its first component is no registry; write {DOCKER_HUB}/library/{shown}"))
    }
}

fn check_host(host: &str, path: &str) -> Result<(), InvalidPattern> {
    let shown = host.escape_debug();
    if host.contains('*') {
        return check_wildcard_host(host);
    }
    if !looks_like_host(&host.to_ascii_lowercase()) {
        return invalid(format!(
            "\"{shown}\" is no registry; write {DOCKER_HUB}/{shown}/{}, or the registry's host first",
            path.escape_debug()
        ));
    }
    if !is_host(host) {
        return invalid(format!("\"{shown}\" is not a registry's host"));
    }
    if host.eq_ignore_ascii_case(DOCKER_HUB_LEGACY) {
        return invalid(format!("write {DOCKER_HUB} instead of {shown}"));
    }
    Ok(())
}

fn check_wildcard_host(host: &str) -> Result<(), InvalidPattern> {
    let shown = host.escape_debug();
    if host == "*" || host == ANY_PATH {
        return Ok(());
    }
    if host.contains(ANY_PATH) {
        return invalid(format!("in \"{shown}\", ** has to stand alone"));
    }
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]*".contains(&byte)) {
        return invalid(format!("\"{shown}\" is not a registry's host"));
    }
    // `registry.example.com*` would cover registry.example.com.evil.example too.
    let any_port = host.strip_suffix(":*").is_some_and(is_host);
    if host.ends_with('*') && !any_port {
        return invalid(format!(
            "\"{shown}\" would cover hosts of any domain; a host's * stands before its literal end, as in *.example.com, or for the port, as in registry.example.com:*"
        ));
    }
    Ok(())
}

fn check_component(component: &str) -> Result<(), InvalidPattern> {
    let shown = component.escape_debug();
    if component.is_empty() {
        return invalid("it has an empty component");
    }
    if component.chars().any(char::is_uppercase) {
        return invalid(format!("\"{shown}\" has to be in lower case, as repositories are"));
    }
    if component != ANY_PATH && component.contains(ANY_PATH) {
        return invalid(format!("in \"{shown}\", ** has to stand alone between slashes"));
    }
    let wildcard =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-*".contains(&byte);
    let valid = match component.contains('*') {
        true => component.bytes().all(wildcard),
        false => is_path_component(component),
    };
    if valid {
        Ok(())
    } else {
        invalid(format!("\"{shown}\" can be no part of a repository's path"))
    }
}

#[cfg(test)]
mod tests;
