//! TUF repositories, and what is looked up in them.

use std::collections::BTreeSet;

use countersign_verify::image::Pattern;
use countersign_verify::limits;
use countersign_verify::tuf::{Accept, InitialRoot, Lookup, Template};
use url::Url;

use super::connection::{self, ROOT_KEY_END};
use super::source::url;
use super::{Connection, SourceKind, Wrong, check_count, wrong};
use crate::api::{Resources, RootRef, TrustSourceSpec, TufLookup, TufSource, bounds};

/// Any role, in `acceptRoles`.
const ANY: &str = "*";

/// Roles that sign no targets.
const NOT_TARGETS: [&str; 3] = ["root", "timestamp", "snapshot"];

/// A TUF source and how to connect to it.
pub(super) fn source(
    spec: &TrustSourceSpec,
    tuf: &TufSource,
    resources: &Resources,
) -> Result<(SourceKind, Connection), Wrong> {
    let mirrors = mirrors(&tuf.metadata_urls)?;
    let servers: Vec<&Url> = mirrors.iter().filter(|url| url.scheme() != "file").collect();
    if servers.is_empty() && spec.connection.is_some() {
        return wrong("spec.connection", "a file: URL has no connection; remove it");
    }
    let max_delegations = max_delegations(tuf.max_delegations)?;
    let connection = connection::compile(spec, &servers, resources)?;
    let initial = match connection.unread {
        Some(_) => None,
        None => Some(initial_root(&tuf.root_ref, resources)?),
    };
    Ok((SourceKind::Tuf { mirrors, initial, max_delegations }, connection))
}

fn mirrors(texts: &[String]) -> Result<Vec<Url>, Wrong> {
    let field = "spec.tuf.metadataURLs";
    check_count(field, texts.len(), bounds::MIRRORS)?;
    let mut mirrors = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let mirror = mirror(&field, text)?;
        if mirrors.contains(&mirror) {
            return wrong(field, "it is listed twice; remove one");
        }
        mirrors.push(mirror);
    }
    Ok(mirrors)
}

fn mirror(field: &str, text: &str) -> Result<Url, Wrong> {
    let Ok(file) = Url::parse(text) else { return url(field, text) };
    if file.scheme() != "file" {
        return url(field, text);
    }
    let is_folder = file.to_file_path().is_ok() && file.query().is_none();
    if text.len() > bounds::URL_CHARS || !is_folder || file.fragment().is_some() {
        return wrong(field, "it is not file:/// and the absolute path of a mounted folder");
    }
    Ok(file)
}

fn max_delegations(given: Option<u32>) -> Result<usize, Wrong> {
    match given {
        None => Ok(limits::DELEGATIONS),
        Some(given) if given == 0 || given > bounds::MAX_DELEGATIONS => wrong(
            "spec.tuf.maxDelegations",
            format!("{given} is not within 1 and {}", bounds::MAX_DELEGATIONS),
        ),
        Some(given) => Ok(usize::try_from(given).unwrap_or(limits::DELEGATIONS)),
    }
}

fn initial_root(reference: &RootRef, resources: &Resources) -> Result<InitialRoot, Wrong> {
    let field = "spec.tuf.rootRef";
    let key = &reference.key;
    let (kind, name, data) = match (&reference.config_map, &reference.secret) {
        (Some(name), None) => ("ConfigMap", name, resources.config_maps.get(name)),
        (None, Some(_)) if !key.ends_with(ROOT_KEY_END) => {
            let field = format!("{field}.key");
            return wrong(field, format!("the key of a Secret has to end in {ROOT_KEY_END}"));
        }
        (None, Some(name)) => ("Secret", name, resources.secrets.get(name).map(|data| &data.0)),
        _ => return wrong(field, "exactly one of configMap and secret is required"),
    };
    let missing = |reason: String| Wrong::new(field, reason).elsewhere();
    let Some(data) = data else {
        return Err(missing(format!(
            "{kind} \"{name}\" does not exist; it has to be in Countersign's namespace, or among the files"
        )));
    };
    let Some(bytes) = data.get(key) else {
        return Err(missing(format!("{kind} \"{name}\" has no key \"{key}\"")));
    };
    InitialRoot::read(bytes).map_err(|denial| {
        missing(format!(
            "key \"{key}\" of {kind} \"{name}\" is not an initial root: {denial}; put the root.json there that the repository's owner gave you"
        ))
    })
}

/// What an authority of a policy for these images is looked up by.
pub(super) fn lookup(field: &str, spec: &TufLookup, include: &[Pattern]) -> Result<Lookup, Wrong> {
    let accept = accept(field, spec)?;
    let target = template(&format!("{field}.target"), &spec.target, include, Template::for_tags)?;
    let digest_target = spec.digest_target.as_ref().map(|text| {
        template(&format!("{field}.digestTarget"), text, include, Template::for_digests)
    });
    Ok(Lookup { target, digest_target: digest_target.transpose()?, accept })
}

fn template<E: std::fmt::Display>(
    field: &str,
    text: &str,
    include: &[Pattern],
    read: impl Fn(&str) -> Result<Template, E>,
) -> Result<Template, Wrong> {
    if text.len() > bounds::TARGET_CHARS {
        return wrong(field, format!("it is longer than {} bytes", bounds::TARGET_CHARS));
    }
    let template = read(text).map_err(|error| Wrong::new(field, error.to_string()))?;
    if !template.names_registry() && !is_one(include.iter().map(Pattern::literal_host)) {
        return wrong(
            field,
            "without {registry} images of two hosts have one name: write it, or let spec.match.images.include name one literal host",
        );
    }
    if !template.names_repository() && !is_one(include.iter().map(Pattern::literal_name)) {
        return wrong(
            field,
            "without {repository} images of two repositories have one name: write it, or let spec.match.images.include name one literal repository",
        );
    }
    Ok(template)
}

/// Whether there are some, and all are the same.
fn is_one<T: Ord>(all: impl Iterator<Item = Option<T>>) -> bool {
    let all: BTreeSet<Option<T>> = all.collect();
    all.len() == 1 && !all.contains(&None)
}

fn accept(field: &str, spec: &TufLookup) -> Result<Accept, Wrong> {
    match (&spec.accept_roles, &spec.require_roles) {
        (Some(roles), None) => {
            check_roles(&format!("{field}.acceptRoles"), roles, true)?;
            Ok(Accept::Any(roles.clone()))
        }
        (None, Some(roles)) => {
            check_roles(&format!("{field}.requireRoles"), roles, false)?;
            Ok(Accept::All(roles.clone()))
        }
        (Some(_), Some(_)) => {
            wrong(field, "acceptRoles and requireRoles exclude each other; remove one")
        }
        (None, None) => wrong(
            field,
            "one of acceptRoles and requireRoles is required; acceptRoles: [\"*\"] accepts every role that the repository lets sign the name",
        ),
    }
}

fn check_roles(field: &str, roles: &[String], any: bool) -> Result<(), Wrong> {
    check_count(field, roles.len(), bounds::ROLES)?;
    let mut seen = BTreeSet::new();
    for (index, role) in roles.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let is_name = !role.is_empty()
            && role.len() <= limits::ROLE_NAME_BYTES
            && !role.chars().any(char::is_control)
            && !NOT_TARGETS.contains(&role.as_str());
        let role_shown = role.escape_debug();
        if !is_name {
            return wrong(
                field,
                format!(
                    "\"{role_shown}\" is not a role that signs targets: targets, or the name of a delegated role"
                ),
            );
        }
        if role == ANY && !any {
            return wrong(
                field,
                "\"*\" is for acceptRoles; name every role that has to have signed",
            );
        }
        if !seen.insert(role) {
            return wrong(field, format!("\"{role_shown}\" is listed twice"));
        }
    }
    Ok(())
}
