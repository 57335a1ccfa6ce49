//! Pinned images by their tags, as the templates of their pods may name them.
//!
//! Of a pod's `name:tag@digest` nobody can tell whether its template says so, or only `name:tag`
//! and the webhook added the digest. So both are judged, and told where they differ.

use std::collections::{BTreeMap, BTreeSet};

use countersign_verify::outcome::Effect;
use countersign_verify::policy::{Action, Tags};

use super::change::Change;
use super::pods::Image;
use super::report::{Finding, words};
use crate::review::ImageReview;
use crate::snapshot::Snapshot;

/// Keeps, of the findings by tag, those that tell something beside the findings by digest, and
/// remarks on both what they hang on. `for_digests` are the policies in place that refuse tags:
/// where one speaks for an image, Countersign adds no digest, and a template names it. The findings
/// are in the order of their images.
pub(super) fn settle(findings: Vec<Finding>, for_digests: &BTreeSet<String>) -> Vec<Finding> {
    let (by_tag, mut settled): (Vec<Finding>, Vec<Finding>) =
        findings.into_iter().partition(|finding| finding.image.by_tag);
    let mut pinned: BTreeMap<Image, Vec<usize>> = BTreeMap::new();
    for (index, finding) in settled.iter().enumerate() {
        if let Some((tagged, _)) = finding.image.unpinned() {
            pinned.entry(tagged).or_default().push(index);
        }
    }
    for mut finding in by_tag {
        let pinned = pinned.get(&finding.image).map_or(&[][..], Vec::as_slice);
        if digest_is_of_the_template(&finding, for_digests) {
            continue;
        }
        if finding.decision().effect() != Effect::Deny {
            for index in pinned {
                remark_if_denied(&mut settled[*index].review);
            }
        }
        let agree = |index: &usize| {
            let other = &settled[*index];
            words(&other.review) == words(&finding.review) && other.change() == finding.change()
        };
        let tells = finding.decision().effect() != Effect::Allow
            || finding.change().is_some_and(|change| change != Change::Unchanged);
        if tells && !pinned.iter().all(agree) {
            remark_by_tag(&mut finding);
            settled.push(finding);
        }
    }
    settled.sort_by(|one, other| one.image.cmp(&other.image));
    settled
}

/// The policies that refuse what is named by tag.
pub(super) fn for_digests(snapshot: &Snapshot) -> BTreeSet<String> {
    let policies = snapshot.policies.policies().iter();
    let refuse_tags = policies
        .filter(|policy| policy.action == Action::Deny && policy.tags == Tags::RequireDigest);
    refuse_tags.map(|policy| policy.name.clone()).collect()
}

fn digest_is_of_the_template(finding: &Finding, for_digests: &BTreeSet<String>) -> bool {
    let present = finding.before.as_ref().unwrap_or(&finding.review);
    let mut policies = present.decision.verdicts.iter().filter_map(|it| it.policy.as_ref());
    policies.any(|policy| for_digests.contains(policy))
}

fn remark_if_denied(review: &mut ImageReview) {
    if review.decision.effect() == Effect::Deny {
        let remark =
            "by its tag it would be let in; this holds where the template names the digest";
        review.notes.push(remark.to_owned());
    }
}

fn remark_by_tag(finding: &mut Finding) {
    let digests = finding.pinned_to();
    let shown = digests.first().copied().unwrap_or_default();
    let more = match digests.len().saturating_sub(1) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    finding.review.notes.push(format!(
        "by its tag; the running pods are pinned to {shown}{more}, and this does not hold where their template names the digest too"
    ));
}

impl Finding {
    /// Of an image by its tag: the digests that its pods name beside it.
    pub(super) fn pinned_to(&self) -> BTreeSet<&str> {
        self.workloads.values().flat_map(|place| &place.digests).map(String::as_str).collect()
    }
}
