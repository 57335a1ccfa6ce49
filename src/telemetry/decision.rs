//! One line a decision.

use std::time::Duration;

use countersign_verify::limits;
use countersign_verify::outcome::{Effect, Finding, PolicyVerdict, Refusal};
use serde::{Serialize, Serializer};

use super::{Lines, Outcome};
use crate::review::{ImageReview, Review};

/// Most images named in one line; the rest is only counted.
const IMAGES: usize = 64;

/// Most bytes of a text that users or servers chose; a longer one is cut.
const TEXT_BYTES: usize = limits::REFERENCE_BYTES;

/// Most bytes of a line's buffer that start out reserved: what one image takes.
const LINE_BYTES: usize = 768;

const TARGET: &str = "countersign::decision";

/// Writes decisions as JSON lines of the same shape as other logs.
#[derive(Debug, Clone)]
pub struct DecisionLog(Lines);

/// One decision.
#[derive(Debug)]
pub struct DecisionRecord<'a> {
    /// `validate` or `mutate`.
    pub action: &'static str,
    /// The request's uid.
    pub uid: &'a str,
    /// The namespace; empty where there is none.
    pub namespace: &'a str,
    /// The kind's group; empty for the core one.
    pub group: &'a str,
    /// The kind.
    pub kind: &'a str,
    /// The object's name; empty where it is generated later.
    pub name: &'a str,
    /// `CREATE` or `UPDATE`.
    pub operation: &'a str,
    /// Whether it is a dry run.
    pub dry_run: bool,
    /// What became of it.
    pub outcome: Outcome,
    /// The first refusal's code; empty where there is none.
    pub code: &'static str,
    /// Since the request's arrival.
    pub took: Duration,
    /// Every image's verdict.
    pub review: &'a Review,
}

impl DecisionLog {
    /// Writes to `lines`.
    pub fn new(lines: Lines) -> Self {
        Self(lines)
    }

    /// Writes one line, at level INFO under the target `countersign::decision`, if that passes
    /// the log filter.
    pub fn record(&self, record: &DecisionRecord<'_>) {
        if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            return;
        }
        let mut line = Vec::with_capacity(LINE_BYTES);
        if serde_json::to_writer(&mut line, &Line::new(record)).is_ok() {
            line.push(b'\n');
            self.0.push(&line);
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "display")]
    timestamp: jiff::Timestamp,
    level: &'static str,
    message: &'static str,
    action: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    code: &'static str,
    uid: &'a str,
    namespace: &'a str,
    group: &'a str,
    kind: &'a str,
    name: &'a str,
    operation: &'a str,
    dry_run: bool,
    duration_us: u64,
    image_count: usize,
    #[serde(serialize_with = "images")]
    images: &'a [ImageReview],
    target: &'static str,
}

impl<'a> Line<'a> {
    fn new(record: &DecisionRecord<'a>) -> Self {
        Self {
            timestamp: jiff::Timestamp::now(),
            level: "INFO",
            message: "reviewed",
            action: record.action,
            outcome: record.outcome.as_str(),
            code: record.code,
            uid: short(record.uid),
            namespace: short(record.namespace),
            group: short(record.group),
            kind: short(record.kind),
            name: short(record.name),
            operation: record.operation,
            dry_run: record.dry_run,
            duration_us: u64::try_from(record.took.as_micros()).unwrap_or(u64::MAX),
            image_count: record.review.images.len(),
            images: &record.review.images,
            target: TARGET,
        }
    }
}

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES)]
}

fn display<T: std::fmt::Display, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn images<S: Serializer>(images: &&[ImageReview], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(images.iter().take(IMAGES).map(Image::new))
}

#[derive(Serialize)]
struct Image<'a> {
    path: &'a str,
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some")]
    digest: Option<&'a countersign_verify::image::Digest>,
    effect: &'static str,
    #[serde(serialize_with = "verdicts")]
    policies: &'a [PolicyVerdict],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<&'a str>,
}

fn some<T: std::fmt::Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn verdicts<S: Serializer>(verdicts: &&[PolicyVerdict], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(verdicts.iter().map(Verdict::new))
}

impl<'a> Image<'a> {
    fn new(image: &'a ImageReview) -> Self {
        let decision = &image.decision;
        Self {
            path: short(&image.usage.path),
            image: short(&image.usage.image),
            digest: decision.digest.as_ref(),
            effect: match decision.effect() {
                Effect::Allow => "Allow",
                Effect::Warn => "Warn",
                Effect::Deny => "Deny",
            },
            policies: &decision.verdicts,
            notes: image.notes.iter().map(|note| short(note)).collect(),
        }
    }
}

#[derive(Serialize)]
struct Verdict<'a> {
    policy: Option<&'a str>,
    finding: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// What never reaches a user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<&'a str>,
}

impl<'a> Verdict<'a> {
    fn new(verdict: &'a PolicyVerdict) -> Self {
        let (finding, detail, refusal) = match &verdict.finding {
            Finding::Verified => ("Verified", None, None),
            Finding::AllowedUnverified { reason } => {
                ("AllowedUnverified", Some(reason.clone()), None)
            }
            Finding::Excepted { exception, refusal, .. } => {
                let detail =
                    format!("exception {exception:?} covers {}: {refusal}", refusal.code());
                ("Excepted", Some(detail), Some(refusal))
            }
            Finding::Refused(refusal) => (refusal.code(), Some(refusal.to_string()), Some(refusal)),
        };
        let authorities = verdict.authorities.iter().filter_map(|each| each.outcome.as_ref().err());
        let cause = |refusal: &'a Refusal| match refusal {
            Refusal::Unavailable(unavailable) => unavailable.cause(),
            Refusal::Denied(_) => None,
        };
        let mut causes: Vec<&str> =
            refusal.into_iter().chain(authorities).filter_map(cause).map(short).collect();
        causes.dedup();
        let detail = detail.map(|mut detail: String| {
            detail.truncate(short(&detail).len());
            detail
        });
        Self { policy: verdict.policy.as_deref(), finding, detail, causes }
    }
}
