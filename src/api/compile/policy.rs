//! TrustPolicies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign_verify::image::Pattern;
use countersign_verify::notary::{self, is_targets_role};
use countersign_verify::outcome::Denial;
use countersign_verify::policy::{Action, Authority, Exception, Lookup, Policy, Rule, Tags};
use jiff::Timestamp;
use url::Url;

use super::scope::{self, Scope, is_namespace};
use super::{
    Source, SourceKind, Wrong, check_count, check_names, check_reason, check_text, patterns, tuf,
    wrong,
};
use crate::api::{
    ActionName, Authority as AuthoritySpec, Document, Exception as ExceptionSpec, LabelSelector,
    LookupKind, Match, NotaryLookup, TagsRule, TrustPolicySpec, Unreadable, Verify, bounds,
};

/// TrustSources by name: each one compiled, or why not.
pub(super) type Sources = BTreeMap<String, Result<Source, Denial>>;

pub(super) fn invalid(wrong: &Wrong) -> Rule {
    let Wrong { field, reason, .. } = wrong.clone();
    Rule::Invalid(Denial::InvalidPolicy { field, reason })
}

/// The policy, and what is wrong with it. A wrong source leaves the policy's rule standing, for
/// its other authorities may be enough.
pub(super) fn compile(
    document: &Document<TrustPolicySpec>,
    sources: &Sources,
) -> (Policy, Vec<Wrong>) {
    let spec = match &document.spec {
        Ok(spec) => spec,
        Err(unreadable) => return unreadable_policy(&document.name, unreadable),
    };
    let (scope, mut wrongs) = scope::compile(&spec.r#match);
    let mut source_wrongs = Vec::new();
    let rule = keep(&mut wrongs, rule(spec, &scope.include, sources, &mut source_wrongs));
    let exceptions = keep(&mut wrongs, exceptions(&spec.exceptions));
    let help = keep(&mut wrongs, spec.help.as_deref().map(help).transpose());
    let rule = match (wrongs.first(), rule) {
        (None, Some(rule)) => rule,
        (Some(wrong), _) => invalid(wrong),
        (None, None) => invalid(&Wrong::new("spec", "unreadable")),
    };
    wrongs.append(&mut source_wrongs);
    let policy = Policy {
        name: document.name.clone(),
        include: scope.include,
        exclude: scope.exclude,
        namespaces: scope.namespaces,
        action: action(spec.action),
        tags: match spec.tags {
            TagsRule::Float => Tags::Float,
            TagsRule::PinDigest => Tags::PinDigest,
            TagsRule::RequireDigest => Tags::RequireDigest,
        },
        exceptions: match rule {
            Rule::Invalid(_) => Vec::new(),
            _ => exceptions.unwrap_or_default(),
        },
        rule,
        disclose: spec.disclose,
        help: help.flatten(),
    };
    (policy, wrongs)
}

fn keep<T>(wrongs: &mut Vec<Wrong>, result: Result<T, Wrong>) -> Option<T> {
    result.map_err(|wrong| wrongs.push(wrong)).ok()
}

fn action(name: ActionName) -> Action {
    match name {
        ActionName::Audit => Action::Audit,
        ActionName::Warn => Action::Warn,
        ActionName::Deny => Action::Deny,
    }
}

/// Its scope and action hold as far as they can be read on their own.
fn unreadable_policy(name: &str, unreadable: &Unreadable) -> (Policy, Vec<Wrong>) {
    let Unreadable { field, reason, spec } = unreadable;
    let mut wrongs = vec![Wrong::new(field, reason)];
    let part = |field: &str| spec.get(field).cloned().unwrap_or_default();
    let scope = match serde_json::from_value::<Match>(part("match")) {
        Ok(scope) => {
            let (scope, mut scope_wrongs) = scope::compile(&scope);
            wrongs.append(&mut scope_wrongs);
            scope
        }
        Err(_) => Scope::everything(),
    };
    let declared = serde_json::from_value::<ActionName>(part("action"));
    let policy = Policy {
        name: name.to_owned(),
        include: scope.include,
        exclude: scope.exclude,
        namespaces: scope.namespaces,
        action: action(declared.unwrap_or_default()),
        tags: Tags::PinDigest,
        rule: invalid(&wrongs[0]),
        exceptions: Vec::new(),
        disclose: false,
        help: None,
    };
    (policy, wrongs)
}

fn rule(
    spec: &TrustPolicySpec,
    include: &[Pattern],
    sources: &Sources,
    source_wrongs: &mut Vec<Wrong>,
) -> Result<Rule, Wrong> {
    match (&spec.verify, &spec.allow_unverified) {
        (Some(verify), None) => verify_rule(verify, include, sources, source_wrongs),
        (None, Some(allow)) => {
            check_reason("spec.allowUnverified.reason", &allow.reason)?;
            // Without these two the policy would speak for more images, and let them in.
            if spec.r#match.images.exclude.is_none() {
                return wrong(
                    "spec.match.images.exclude",
                    "allowUnverified needs it written out; write [] to exclude nothing",
                );
            }
            let selector = spec.r#match.namespace_selector.as_ref();
            if !selector.is_some_and(LabelSelector::is_written_out) {
                return wrong(
                    "spec.match.namespaceSelector",
                    "allowUnverified needs its matchLabels or matchExpressions written out; write {matchLabels: {}} for every namespace",
                );
            }
            Ok(Rule::AllowUnverified { reason: allow.reason.clone() })
        }
        (Some(_), Some(_)) => {
            wrong("spec", "verify and allowUnverified exclude each other; remove one")
        }
        (None, None) => wrong("spec", "one of verify and allowUnverified is required"),
    }
}

fn verify_rule(
    spec: &Verify,
    include: &[Pattern],
    sources: &Sources,
    source_wrongs: &mut Vec<Wrong>,
) -> Result<Rule, Wrong> {
    let field = "spec.verify.authorities";
    let count = spec.authorities.len();
    check_count(field, count, bounds::AUTHORITIES)?;
    check_names(field, spec.authorities.iter().map(|authority| authority.name.as_str()))?;
    let min_field = "spec.verify.minAuthorities";
    let min_authorities = match spec.min_authorities {
        None if count == 1 => 1,
        None => return wrong(min_field, "it is required with more than one authority"),
        Some(0) => return wrong(min_field, "it has to be at least 1"),
        Some(min) => usize::try_from(min).unwrap_or(usize::MAX),
    };
    if min_authorities > count {
        return wrong(
            min_field,
            format!("{min_authorities} can never be met: the number of authorities is {count}"),
        );
    }
    let mut seen: BTreeMap<(&str, &str, BTreeSet<&str>), &str> = BTreeMap::new();
    let mut authorities = Vec::new();
    for authority_spec in &spec.authorities {
        let field = format!("{field}[name={}]", authority_spec.name);
        let authority = authority(&field, authority_spec, include, sources, source_wrongs)?;
        if let Some(other) = seen.insert(identity(authority_spec), &authority_spec.name) {
            let target = authority_spec.tuf.as_ref().map_or("", |_| ", target");
            return wrong(
                field,
                format!(
                    "it has the same source{target} and roles as \"{other}\", so it proves nothing more; remove one"
                ),
            );
        }
        authorities.push(authority);
    }
    Ok(Rule::Verify { min_authorities, authorities })
}

/// What tells an authority from the others: its source, target and roles.
fn identity(spec: &AuthoritySpec) -> (&str, &str, BTreeSet<&str>) {
    let notary = spec.notary.as_ref().and_then(|notary| notary.require_roles.as_ref());
    let target = spec.tuf.as_ref().map_or("", |tuf| tuf.target.as_str());
    let tuf = spec.tuf.as_ref().and_then(|tuf| {
        // All of one role are any of it.
        tuf.require_roles.as_ref().or(tuf.accept_roles.as_ref())
    });
    let roles = notary.or(tuf).into_iter().flatten().map(String::as_str).collect();
    (&spec.source_ref.name, target, roles)
}

fn authority(
    field: &str,
    spec: &AuthoritySpec,
    include: &[Pattern],
    sources: &Sources,
    source_wrongs: &mut Vec<Wrong>,
) -> Result<Authority, Wrong> {
    let lookup = match (&spec.notary, &spec.tuf) {
        (Some(notary), None) => Lookup::Notary(lookup(&format!("{field}.notary"), notary)?),
        (None, Some(tuf)) => {
            Lookup::Tuf(Arc::new(tuf::lookup(&format!("{field}.tuf"), tuf, include)?))
        }
        (Some(_), Some(_)) => return wrong(field, "notary and tuf exclude each other; remove one"),
        (None, None) => return wrong(field, "one of notary and tuf is required"),
    };
    let source_name = spec.source_ref.name.clone();
    let usable = match sources.get(&source_name) {
        Some(Ok(source)) => fits(field, &lookup, source),
        Some(Err(denial)) => Err(denial.clone()),
        None => Err(Denial::SourceNotFound { source_name: source_name.clone() }),
    };
    if let Err(denial) = &usable {
        let field = format!("{field}.sourceRef.name");
        let wrong = Wrong::new(field, denial.to_string()).elsewhere();
        source_wrongs.push(Wrong { code: denial.code(), ..wrong });
    }
    Ok(Authority { name: spec.name.clone(), source: source_name, usable, lookup })
}

/// A lookup is in the dialect of its source.
fn fits(field: &str, lookup: &Lookup, source: &Source) -> Result<(), Denial> {
    let (wanted, found) = match (lookup, &source.kind) {
        (Lookup::Notary(_), SourceKind::Notary { .. })
        | (Lookup::Tuf(_), SourceKind::Tuf { .. }) => {
            return Ok(());
        }
        (Lookup::Notary(_), SourceKind::Tuf { .. }) => ("notary", "tuf"),
        (Lookup::Tuf(_), SourceKind::Notary { .. }) => ("tuf", "notary"),
    };
    let reason = format!(
        "TrustSource \"{}\" is of kind {found}, so the authority has to say {found} rather than {wanted}",
        source.name
    );
    Err(Denial::InvalidPolicy { field: format!("{field}.{wanted}"), reason })
}

fn lookup(field: &str, spec: &NotaryLookup) -> Result<notary::Lookup, Wrong> {
    let roles = match (spec.lookup, &spec.require_roles) {
        (Some(LookupKind::Docker), None) => return Ok(notary::Lookup::Docker),
        (None, Some(roles)) => roles,
        (Some(_), Some(_)) => {
            return wrong(field, "lookup and requireRoles exclude each other; remove one");
        }
        (None, None) => return wrong(field, "one of lookup and requireRoles is required"),
    };
    let field = format!("{field}.requireRoles");
    check_count(&field, roles.len(), bounds::ROLES)?;
    let mut seen = BTreeSet::new();
    for (index, role) in roles.iter().enumerate() {
        if !is_targets_role(role) {
            return wrong(
                format!("{field}[{index}]"),
                format!(
                    "\"{}\" is not a role: targets, or targets/ and a name of a-z, 0-9, -, _ and /",
                    role.escape_debug()
                ),
            );
        }
        if !seen.insert(role) {
            return wrong(format!("{field}[{index}]"), format!("\"{role}\" is listed twice"));
        }
    }
    Ok(notary::Lookup::RequireRoles(roles.clone()))
}

fn exceptions(specs: &[ExceptionSpec]) -> Result<Vec<Exception>, Wrong> {
    let field = "spec.exceptions";
    if specs.len() > bounds::EXCEPTIONS {
        check_count(field, specs.len(), bounds::EXCEPTIONS)?;
    }
    check_names(field, specs.iter().map(|spec| spec.name.as_str()))?;
    specs.iter().map(|spec| exception(&format!("{field}[name={}]", spec.name), spec)).collect()
}

fn exception(field: &str, spec: &ExceptionSpec) -> Result<Exception, Wrong> {
    let images_field = format!("{field}.images");
    check_count(&images_field, spec.images.len(), bounds::PATTERNS)?;
    let images = patterns(&images_field, &spec.images)?;
    let namespaces_field = format!("{field}.namespaces");
    check_count(&namespaces_field, spec.namespaces.len(), bounds::NAMESPACES)?;
    if let Some(name) = spec.namespaces.iter().find(|name| !is_namespace(name)) {
        return wrong(
            namespaces_field,
            format!(
                "\"{}\" is not a namespace's name; list each one, without wildcards",
                name.escape_debug()
            ),
        );
    }
    let expires: Timestamp = spec.expires_at.parse().map_err(|_| {
        let time = spec.expires_at.escape_debug();
        let reason = format!("\"{time}\" is not a time in RFC 3339, as 2026-12-01T00:00:00Z");
        Wrong::new(format!("{field}.expiresAt"), reason)
    })?;
    check_reason(&format!("{field}.reason"), &spec.reason)?;
    Ok(Exception {
        name: spec.name.clone(),
        images,
        namespaces: spec.namespaces.iter().cloned().collect(),
        expires,
        reason: spec.reason.clone(),
    })
}

fn help(text: &str) -> Result<String, Wrong> {
    let field = "spec.help";
    if text.trim().is_empty() {
        return wrong(field, "it is empty; remove it or say where help is");
    }
    if text.contains("://") && !text.contains(char::is_whitespace) {
        let https = Url::parse(text).is_ok_and(|url| url.scheme() == "https" && url.has_host());
        if !https {
            return wrong(field, "it is no https URL; a URL has to begin with https://");
        }
        check_text(field, text, bounds::URL_CHARS)?;
    } else {
        check_text(field, text, bounds::HELP_CHARS)?;
    }
    Ok(text.to_owned())
}
