//! The text that a person reads.
//!
//! Users see codes and their own names. Other tags, digests and key ids are told only where a
//! policy discloses them; transport errors never are.

use std::collections::BTreeSet;

use countersign_verify::outcome::{
    Denial, Effect, Finding, KeyFingerprint, PolicyVerdict, Refusal, Unavailable,
};
use countersign_verify::policy::Action;

use crate::review::{ImageReview, Review};

/// Most key ids, or other things to be disclosed, in one message.
const DISCLOSED: usize = 5;

/// Most images explained in one message: the API server passes it on to the author as it is.
const EXPLAINED: usize = 20;

/// Longest text of an author's that is repeated, in characters: no longer image reference is one.
const REPEATED_CHARS: usize = countersign_verify::limits::REFERENCE_BYTES;

/// Why a request is refused: a first line that says it all, then every failing image.
pub fn denial(review: &Review) -> String {
    let denied: Vec<&ImageReview> =
        review.images.iter().filter(|image| image.decision.effect() == Effect::Deny).collect();
    let verdicts = || denied.iter().flat_map(|image| image.decision.denying());
    let by = by_whom(verdicts());
    let codes: BTreeSet<&str> = verdicts().map(|(_, refusal)| refusal.code()).collect();
    let mut text = format!(
        "{} of {} images denied by {by}: {}",
        denied.len(),
        review.images.len(),
        Vec::from_iter(codes).join(", ")
    );
    for image in denied.iter().take(EXPLAINED) {
        text.push_str(&format!("\n{}", place(image)));
        for (verdict, refusal) in image.decision.denying() {
            for line in explain(verdict, refusal) {
                text.push_str(&format!("\n  {line}"));
            }
        }
        let image = one_line(&image.usage.image);
        text.push_str(&format!("\n  check: countersign verify {image}"));
    }
    if denied.len() > EXPLAINED {
        text.push_str(&format!("\nand {} more images", denied.len() - EXPLAINED));
    }
    let help: BTreeSet<&str> =
        verdicts().filter_map(|(verdict, _)| verdict.help.as_deref()).collect();
    for help in help {
        text.push_str(&format!("    help: {help}"));
    }
    text
}

/// One warning for each image that has something to warn of.
pub fn warnings(review: &Review) -> Vec<String> {
    review.images.iter().filter_map(warning).collect()
}

/// One warning for each image that is denied: for templates that are let in all the same.
pub fn denials_as_warnings(review: &Review) -> Vec<String> {
    let denied = review.images.iter().filter_map(|image| {
        let (verdict, refusal) = image.decision.denying().next()?;
        Some(format!("pods will be denied: {}", summary(image, verdict, refusal)))
    });
    denied.collect()
}

fn warning(image: &ImageReview) -> Option<String> {
    let excepted = image.decision.verdicts.iter().find_map(|verdict| match &verdict.finding {
        Finding::Excepted { exception, expires, refusal } => Some(format!(
            "{}: let in by exception \"{exception}\" until {expires}, in spite of {}",
            place(image),
            refusal.code()
        )),
        _ => None,
    });
    let warned = || {
        let mut verdicts = image.decision.verdicts.iter();
        verdicts.find_map(|verdict| match verdict.action {
            Action::Warn => Some(summary(image, verdict, verdict.refusal()?)),
            Action::Audit | Action::Deny => None,
        })
    };
    let noted = || image.notes.first().map(|note| format!("{}: {note}", place(image)));
    excepted.or_else(warned).or_else(noted)
}

fn summary(image: &ImageReview, verdict: &PolicyVerdict, refusal: &Refusal) -> String {
    format!(
        "{}: {} by {}: {}",
        place(image),
        refusal.code(),
        by_whom(std::iter::once((verdict, refusal))),
        told_by(verdict, refusal)
    )
}

/// The path and the image as their author wrote them.
fn place(image: &ImageReview) -> String {
    one_line(&format!("{} {}", image.usage.path, image.usage.image))
}

/// What an author wrote cannot add lines of its own to a message, make it endless, or have it
/// shown in another order than it is written.
pub fn one_line(text: &str) -> String {
    let mut chars = text.chars();
    let shown = chars.by_ref().take(REPEATED_CHARS);
    let mut line: String =
        shown.map(|c| if c.is_control() || reorders(c) { ' ' } else { c }).collect();
    if chars.next().is_some() {
        line.push('…');
    }
    line
}

/// Line separators and the controls of bidirectional text (Unicode Standard Annex #9).
fn reorders(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}')
}

/// Who refuses, in the order met: `TrustPolicy "a", "b" and the installation's default`.
fn by_whom<'r>(refusals: impl Iterator<Item = (&'r PolicyVerdict, &'r Refusal)>) -> String {
    let mut names: Vec<String> = Vec::new();
    let mut by_default = false;
    for (verdict, _) in refusals {
        match &verdict.policy {
            Some(name) if !names.contains(&format!("\"{name}\"")) => {
                names.push(format!("\"{name}\""));
            }
            Some(_) => {}
            None => by_default = true,
        }
    }
    let policies = (!names.is_empty()).then(|| format!("TrustPolicy {}", names.join(", ")));
    let default = by_default.then(|| "the installation's default".to_owned());
    Vec::from_iter(policies.into_iter().chain(default)).join(" and ")
}

/// A line for each authority that was asked, or one for the policy itself.
fn explain(verdict: &PolicyVerdict, refusal: &Refusal) -> Vec<String> {
    let own_name = match &verdict.policy {
        Some(name) => name.as_str(),
        None => "default",
    };
    let mut lines: Vec<String> = verdict
        .authorities
        .iter()
        .filter_map(|authority| {
            let refusal = authority.outcome.as_ref().err()?;
            let told = told(refusal, verdict.disclose);
            Some(format!("{}: {told}", authority.authority))
        })
        .collect();
    let told_by_an_authority = verdict
        .authorities
        .iter()
        .any(|authority| authority.outcome.as_ref().err() == Some(refusal));
    if !told_by_an_authority {
        lines.push(format!("{own_name}: {}", told_by(verdict, refusal)));
    }
    lines
}

/// A verdict's refusal as its user may read it. Where no policy matches, it hangs on the
/// installation's setting whether that keeps the image out.
fn told_by(verdict: &PolicyVerdict, refusal: &Refusal) -> String {
    let told = told(refusal, verdict.disclose);
    match (refusal, verdict.action) {
        (Refusal::Denied(Denial::NoMatchingPolicy), Action::Deny) => {
            format!("{told}, and such images are not let in here")
        }
        _ => told,
    }
}

/// A refusal as its user may read it.
pub fn told(refusal: &Refusal, disclose: bool) -> String {
    match refusal {
        Refusal::Denied(denial) => denied(denial, disclose),
        Refusal::Unavailable(unavailable) if disclose => unavailable.to_string(),
        Refusal::Unavailable(unavailable) => next_step(unavailable),
    }
}

fn denied(denial: &Denial, disclose: bool) -> String {
    match denial {
        Denial::DigestMismatch { role, name, .. } if !disclose => {
            format!("tag \"{name}\" is signed in {role} for another image than this one")
        }
        Denial::MalformedMetadata { file, .. } if !disclose => {
            format!("{file} cannot be trusted; Countersign's log says why")
        }
        Denial::RootNotPinned { found, more, .. } if disclose && !found.is_empty() => {
            format!("{denial}; found {}", some(found, *more))
        }
        Denial::InvalidPolicy { field, .. } if !disclose => {
            format!("{field} cannot be used; Countersign's log says why")
        }
        Denial::NotPinned => format!(
            "{denial}; write the image as NAME@sha256:..., or check that the mutating webhook runs"
        ),
        _ => denial.to_string(),
    }
}

fn next_step(unavailable: &Unavailable) -> String {
    match unavailable {
        Unavailable::RegistryNotAllowed { .. } => {
            format!("{unavailable}; name the image by digest, or its host in a policy's include")
        }
        Unavailable::SourceUnavailable { .. } => {
            format!("{unavailable}; Countersign's log says why")
        }
        Unavailable::PoliciesUnavailable { .. } => {
            let why = "Countersign does not hear from the API server";
            format!("{unavailable}, for {why}; try again, its log says more")
        }
        Unavailable::CredentialsUnavailable { .. } => {
            "the credentials for its registry could not be read; Countersign's log says why"
                .to_owned()
        }
        _ => unavailable.to_string(),
    }
}

fn some(keys: &[KeyFingerprint], others: usize) -> String {
    let shown: Vec<String> = keys.iter().take(DISCLOSED).map(ToString::to_string).collect();
    match (keys.len() + others).saturating_sub(DISCLOSED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests;
