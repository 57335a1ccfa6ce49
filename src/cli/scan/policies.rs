//! The policies that a scan goes by: the cluster's, and candidates beside them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;

use super::trouble;
use crate::api::{self, Compiled, Kind, Resources};
use crate::cluster::present::{Present, Unread};
use crate::snapshot::Snapshot;

/// What reviews go by.
pub(super) struct Policies {
    /// The cluster's policies of the moment.
    pub(super) present: Snapshot,
    /// The same with the candidates, where there are any.
    pub(super) candidate: Option<Snapshot>,
}

/// Reads candidates from files; `None` where none are named.
pub(super) fn candidates(paths: &[PathBuf]) -> Result<Option<Resources>, Vec<String>> {
    let Some(first) = paths.first() else { return Ok(None) };
    let resources = api::read(paths)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let Resources { policies, sources, config_maps, secrets, .. } = &resources;
    if policies.is_empty() && sources.is_empty() && config_maps.is_empty() && secrets.is_empty() {
        let what = "no resource was found here; name a file, or a folder with .yaml, .yml or .json files, that has one";
        return Err(vec![format!("{}: {what}", first.display())]);
    }
    Ok(Some(resources))
}

/// Reads the cluster's resources, and puts the candidates beside them. Candidates that do not
/// compile are an error; what does not compile of the cluster's denies what it matches, as it
/// does there, and is told.
pub(super) async fn read(
    present: &Present,
    candidates: Option<Resources>,
    registries: &BTreeSet<String>,
    url: &str,
) -> Result<Policies, Vec<String>> {
    let resources = match present.resources().await {
        // Before Countersign is installed, any policy is a candidate.
        Err(unread @ Unread::NotDefined { .. }) if candidates.is_some() => {
            eprintln!("countersign: {unread}, so the candidates are compared with none");
            Resources::default()
        }
        read => read.map_err(|unread| vec![trouble::policies(&unread, url)])?,
    };
    let resources = present.with_named(resources).await;
    let candidate = match candidates {
        None => None,
        Some(candidates) => {
            Some(present.with_named(resources.clone().replaced_by(candidates)).await)
        }
    };
    let unread = candidate.as_ref().unwrap_or(&resources).unread.values();
    for why in unread.collect::<BTreeSet<_>>() {
        eprintln!("countersign: {why}");
    }
    let compiled = api::compile(&resources, Timestamp::now());
    tell(&compiled);
    let candidate = match candidate {
        None => None,
        Some(candidate) => Some(checked(api::compile(&candidate, Timestamp::now()))?),
    };
    Ok(Policies {
        present: Snapshot::new(compiled, registries),
        candidate: candidate.map(|compiled| Snapshot::new(compiled, registries)),
    })
}

/// What of the cluster's own does not compile.
fn tell(compiled: &Compiled) {
    for problem in &compiled.problems {
        eprintln!("countersign: in the cluster: {problem}");
    }
    let policy = Kind::Policy.as_str();
    if compiled.policies.is_empty() {
        eprintln!("countersign: the cluster has no {policy} yet");
    }
}

/// A problem of a candidate has its place in a file.
fn checked(compiled: Compiled) -> Result<Compiled, Vec<String>> {
    let of_candidates = compiled.problems.iter().filter(|problem| problem.place.is_some());
    let problems: Vec<String> = of_candidates.map(ToString::to_string).collect();
    if problems.is_empty() { Ok(compiled) } else { Err(problems) }
}
