//! From a review to an AdmissionReview's response.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_verify::outcome::Effect;
use serde::Serialize;

use super::wire::GroupName;
use super::workload::Item;
use crate::message;
use crate::review::{ImageReview, Review, Subject};
use crate::telemetry::Outcome;

/// Longest warning, in characters; the API server may cut longer ones.
/// Source: k8s.io/api/admission/v1, AdmissionResponse.warnings.
const WARNING_CHARS: usize = 255;

/// Most characters of all warnings of one response together. Source: k8s.io/apiserver,
/// pkg/endpoints/filters/warning.go (`truncateAtTotalRunes`, 4096), less room for the last line.
const WARNINGS_CHARS: usize = 4000;

/// What a refused template of pods means. Its pods are refused all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum Templates {
    /// It is refused, so that the refusal is where the developer looks; missing evidence warns.
    #[default]
    Deny,
    /// It is let in with a warning.
    Warn,
}

/// An answer, before it is written.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    /// The first refusal's code; empty where there is none.
    pub(super) code: &'static str,
    status: Option<Status>,
    warnings: Vec<String>,
    patch: Option<String>,
}

#[derive(Debug, Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a Status>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
}

impl Answer {
    /// Nothing to say.
    pub(super) fn allowed() -> Self {
        let (outcome, code) = (Outcome::Allowed, "");
        Self { outcome, code, status: None, warnings: Vec::new(), patch: None }
    }

    /// Let in with warnings that are not about one image.
    pub(super) fn warned(warnings: Vec<String>) -> Self {
        let warnings = bounded(warnings);
        Self { outcome: Outcome::Warned, warnings, ..Self::allowed() }
    }

    /// Refused for a reason that is not about one image.
    pub(super) fn forbidden(code: &'static str, message: String) -> Self {
        let status = Status { code: 403, reason: "Forbidden", message };
        Self { outcome: Outcome::Denied, code, status: Some(status), ..Self::allowed() }
    }

    /// Refused because Countersign itself failed.
    pub(super) fn failed() -> Self {
        let message = "Countersign failed on this request (a bug; its logs have the details), \
                       and what is not verified is denied"
            .to_owned();
        let status = Status { code: 500, reason: "InternalError", message };
        Self { outcome: Outcome::Denied, status: Some(status), ..Self::allowed() }
    }

    /// Refused, for nobody knows where it keeps its pods.
    pub(super) fn unknown_kind(of: &GroupName<'_>) -> Self {
        let group = if of.group.is_empty() { "v1" } else { &of.group };
        let kind = &*of.kind;
        let message = format!(
            "countersign does not know where {group}/{kind} keeps its pod template; remove it from \
             the webhook's rules, or start countersign with --custom-kind {group}/{kind}=PATH"
        );
        Self::forbidden("UnknownKind", message)
    }

    /// Nothing runs without a pod spec; a custom kind's path that leads nowhere should be noticed.
    pub(super) fn no_template(configured: Option<&str>) -> Self {
        let warning =
            |path| format!("countersign found no pod template at {path}: nothing to verify");
        configured.map_or_else(Self::allowed, |path| Self::warned(vec![warning(path)]))
    }

    /// The validating webhook's answer.
    pub(super) fn validate(review: &Review, subject: Subject, templates: Templates) -> Self {
        let effect = review.effect();
        let refused = effect == Effect::Deny;
        let lenient = refused
            && subject == Subject::Template
            && (templates == Templates::Warn || review.images.iter().all(lacks_evidence_only));
        let mut warnings = message::warnings(review);
        if lenient {
            warnings.extend(message::denials_as_warnings(review));
        }
        let code = first_code(review, effect);
        let warnings = bounded(warnings);
        if refused && !lenient {
            return Self { warnings, ..Self::forbidden(code, message::denial(review)) };
        }
        let outcome = if effect == Effect::Allow { Outcome::Allowed } else { Outcome::Warned };
        Self { outcome, code, warnings, ..Self::allowed() }
    }

    /// The mutating webhook's answer: it fixes tags to digests and refuses nothing, as the
    /// validating one sees the same images again. `items` are the review's, in its order.
    pub(super) fn mutate<'a>(review: &Review, items: impl Iterator<Item = Item<'a>>) -> Self {
        let operations: Vec<Operation> =
            review.images.iter().zip(items).filter_map(|(image, item)| pin(image, item)).collect();
        let patch = match operations.as_slice() {
            [] => None,
            // The patch is made of strings only, which always serialise.
            _ => serde_json::to_vec(&operations).ok().map(|patch| STANDARD.encode(patch)),
        };
        Self { patch, code: first_code(review, review.effect()), ..Self::allowed() }
    }

    /// What its reader is told: the message, or the warnings, one a line.
    pub(super) fn text(&self) -> String {
        match &self.status {
            Some(status) => status.message.clone(),
            None => self.warnings.join("\n"),
        }
    }

    /// The AdmissionReview to send.
    pub(super) fn to_json(&self, uid: &str) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Envelope {
            api_version: "admission.k8s.io/v1",
            kind: "AdmissionReview",
            response: Response {
                uid,
                allowed: self.outcome != Outcome::Denied,
                status: self.status.as_ref(),
                warnings: &self.warnings,
                patch: self.patch.as_deref(),
                patch_type: self.patch.is_some().then_some("JSONPatch"),
            },
        })
    }
}

#[derive(Serialize)]
struct Operation {
    op: &'static str,
    path: String,
    value: String,
}

fn pin(image: &ImageReview, item: Item<'_>) -> Option<Operation> {
    let digest = image.pin.clone()?;
    let reference = image.decision.reference.as_ref()?;
    let path = format!("/spec/{}/{}/{}", item.list.as_str(), item.index, item.list.member());
    Some(Operation { op: "replace", path, value: reference.with_digest(digest).to_string() })
}

/// Whether the image is let in, or would be if evidence could be had.
fn lacks_evidence_only(image: &ImageReview) -> bool {
    image.decision.effect() != Effect::Deny || image.decision.denied_for_want_of_evidence()
}

/// The code of the first refusal that has this effect.
fn first_code(review: &Review, effect: Effect) -> &'static str {
    let mut making = review.images.iter().flat_map(|image| image.decision.making(effect));
    making.next().map_or("", |(_, refusal)| refusal.code())
}

/// Each warning on one line and within [`WARNING_CHARS`], all within [`WARNINGS_CHARS`].
fn bounded(warnings: Vec<String>) -> Vec<String> {
    let total = warnings.len();
    let mut room = WARNINGS_CHARS;
    let mut kept = Vec::with_capacity(total);
    for warning in warnings {
        let warning = one_line(&warning);
        let length = warning.chars().count();
        if length > room {
            break;
        }
        room -= length;
        kept.push(warning);
    }
    if kept.len() < total {
        kept.push(format!("and {} more warnings", total - kept.len()));
    }
    kept
}

fn one_line(warning: &str) -> String {
    let mut chars = warning.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = chars.by_ref().take(WARNING_CHARS - 1).collect();
    match (chars.next(), chars.next()) {
        (Some(last), None) => line.push(last),
        (Some(_), Some(_)) => line.push('…'),
        _ => {}
    }
    line
}
