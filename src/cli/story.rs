//! What `countersign verify` prints: the verdict, its JSON, and the evidence behind it.

mod rests_on;

use std::fmt::Write as _;

use countersign_verify::outcome::{
    AuthorityOutcome, Denial, Effect, Finding, PolicyVerdict, Refusal,
};
use countersign_verify::policy::Action;
use serde::Serialize;

use crate::message::told;
use crate::metadata::cause;
use crate::review::ImageReview;

pub(super) use rests_on::evidence;

/// A few lines: what happens to the image, and what each policy makes of it.
pub(super) fn verdict(review: &ImageReview) -> String {
    let decision = &review.decision;
    let outcome = match decision.effect() {
        Effect::Allow => "admitted",
        Effect::Warn => "admitted with a warning",
        Effect::Deny => "denied",
    };
    let mut text = format!("{}: {outcome}\n", review.usage.image);
    if let (Some(digest), Some(reference)) = (&decision.digest, &decision.reference)
        && decision.effect() != Effect::Deny
    {
        let _ = writeln!(text, "  image: {}", reference.with_digest(digest.clone()));
    }
    for verdict in &decision.verdicts {
        let _ = writeln!(text, "  {}: {}", name(verdict), finding(verdict));
        for authority in &verdict.authorities {
            let _ = writeln!(text, "    {}: {}", authority.authority, outcome_text(authority));
        }
    }
    for note in &review.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    text
}

/// The installation's own setting, where policies are named.
pub(super) const INSTALLATION: &str = "(default)";

fn name(verdict: &PolicyVerdict) -> String {
    match &verdict.policy {
        Some(policy) => format!("TrustPolicy \"{policy}\" ({:?})", verdict.action),
        None => format!("images without a Deny policy ({:?})", verdict.action),
    }
}

fn finding(verdict: &PolicyVerdict) -> String {
    match &verdict.finding {
        Finding::Verified => "verified".to_owned(),
        Finding::AllowedUnverified { reason } => format!("let in unverified: {reason}"),
        Finding::Excepted { exception, expires, refusal } => {
            format!("excepted by \"{exception}\" until {expires}: {}", refusal.code())
        }
        Finding::Refused(refusal) if told_by_an_authority(verdict, refusal) => {
            refusal.code().to_owned()
        }
        Finding::Refused(refusal) => {
            format!("{}: {}", refusal.code(), told(refusal, true) + setting(verdict, refusal))
        }
    }
}

fn told_by_an_authority(verdict: &PolicyVerdict, refusal: &Refusal) -> bool {
    let mut refusals = verdict.authorities.iter().filter_map(|it| it.outcome.as_ref().err());
    refusals.any(|its| its.code() == refusal.code())
}

/// By which setting an image without a policy is treated as it is.
fn setting(verdict: &PolicyVerdict, refusal: &Refusal) -> &'static str {
    match (refusal, verdict.action) {
        (Refusal::Denied(Denial::NoMatchingPolicy), Action::Deny) => {
            ", and unmatched=Deny refuses such images"
        }
        (Refusal::Denied(Denial::NoMatchingPolicy), Action::Warn) => {
            ", and unmatched=Warn warns of such images"
        }
        (Refusal::Denied(Denial::NoMatchingPolicy), Action::Audit) => {
            ", and unmatched=Audit lets such images in"
        }
        _ => "",
    }
}

fn outcome_text(authority: &AuthorityOutcome) -> String {
    match &authority.outcome {
        Ok(proof) => format!(
            "signed as \"{}\" in {}, current until {}",
            proof.name(),
            proof.role(),
            proof.expires()
        ),
        Err(refusal @ Refusal::Unavailable(_)) => format!("{}: {}", refusal.code(), cause(refusal)),
        Err(refusal) => format!("{}: {}", refusal.code(), told(refusal, true)),
    }
}

/// What decides that an image is not let in without a word: a line for each authority or policy
/// that says so, and remarks.
pub(super) fn reasons(review: &ImageReview) -> Vec<String> {
    let mut lines = Vec::new();
    for (verdict, _) in review.decision.making(review.decision.effect()) {
        let policy = verdict.policy.as_deref().unwrap_or(INSTALLATION);
        let refused = verdict.authorities.iter().filter(|authority| authority.outcome.is_err());
        let before = lines.len();
        lines.extend(refused.map(|authority| {
            format!("{policy}, {}: {}", authority.authority, outcome_text(authority))
        }));
        let refusal = verdict.refusal();
        if lines.len() == before || !refusal.is_some_and(|it| told_by_an_authority(verdict, it)) {
            lines.push(format!("{policy}: {}", finding(verdict)));
        }
    }
    lines.extend(review.notes.iter().map(|note| format!("note: {note}")));
    lines
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Verdicts<'a> {
    images: Vec<Image<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Image<'a> {
    image: &'a str,
    reference: Option<String>,
    digest: Option<String>,
    admitted: bool,
    effect: String,
    policies: Vec<PolicyJson<'a>>,
    notes: &'a [String],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyJson<'a> {
    policy: Option<&'a str>,
    action: String,
    satisfied: bool,
    code: Option<&'static str>,
    message: String,
    authorities: Vec<AuthorityJson<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthorityJson<'a> {
    authority: &'a str,
    signed: bool,
    code: Option<&'static str>,
    message: String,
    role: Option<&'a str>,
    name: Option<&'a str>,
    keys: Vec<String>,
    expires: Option<String>,
}

/// Every policy's and every authority's outcome with its code.
pub(super) fn json(reviews: &[ImageReview]) -> Verdicts<'_> {
    Verdicts { images: reviews.iter().map(image_json).collect() }
}

/// One image's.
pub(super) fn image_json(review: &ImageReview) -> Image<'_> {
    let decision = &review.decision;
    Image {
        image: &review.usage.image,
        reference: decision.reference.as_ref().map(ToString::to_string),
        digest: decision.digest.as_ref().map(ToString::to_string),
        admitted: decision.effect() != Effect::Deny,
        effect: format!("{:?}", decision.effect()),
        policies: decision.verdicts.iter().map(policy_json).collect(),
        notes: &review.notes,
    }
}

fn policy_json(verdict: &PolicyVerdict) -> PolicyJson<'_> {
    let refusal = verdict.refusal();
    PolicyJson {
        policy: verdict.policy.as_deref(),
        action: format!("{:?}", verdict.action),
        satisfied: refusal.is_none(),
        code: refusal.map(Refusal::code),
        message: finding(verdict),
        authorities: verdict.authorities.iter().map(authority_json).collect(),
    }
}

fn authority_json(authority: &AuthorityOutcome) -> AuthorityJson<'_> {
    let proof = authority.outcome.as_ref().ok();
    AuthorityJson {
        authority: &authority.authority,
        signed: proof.is_some(),
        code: authority.outcome.as_ref().err().map(Refusal::code),
        message: outcome_text(authority),
        role: proof.map(|proof| proof.role()),
        name: proof.map(|proof| proof.name()),
        keys: proof.map_or_else(Vec::new, |p| p.keys().iter().map(ToString::to_string).collect()),
        expires: proof.map(|proof| proof.expires().to_string()),
    }
}
