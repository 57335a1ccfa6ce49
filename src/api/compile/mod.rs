//! From resources as written to the validated forms that reviews use.

mod certificates;
mod connection;
mod policy;
mod scope;
mod source;
mod tuf;

pub(in crate::api) use connection::is_of_use;
pub(crate) use scope::is_dns_subdomain;
pub use scope::is_namespace;
pub use source::connect;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_verify::image::Pattern;
use countersign_verify::notary::Pins;
use countersign_verify::outcome::Denial;
use countersign_verify::policy::Policy;
use countersign_verify::tuf::InitialRoot;
use jiff::Timestamp;
use url::Url;

use super::{Document, Kind, Resources, bounds};

/// The validated forms of all resources.
#[derive(Debug, Default)]
pub struct Compiled {
    /// One a TrustPolicy, in the order read; one that does not compile denies what it matches.
    pub policies: Vec<Policy>,
    /// The TrustSources that compile, by name.
    pub sources: BTreeMap<String, Source>,
    /// The registries' hosts that an `include` names literally: those that may be contacted.
    pub registries: BTreeSet<String>,
    /// Everything that does not compile, and why.
    pub problems: Vec<Problem>,
}

/// A TrustSource, validated.
#[derive(Debug, Clone)]
pub struct Source {
    /// The resource's name.
    pub name: String,
    /// The same only where the URLs, the pins or initial root and the connection are: connections and
    /// refusals are kept by it. What was verified may outlive a change of some of these.
    pub fingerprint: [u8; 32],
    /// Where its metadata is, and what its trust begins with.
    pub kind: SourceKind,
    /// How to connect.
    pub connection: Connection,
    /// Metadata older than this is refreshed before it answers.
    pub refresh_after: Duration,
    /// Metadata whose last complete refresh is longer ago than this answers no more.
    pub refuse_after: Duration,
}

/// Where a source's metadata is, and what its trust begins with.
#[derive(Debug, Clone)]
pub enum SourceKind {
    /// A Notary server.
    Notary {
        /// The server.
        url: Url,
        /// Who may sign the roots of its repositories.
        pins: Arc<Pins>,
    },
    /// A TUF repository.
    Tuf {
        /// Its mirrors, in order.
        mirrors: Vec<Url>,
        /// `None` where it could not be read: see [`Connection::unread`].
        initial: Option<InitialRoot>,
        /// How many delegations the lookup of one image visits at most.
        max_delegations: usize,
    },
}

impl Source {
    /// Where its metadata is, in order; never empty.
    pub fn urls(&self) -> &[Url] {
        match &self.kind {
            SourceKind::Notary { url, .. } => std::slice::from_ref(url),
            SourceKind::Tuf { mirrors, .. } => mirrors,
        }
    }

    /// What its updates are counted by, so that none keeps the others': its first host.
    pub fn host(&self) -> String {
        let url = self.urls().first();
        url.map(connection::authority).unwrap_or_default()
    }
}

impl Connection {
    /// Whom to log in as at this URL's host.
    pub fn credentials(&self, url: &Url) -> Option<&Credentials> {
        let host = connection::authority(url);
        self.credentials.iter().find(|credentials| credentials.host == host)
    }
}

/// How to connect to a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connection {
    /// PEM certificates of the server's authority; `None` for the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Whom to log in as, by host.
    pub credentials: Vec<Credentials>,
    /// Hosts, with their ports, that a bearer challenge may send us to.
    pub token_hosts: Vec<String>,
    /// Why what it takes could not be read: the source is not asked.
    pub unread: Option<String>,
}

/// Whom to log in as, and where. Its password is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password or token.
    pub password: String,
    /// The host, with its port unless it is the scheme's, that the Secret holds them for.
    pub host: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("password", &"(hidden)")
            .field("host", &self.host)
            .finish()
    }
}

/// Why a resource does not compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The resource's kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Where it was read, as `policies.yaml, line 3`; `None` for the API server.
    pub place: Option<String>,
    /// The field's path.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub reason: String,
    /// The code of the denial that it makes, as `InvalidPolicy`.
    pub code: &'static str,
    /// Whether the fault is with another object that the resource names, which may be made or
    /// mended later: the order of creation does not matter.
    pub elsewhere: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{} \"{}\": {}: {}", self.kind, self.name, self.field, self.reason)
    }
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wrong {
    field: String,
    reason: String,
    code: &'static str,
    elsewhere: bool,
}

/// Most characters of a field's path, and of a reason: both may quote the resource, which may be as
/// large as a request, and both are in every rejection, in the status and in the log.
const SAID_CHARS: usize = 1024;

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(SAID_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn wrong<T>(field: impl Into<String>, reason: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong::new(field, reason))
}

impl Wrong {
    fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        let (field, reason) = (shortened(field.into()), shortened(reason.into()));
        Self { field, reason, code: "InvalidPolicy", elsewhere: false }
    }

    /// The same, where the fault is with another object that the field names.
    fn elsewhere(self) -> Self {
        Self { elsewhere: true, ..self }
    }

    fn problem<S>(&self, kind: &'static str, document: &Document<S>) -> Problem {
        Problem {
            kind,
            name: document.name.clone(),
            place: document.place.clone(),
            field: self.field.clone(),
            reason: self.reason.clone(),
            code: self.code,
            elsewhere: self.elsewhere,
        }
    }
}

/// Compiles all resources. It never fails as a whole: a policy that does not compile denies what
/// it matches, at its declared action, and everything where its scope cannot be read.
///
/// `now` is for the validity of certificates in pins.
pub fn compile(resources: &Resources, now: Timestamp) -> Compiled {
    let mut compiled = Compiled::default();
    let sources = source::compile_all(resources, now, &mut compiled.problems);
    let names = resources.policies.iter().map(|document| document.name.as_str());
    let duplicates = duplicates(names);
    for document in &resources.policies {
        let (mut policy, mut wrongs) = policy::compile(document, &sources);
        if duplicates.contains(document.name.as_str()) {
            let duplicate =
                Wrong::new("metadata.name", "another TrustPolicy has this name; rename one");
            policy.rule = policy::invalid(&duplicate);
            wrongs.insert(0, duplicate);
        }
        compiled.problems.extend(wrongs.iter().map(|wrong| wrong.problem(POLICY, document)));
        let hosts = policy.include.iter().filter_map(Pattern::literal_host);
        compiled.registries.extend(hosts.map(str::to_owned));
        compiled.policies.push(policy);
    }
    let usable = |(name, source): (String, Result<Source, Denial>)| Some((name, source.ok()?));
    compiled.sources = sources.into_iter().filter_map(usable).collect();
    compiled
}

const POLICY: &str = Kind::Policy.as_str();
const SOURCE: &str = Kind::Source.as_str();

/// The names that occur more than once.
fn duplicates<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
}

/// A list's names are its keys: each is given, short and there once.
fn check_names<'a>(field: &str, names: impl Iterator<Item = &'a str> + Clone) -> Result<(), Wrong> {
    for name in names.clone() {
        let plain =
            |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if name.is_empty() || name.len() > bounds::NAME_CHARS || !name.chars().all(plain) {
            return wrong(
                field,
                format!(
                    "name \"{}\" has to be 1 to {} letters, digits, dots, dashes and underscores",
                    name.escape_debug(),
                    bounds::NAME_CHARS
                ),
            );
        }
    }
    match duplicates(names).first() {
        Some(name) => wrong(field, format!("two items are named \"{name}\"; rename one")),
        None => Ok(()),
    }
}

/// A list has at least one item and at most `most`.
fn check_count(field: &str, count: usize, most: usize) -> Result<(), Wrong> {
    match count {
        0 => wrong(field, "it is empty; at least one item is required"),
        _ if count > most => {
            wrong(field, format!("it has {count} items, at most {most} are allowed"))
        }
        _ => Ok(()),
    }
}

/// A reason is one line of text.
fn check_reason(field: &str, reason: &str) -> Result<(), Wrong> {
    if reason.trim().is_empty() {
        return wrong(field, "it is empty; say why");
    }
    check_text(field, reason, bounds::REASON_CHARS)
}

/// One line of at most `most` characters.
fn check_text(field: &str, text: &str, most: usize) -> Result<(), Wrong> {
    if text.chars().any(char::is_control) {
        return wrong(field, "it has line breaks or control characters; write one line");
    }
    match text.chars().count() {
        count if count > most => {
            wrong(field, format!("it has {count} characters, at most {most} are allowed"))
        }
        _ => Ok(()),
    }
}

/// Patterns that say nothing of tags and digests.
fn name_patterns(field: &str, texts: &[String]) -> Result<Vec<Pattern>, Wrong> {
    let patterns = patterns(field, texts)?;
    match patterns.iter().position(|pattern| !pattern.is_name_only()) {
        Some(index) => wrong(
            format!("{field}[{index}]"),
            "it ends in a tag or digest, which only exceptions may; write registry/repository",
        ),
        None => Ok(patterns),
    }
}

fn patterns(field: &str, texts: &[String]) -> Result<Vec<Pattern>, Wrong> {
    let pattern = |(index, text): (usize, &String)| {
        Pattern::parse(text).map_err(|error| {
            let reason = format!("\"{}\" is not a pattern: {error}", text.escape_debug());
            Wrong::new(format!("{field}[{index}]"), reason)
        })
    };
    if texts.len() > bounds::PATTERNS {
        check_count(field, texts.len(), bounds::PATTERNS)?;
    }
    texts.iter().enumerate().map(pattern).collect()
}

#[cfg(test)]
mod tests;
