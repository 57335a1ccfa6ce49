//! The evidence behind a verdict: what was looked up, and what is signed by whom.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use countersign_verify::notary::{self, RoleInfo};
use countersign_verify::policy::{Authority, Lookup, Policy, Rule};
use countersign_verify::tuf::{self, Accept};
use url::Url;

use crate::metadata::cause;
use crate::review::{ImageReview, Reviewer};

/// What the verdict rests on: what was looked up, and every role of every repository that was
/// read.
pub(in crate::cli) fn evidence(reviewer: &Reviewer, review: &ImageReview) -> String {
    let mut text = lookups(reviewer, review);
    for (live, repository) in reviewer.evidence_at_hand(review) {
        let source = &live.source;
        let urls: Vec<&str> = source.urls().iter().map(Url::as_str).collect();
        let _ = writeln!(text, "  TrustSource \"{}\" {}", source.name, urls.join(", "));
        if repository.notary().is_some() {
            let _ = writeln!(text, "    repository {}", live.repository);
        }
        for role in repository.roles() {
            text.push_str(&role_text(&role));
        }
        if let Some(tuf) = repository.tuf() {
            text.push_str(&targets(reviewer, review, tuf));
        }
        for warning in repository.warnings() {
            let _ = writeln!(text, "    warning: {warning}");
        }
    }
    text
}

fn lookups(reviewer: &Reviewer, review: &ImageReview) -> String {
    let mut text = String::new();
    let Some(reference) = &review.decision.reference else { return text };
    let wanted = match (reference.digest(), reference.tag()) {
        (None, Some(tag)) => {
            let resolved = review.decision.digest.as_ref().map_or_else(
                || "gives no digest for it".to_owned(),
                |digest| format!("resolves it to {digest}"),
            );
            let _ = writeln!(text, "  registry {} {resolved}", reference.registry());
            format!("tag \"{tag}\"")
        }
        _ => "its digest".to_owned(),
    };
    let snapshot = reviewer.snapshot();
    let named = |policy: &&Policy| {
        let mut verdicts = review.decision.verdicts.iter();
        verdicts.any(|verdict| verdict.policy.as_ref() == Some(&policy.name))
    };
    for policy in snapshot.policies.policies().iter().filter(named) {
        let Rule::Verify { min_authorities, authorities } = &policy.rule else { continue };
        let _ = writeln!(text, "  TrustPolicy \"{}\" asks for {min_authorities} of:", policy.name);
        for Authority { name, source, lookup, .. } in authorities {
            let roles = lookup_text(lookup);
            let repository = reference.name();
            let _ = writeln!(
                text,
                "    {name}: {wanted} of {repository} at TrustSource \"{source}\", {roles}"
            );
        }
    }
    text
}

fn lookup_text(lookup: &Lookup) -> String {
    let every = |roles: &[String]| format!("in every one of {}", roles.join(", "));
    let tuf = match lookup {
        Lookup::Notary(notary::Lookup::Docker) => {
            return "in targets/releases, then targets".to_owned();
        }
        Lookup::Notary(notary::Lookup::RequireRoles(roles)) => return every(roles),
        Lookup::Tuf(tuf) => tuf,
    };
    let roles = match &tuf.accept {
        Accept::Any(roles) if roles.iter().any(|role| role == "*") => "in any role".to_owned(),
        Accept::Any(roles) => format!("in any of {}", roles.join(", ")),
        Accept::All(roles) => every(roles),
    };
    let digest = tuf.digest_target.as_ref().map(|target| format!(" or {target}"));
    format!("as {}{}, {roles}", tuf.target, digest.unwrap_or_default())
}

/// The targets by which the image was found signed, and what their signers add.
fn targets(reviewer: &Reviewer, review: &ImageReview, repository: &tuf::Repository) -> String {
    let mut text = String::new();
    let outcomes = review.decision.verdicts.iter().flat_map(|verdict| &verdict.authorities);
    let names: BTreeSet<&str> =
        outcomes.filter_map(|it| Some(it.outcome.as_ref().ok()?.name())).collect();
    for name in names {
        let Ok(Some(target)) = repository.target(name, reviewer.now()) else { continue };
        let _ = writeln!(text, "    target {name} in {}: {} bytes", target.role, target.length);
        if let Some(custom) = &target.custom {
            let _ = writeln!(text, "      custom {custom}");
        }
    }
    text
}

fn role_text(role: &RoleInfo) -> String {
    let detail = match &role.state {
        Ok(detail) => detail,
        Err(refusal) => return format!("    {}: {}\n", role.name, cause(refusal)),
    };
    let mut text = format!(
        "    {}: version {}, expires {}, signed by {} of {} keys ({} needed)",
        role.name,
        detail.version,
        detail.expires,
        detail.signers.len(),
        detail.keys.len(),
        detail.threshold
    );
    if !["root", "timestamp", "snapshot"].contains(&role.name.as_str()) {
        let _ = write!(text, ", {} tags", detail.entries);
    }
    text.push('\n');
    for key in &detail.keys {
        let signed = if detail.signers.contains(key) { " (signed)" } else { "" };
        let _ = writeln!(text, "      {key}{signed}");
    }
    text
}
