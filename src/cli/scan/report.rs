//! What a scan found, as text and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use countersign_verify::outcome::{Decision, Effect};
use serde::Serialize;

use super::change::Change;
use super::forecast::{self, Group, Lapse};
use super::pods::{Image, Owner, Place};
use super::table::{Block, table};
use crate::cli::{Exit, story};
use crate::review::ImageReview;

/// An image in a namespace, and its verdicts.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) image: Image,
    pub(super) workloads: BTreeMap<Owner, Place>,
    /// Its verdict.
    pub(super) review: ImageReview,
    /// Its verdict by the cluster's present policies, where others were asked for.
    pub(super) before: Option<ImageReview>,
    /// What ends its admission, as far as is known.
    pub(super) lapses: BTreeSet<Lapse>,
}

/// What a scan found.
#[derive(Debug)]
pub(super) struct Report {
    /// Where was looked, as `in namespace "payments"`.
    pub(super) place: String,
    /// Namespaces that were left out.
    pub(super) left_out: BTreeSet<String>,
    pub(super) pods: usize,
    pub(super) findings: Vec<Finding>,
    /// Whether candidates were compared with the present.
    pub(super) compared: bool,
}

impl Finding {
    pub(super) fn decision(&self) -> &Decision {
        &self.review.decision
    }

    pub(super) fn change(&self) -> Option<Change> {
        let before = self.before.as_ref()?;
        Some(Change::between(&before.decision, self.decision()))
    }

    fn block(&self) -> Block {
        let (verdict, policy) = words(&self.review);
        let mut why = story::reasons(&self.review);
        let changed = self.change() != Some(Change::Unchanged);
        let told = |it: &&ImageReview| changed && it.decision.effect() != Effect::Allow;
        let before = self.before.as_ref().filter(told);
        why.extend(before.map(|before| {
            let (verdict, policy) = words(before);
            format!("before: {verdict} by {policy}")
        }));
        let workloads = self.workloads.iter();
        Block {
            namespace: self.image.namespace.clone(),
            workloads: workloads.map(|(it, place)| (it.to_string(), place.pods)).collect(),
            image: self.image.image.clone(),
            verdict,
            policy,
            why,
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// The codes that decide, and whose they are.
pub(super) fn words(review: &ImageReview) -> (String, String) {
    let effect = review.decision.effect();
    let (mut policies, mut codes) = (BTreeSet::new(), BTreeSet::new());
    for (verdict, refusal) in review.decision.making(effect) {
        policies.insert(verdict.policy.as_deref().unwrap_or(story::INSTALLATION));
        codes.insert(refusal.code());
    }
    let codes = Vec::from_iter(codes).join(", ");
    let verdict = match effect {
        Effect::Deny => codes,
        Effect::Warn => format!("warning: {codes}"),
        Effect::Allow => "admitted".to_owned(),
    };
    (verdict, Vec::from_iter(policies).join(", "))
}

impl Report {
    /// By what becomes of the images.
    pub(super) fn exit(&self) -> Exit {
        Exit::of(self.findings.iter().map(Finding::decision))
    }

    /// Tables of what would be denied or warned of, or of what would change or is denied as
    /// before, and a summary.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if self.compared {
            let mut part = |heading: String, is_of_it: &dyn Fn(&Finding) -> bool| {
                let of_it = self.findings.iter().filter(|finding| is_of_it(finding));
                let blocks: Vec<Block> = of_it.map(Finding::block).collect();
                if !blocks.is_empty() {
                    let _ = writeln!(text, "{heading}:\n{}", table(&blocks));
                }
            };
            for change in Change::ALL {
                part(heading(change), &|finding| finding.change() == Some(change));
            }
            part("Denied as before".to_owned(), &|finding| {
                finding.change() == Some(Change::Unchanged)
                    && finding.decision().effect() == Effect::Deny
            });
        } else {
            let with = |effect: Effect| {
                let findings = self.findings.iter();
                findings.filter(move |finding| finding.decision().effect() == effect)
            };
            let blocks: Vec<Block> =
                with(Effect::Deny).chain(with(Effect::Warn)).map(Finding::block).collect();
            if !blocks.is_empty() {
                let _ = writeln!(text, "{}", table(&blocks));
            }
        }
        text.push_str(&self.summary());
        text
    }

    /// Those of images as pods name them: by their tags they are the same images.
    fn lapses(&self) -> impl Iterator<Item = &Lapse> {
        let named = self.findings.iter().filter(|finding| !finding.image.by_tag);
        named.flat_map(|finding| &finding.lapses)
    }

    fn counts(&self) -> Counts {
        let with = |effect| {
            self.findings.iter().filter(|finding| finding.decision().effect() == effect).count()
        };
        let changes = |change| {
            let of = self.findings.iter().filter(|finding| finding.change() == Some(change));
            (change, of.count())
        };
        let changes = Change::ALL.into_iter().chain([Change::Unchanged]).map(changes);
        Counts {
            pods: self.pods,
            images: self.findings.len(),
            denied: with(Effect::Deny),
            warned: with(Effect::Warn),
            changes: self.compared.then(|| changes.collect()),
        }
    }

    fn summary(&self) -> String {
        let counts = self.counts();
        let Counts { pods, images, denied, warned, changes } = &counts;
        let mut text = match pods {
            0 => format!("No pods run {}.", self.place),
            _ => format!(
                "{}, {}: {denied} would be denied, {warned} warned.",
                number(*pods, "pod"),
                number(*images, "image")
            ),
        };
        if let Some(changes) = changes.as_ref().filter(|_| *pods > 0) {
            let told =
                changes.iter().filter(|(it, count)| **count > 0 || **it == Change::Unchanged);
            let told = told.map(|(change, count)| format!("{count} {}", change.as_str()));
            let told = Vec::from_iter(told);
            let _ = write!(text, " Compared with the present policies: {}.", told.join(", "));
        }
        if !self.left_out.is_empty() {
            let names = Vec::from_iter(self.left_out.iter().map(String::as_str)).join(", ");
            let _ = write!(text, " Left out: {names}.");
        }
        text.push_str(&forecast::text(self.lapses()));
        text.push_str(
            "\nNot seen: workloads without a pod now (CronJobs between runs, ended Jobs, scaled to zero).",
        );
        text
    }

    /// Everything, also what is let in or unchanged.
    pub(super) fn json(&self) -> Json<'_> {
        Json {
            summary: self.counts(),
            forecast: forecast::groups(self.lapses()),
            left_out_namespaces: &self.left_out,
            images: self.findings.iter().map(image_json).collect(),
        }
    }
}

fn heading(change: Change) -> String {
    let text = change.as_str();
    text[..1].to_uppercase() + &text[1..]
}

pub(super) fn number(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    pods: usize,
    images: usize,
    denied: usize,
    warned: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<BTreeMap<Change, usize>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Json<'a> {
    summary: Counts,
    /// How many images could not be admitted again after a time, unless something is signed.
    forecast: Vec<Group>,
    left_out_namespaces: &'a BTreeSet<String>,
    images: Vec<ImageJson<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageJson<'a> {
    namespace: &'a str,
    workloads: Vec<WorkloadJson<'a>>,
    #[serde(flatten)]
    verdict: story::Image<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<Change>,
    /// The verdict by the present policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<story::Image<'a>>,
    /// Of an image by its tag: the digests that its pods name beside it.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pinned_to: BTreeSet<&'a str>,
}

#[derive(Debug, Serialize)]
struct WorkloadJson<'a> {
    #[serde(flatten)]
    owner: &'a Owner,
    pods: usize,
    paths: &'a BTreeSet<String>,
}

fn image_json(finding: &Finding) -> ImageJson<'_> {
    ImageJson {
        namespace: &finding.image.namespace,
        workloads: finding.workloads.iter().map(workload_json).collect(),
        verdict: story::image_json(&finding.review),
        change: finding.change(),
        before: finding.before.as_ref().map(story::image_json),
        pinned_to: finding.pinned_to(),
    }
}

fn workload_json<'a>((owner, place): (&'a Owner, &'a Place)) -> WorkloadJson<'a> {
    WorkloadJson { owner, pods: place.pods, paths: &place.paths }
}

#[cfg(test)]
mod tests;
