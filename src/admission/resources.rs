//! TrustPolicies and TrustSources themselves: one that would deny whatever it matches is refused
//! where its author looks.

use std::panic::resume_unwind;
use std::sync::Arc;

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::body::Rejected;
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

/// Largest review of a resource, in bytes: it is read whole, and a spec within its definition's
/// bounds is far smaller.
pub(super) const REVIEW_BYTES: usize = 1 << 20;

/// Checks resources one at a time, and on no thread that answers others: it takes memory and time.
#[derive(Debug)]
pub(super) struct Checks(Arc<Semaphore>);

impl Default for Checks {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Checks {
    /// Answers the review in `body`, whose request was read already.
    pub(super) async fn answer(
        &self,
        latest: &Arc<Latest>,
        request: &Request<'_>,
        body: &Bytes,
        deadline: Instant,
    ) -> Result<Answer, Rejected> {
        let asked = match asked(request) {
            Ok(asked) => asked,
            Err(answer) => return Ok(answer),
        };
        let turn = timeout_at(deadline, Arc::clone(&self.0).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Rejected::TooMany) };
        let (latest, body) = (Arc::clone(latest), body.clone());
        let checking = spawn_blocking(move || {
            // Whoever asked may be gone by now; the next one waits all the same.
            let _turn = turn;
            check(&latest, asked, &body)
        });
        match checking.await {
            Ok(answer) => Ok(answer?),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => Err(Rejected::Failed),
            },
        }
    }
}

/// What is to be checked.
#[derive(Debug, Clone, Copy)]
struct Asked {
    kind: Kind,
    is_update: bool,
}

/// What this request asks to check, or the answer where that is nothing.
fn asked(request: &Request<'_>) -> Result<Asked, Answer> {
    if request.place == Place::Unaffected {
        return Err(Answer::allowed());
    }
    let kind = Kind::of(&request.kind.group, &request.kind.kind);
    let is_update = request.operation == Operation::Update;
    kind.map(|kind| Asked { kind, is_update }).ok_or_else(|| other_kind(request))
}

/// Answers the review in `body`. A fault of what the resource names is a warning: that may come
/// later. So is any where the spec stays what it was, as one that compiles no more has to be
/// labelled and deleted too.
fn check(latest: &Latest, asked: Asked, body: &[u8]) -> Result<Answer, Malformed> {
    let Asked { kind, is_update } = asked;
    let Objects { object, old_object } = serde_json::from_slice::<Whole>(body)?.request;
    let object = object.ok_or(Malformed::NoObject)?;
    let stays = is_update && old_object.is_some_and(|old| old.spec == object.spec);
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
