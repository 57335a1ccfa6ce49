//! Until when what runs could be admitted again, as far as the evidence of the moment tells.
//!
//! Two times are known of a proof: when the first file of its whole chain expires, and when the
//! first of those does that people have to sign: root, targets, and the role that was accepted. The
//! former is mostly the timestamp's, which servers sign anew by themselves.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use countersign_verify::notary::RoleInfo;
use countersign_verify::outcome::{Effect, Finding, PolicyVerdict, Proof};
use countersign_verify::policy::{Action, Rule, independent};
use jiff::Timestamp;
use serde::Serialize;

use super::report::number;
use super::table::wrapped;
use crate::message::one_line;
use crate::metadata::RoleKind;
use crate::review::{ImageReview, Reviewer};

/// Most lines of a text; JSON has all.
const LINES: usize = 10;

/// What an image could not be admitted without.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase", untagged)]
pub(super) enum Need {
    /// A role's next signature.
    Role {
        /// The TrustSource.
        source: String,
        /// The role that expires.
        role: String,
    },
    /// An exception that goes on.
    Exception {
        /// The TrustPolicy.
        policy: String,
        /// Its exception.
        exception: String,
    },
}

/// An image cannot be admitted again after a time, unless.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lapse {
    pub(super) after: Timestamp,
    pub(super) need: Need,
    /// Whose role it is; of a TUF source there is but one.
    pub(super) repository: Option<String>,
}

/// What a proof rests on.
struct Resting<'p> {
    proof: &'p Proof,
    source: &'p str,
    repository: Option<&'p str>,
    roles: &'p [RoleInfo],
}

/// Everything that is known to end the image's admission; nothing of one that is not admitted.
pub(super) fn lapses(reviewer: &Reviewer, review: &ImageReview) -> BTreeSet<Lapse> {
    if review.decision.effect() == Effect::Deny {
        return BTreeSet::new();
    }
    let snapshot = reviewer.snapshot();
    let at_hand = reviewer.evidence_at_hand(review);
    let read: BTreeMap<&str, (Option<&str>, Vec<RoleInfo>)> = at_hand
        .iter()
        .map(|(live, repository)| {
            let name = repository.notary().map(|_| live.repository.as_str());
            (live.source.name.as_str(), (name, repository.roles()))
        })
        .collect();
    let deciding = review.decision.verdicts.iter().filter(|it| it.action == Action::Deny);
    let of_verdict = |verdict: &PolicyVerdict| -> Vec<Lapse> {
        let Some(name) = &verdict.policy else { return Vec::new() };
        if let Finding::Excepted { exception, expires, .. } = &verdict.finding {
            let need = Need::Exception { policy: name.clone(), exception: exception.clone() };
            return vec![Lapse { after: *expires, need, repository: None }];
        }
        let policy = snapshot.policies.policies().iter().find(|policy| policy.name == *name);
        let Some(Rule::Verify { min_authorities, authorities }) = policy.map(|it| &it.rule) else {
            return Vec::new();
        };
        let resting = verdict.authorities.iter().filter_map(|outcome| {
            let proof = outcome.outcome.as_ref().ok()?;
            let authority = authorities.iter().find(|it| it.name == outcome.authority)?;
            let read = read.get(authority.source.as_str());
            let (repository, roles) = read.map_or((None, &[][..]), |(name, roles)| (*name, roles));
            Some(Resting { proof, source: &authority.source, repository, roles })
        });
        let resting: Vec<Resting<'_>> = resting.collect();
        let times: [fn(&Resting<'_>) -> Option<Lapse>; 2] = [whole_chain, signed_by_people];
        times.into_iter().filter_map(|time| policy_ends(&resting, *min_authorities, time)).collect()
    };
    deciding.flat_map(of_verdict).collect()
}

/// When the policy is no longer satisfied: the first time at which too few proofs are left.
fn policy_ends(
    resting: &[Resting<'_>],
    min_authorities: usize,
    time: fn(&Resting<'_>) -> Option<Lapse>,
) -> Option<Lapse> {
    let proofs = resting.iter().map(|it| (time(it), it.proof)).collect();
    first_shortfall(proofs, |left| independent(left) >= min_authorities.max(1))
}

/// The end after which what is left is not enough. What is not known to end goes on.
fn first_shortfall<P: Copy>(
    mut left: Vec<(Option<Lapse>, P)>,
    are_enough: impl Fn(&[P]) -> bool,
) -> Option<Lapse> {
    left.sort_by_key(|(lapse, _)| (lapse.is_some(), Reverse(lapse.clone())));
    while let Some((Some(lapse), _)) = left.pop() {
        let rest: Vec<P> = left.iter().map(|(_, proof)| *proof).collect();
        if !are_enough(&rest) {
            return Some(lapse);
        }
    }
    None
}

fn whole_chain(it: &Resting<'_>) -> Option<Lapse> {
    let after = it.proof.expires();
    let expires = |role: &&RoleInfo| role.state.as_ref().is_ok_and(|it| it.expires == after);
    // Evidence may have been refreshed since.
    let role = it.roles.iter().find(expires).map_or("a role", |role| role.name.as_str());
    Some(lapse(it, after, role))
}

fn signed_by_people(it: &Resting<'_>) -> Option<Lapse> {
    let accepted: BTreeSet<&str> = it.proof.role().split(", ").chain(["root", "targets"]).collect();
    let known = it.roles.iter().filter(|role| accepted.contains(role.name.as_str()));
    let first = known.filter_map(|role| Some((role.state.as_ref().ok()?.expires, &role.name)));
    let (after, role) = first.min()?;
    Some(lapse(it, after, role))
}

fn lapse(it: &Resting<'_>, after: Timestamp, role: &str) -> Lapse {
    let need = Need::Role { source: it.source.to_owned(), role: role.to_owned() };
    Lapse { after, need, repository: it.repository.map(str::to_owned) }
}

/// So many images could not be admitted again.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Group {
    after: String,
    #[serde(flatten)]
    need: Need,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<String>,
    images: usize,
}

/// How many images each end concerns, the first first.
pub(super) fn groups<'l>(lapses: impl Iterator<Item = &'l Lapse>) -> Vec<Group> {
    let mut counts: BTreeMap<&Lapse, usize> = BTreeMap::new();
    lapses.for_each(|lapse| *counts.entry(lapse).or_default() += 1);
    let group = |(lapse, images): (&Lapse, usize)| Group {
        after: seconds(lapse.after),
        need: lapse.need.clone(),
        repository: lapse.repository.clone(),
        images,
    };
    counts.into_iter().map(group).collect()
}

/// The same as text: a line for each thing that is needed. Empty where nothing is known.
pub(super) fn text<'l>(lapses: impl Iterator<Item = &'l Lapse>) -> String {
    let mut needs: BTreeMap<&Need, (Timestamp, Timestamp, usize)> = BTreeMap::new();
    for Lapse { after, need, .. } in lapses {
        let (first, last, images) = needs.entry(need).or_insert((*after, *after, 0));
        (*first, *last) = ((*first).min(*after), (*last).max(*after));
        *images += 1;
    }
    let mut lines: Vec<_> = needs.into_iter().collect();
    lines.sort_by_key(|(need, (first, ..))| (*first, *need));
    let mut text = String::new();
    if !lines.is_empty() {
        text.push_str("\nCould not be admitted again:\n");
    }
    for (need, (first, last, images)) in lines.iter().take(LINES) {
        let images = number(*images, "image");
        let after = match first == last {
            true => format!("after {}", seconds(*first)),
            false => format!("after {} to {}", seconds(*first), seconds(*last)),
        };
        wrapped(&mut text, &one_line(&format!("{images} {after}, unless {need}")));
    }
    if lines.len() > LINES {
        let more = lines.len() - LINES;
        wrapped(&mut text, &format!("and for {more} more reasons: see --output json"));
    }
    text.truncate(text.trim_end().len());
    text
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Role { source, role } => {
                write!(f, "{role} in TrustSource \"{source}\" is signed anew")?;
                match RoleKind::of(role).is_signed_by_servers() {
                    true => f.write_str(", as servers do by themselves"),
                    false => Ok(()),
                }
            }
            Self::Exception { policy, exception } => {
                write!(
                    f,
                    "exception \"{exception}\" of TrustPolicy \"{policy}\" goes on, or it is signed"
                )
            }
        }
    }
}

/// Whole seconds, as metadata has them.
fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests;
