//! TrustPolicies and TrustSources themselves: one that would deny whatever it matches is refused
//! where its author looks.

use serde::Deserialize;
use serde_json::Value;

use super::read::{Malformed, Request};
use super::respond::Answer;
use super::wire::Operation;
use super::workload::Place;
use crate::api::{Kind, Problem};
use crate::cluster::Latest;

/// As much of the review as [`Request`] does not hold.
#[derive(Deserialize)]
struct Whole {
    request: Objects,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Objects {
    #[serde(default)]
    object: Option<Object>,
    #[serde(default)]
    old_object: Option<Object>,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

/// Answers the review in `body`, whose request was read already. A fault of what the resource
/// names is a warning: that may come later. So is any where the spec stays what it was, as one
/// that compiles no more has to be labelled and deleted too.
pub(super) fn answer(
    latest: &Latest,
    request: &Request<'_>,
    body: &[u8],
) -> Result<Answer, Malformed> {
    if request.place == Place::Unaffected {
        return Ok(Answer::allowed());
    }
    let Some(kind) = Kind::of(&request.kind.group, &request.kind.kind) else {
        return Ok(other_kind(request));
    };
    let Objects { object, old_object } = serde_json::from_slice::<Whole>(body)?.request;
    let object = object.ok_or(Malformed::NoObject)?;
    let stays = request.operation == Operation::Update
        && old_object.is_some_and(|old| old.spec == object.spec);
    let problems = latest.check(kind, &object.metadata.name, object.spec);
    let binding: Vec<&Problem> =
        problems.iter().filter(|problem| !stays && !problem.elsewhere).collect();
    Ok(match binding.first() {
        Some(first) => {
            let lines: Vec<String> = binding.iter().map(ToString::to_string).collect();
            Answer::forbidden(first.code, lines.join("\n"))
        }
        None if problems.is_empty() => Answer::allowed(),
        None => Answer::warned(problems.iter().map(warning).collect()),
    })
}

fn warning(problem: &Problem) -> String {
    format!("until this is mended it denies what it matches: {}: {}", problem.field, problem.reason)
}

fn other_kind(request: &Request<'_>) -> Answer {
    let message = format!(
        "countersign checks only TrustPolicy and TrustSource of countersign.dev here, not {}/{}; remove it from the webhook's rules",
        &*request.kind.group, &*request.kind.kind
    );
    Answer::forbidden("UnknownKind", message)
}
