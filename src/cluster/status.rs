//! What Countersign says of TrustPolicies and TrustSources in their status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::FIELD_MANAGER;
use super::forecast::{EXPIRING, Forecast};
use super::resources::Object;
use crate::api::{API_VERSION, Kind, Problem};

/// The condition's type, which kstatus and `kubectl wait` know.
const READY: &str = "Ready";

/// Most characters of a message; the first problem is what counts.
const MESSAGE_CHARS: usize = 1024;

/// Longest time for one write.
const WRITE: Duration = Duration::from_secs(10);

/// How long to wait after a write failed, and before one object is written again: somebody else may
/// write to it each time.
const RETRY: Duration = Duration::from_secs(5);

/// A resource: its kind and name.
pub(super) type Key = (Kind, String);

/// What `compile` makes of one generation of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    generation: i64,
    /// The first problem's code and text; `None` where there is no problem.
    problem: Option<(&'static str, String)>,
    /// Of a source, what will be of it.
    forecast: Option<Forecast>,
}

impl Verdict {
    /// The verdict on this generation, from all problems that the resource has.
    pub(super) fn new(generation: i64, problems: &[&Problem]) -> Self {
        let problem = problems.first().map(|first| {
            let mut text = format!("{}: {}", first.field, first.reason);
            if problems.len() > 1 {
                text.push_str(&format!(" (and {} more)", problems.len() - 1));
            }
            (first.code, text.chars().take(MESSAGE_CHARS).collect())
        });
        Self { generation, problem, forecast: None }
    }

    /// The same with a forecast.
    pub(super) fn with(&self, forecast: Forecast) -> Self {
        Self { forecast: Some(forecast), ..self.clone() }
    }

    /// Every condition, as it is beside the `former` ones.
    fn conditions(&self, former: &[Condition], now: &Time) -> Vec<Condition> {
        let ready = match &self.problem {
            None => ("True", READY, "it is in force".to_owned()),
            Some((code, text)) => ("False", *code, text.clone()),
        };
        let told = former.iter().find(|condition| condition.type_ == EXPIRING);
        let forecast = self.forecast.as_ref().map(|forecast| forecast.after(told).words());
        let forecast = forecast.map(|words| (EXPIRING, words));
        let all = [Some((READY, ready)), forecast].into_iter().flatten();
        all.map(|(kind, words)| self.condition(kind, words, former, now)).collect()
    }

    fn condition(
        &self,
        kind: &str,
        (status, reason, message): (&str, &str, String),
        former: &[Condition],
        now: &Time,
    ) -> Condition {
        let since = former.iter().find(|it| it.type_ == kind && it.status == status);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: Some(self.generation),
            last_transition_time: since.map_or(now, |since| &since.last_transition_time).clone(),
        }
    }
}

/// A status that differs from what the API server has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Write {
    key: Key,
    /// The object's resource version that it was compared with.
    seen: String,
    verdict: Verdict,
    body: Value,
}

/// What this replica has written last of a resource.
struct Written {
    seen: String,
    verdict: Verdict,
    at: Instant,
}

/// The status to write, where that of `object` is not what `verdict` says. An object whose
/// present generation was not compiled yet has to wait.
pub(super) fn due<S>(key: Key, object: &Object<S>, verdict: &Verdict, now: &Time) -> Option<Write> {
    if object.generation != verdict.generation {
        return None;
    }
    let former = &object.status.conditions;
    let conditions = verdict.conditions(former, now);
    let observed = object.status.observed_generation == Some(verdict.generation);
    if observed && conditions.iter().all(|condition| former.contains(condition)) {
        return None;
    }
    let (kind, name) = &key;
    let body = json!({
        "apiVersion": API_VERSION,
        "kind": kind.as_str(),
        // A write that was decided on what the object no longer is has to fail.
        "metadata": {"name": name, "uid": object.uid, "resourceVersion": object.version},
        "status": {"observedGeneration": verdict.generation, "conditions": conditions},
    });
    Some(Write { key, seen: object.version.clone(), verdict: verdict.clone(), body })
}

/// The time, in whole seconds, as Kubernetes writes it.
pub(super) fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Writes what is due while `leads` is true, until nobody is left to tell either. A write that
/// fails is repeated; one that succeeded is not, until the object is seen to have changed.
pub(super) async fn write(
    client: Client,
    mut due: watch::Receiver<Arc<Vec<Write>>>,
    mut leads: watch::Receiver<bool>,
) {
    let mut written: BTreeMap<Key, Written> = BTreeMap::new();
    loop {
        let mut again = false;
        if *leads.borrow_and_update() {
            let writes = Arc::clone(&due.borrow_and_update());
            written.retain(|key, _| writes.iter().any(|write| write.key == *key));
            for write in writes.iter() {
                let former = written.get(&write.key);
                if former.is_some_and(|former| former.seen == write.seen) {
                    continue;
                }
                // Somebody else has written over it, and may do so each time.
                if former.is_some_and(|it| it.verdict == write.verdict && it.at.elapsed() < RETRY) {
                    again = true;
                    continue;
                }
                if !*leads.borrow() || due.has_changed().unwrap_or(false) {
                    break;
                }
                match write.apply(&client).await {
                    Ok(()) => drop(written.insert(write.key.clone(), write.written())),
                    Err(error) => {
                        let (kind, name) = (write.key.0.as_str(), &write.key.1);
                        tracing::warn!(kind, name, error, "a status could not be written");
                        again = true;
                    }
                }
            }
        }
        let told = tokio::select! {
            told = due.changed() => told,
            told = leads.changed() => told,
            () = sleep(RETRY), if again => Ok(()),
        };
        if told.is_err() {
            return;
        }
    }
}

impl Write {
    fn written(&self) -> Written {
        let (seen, verdict) = (self.seen.clone(), self.verdict.clone());
        Written { seen, verdict, at: Instant::now() }
    }

    async fn apply(&self, client: &Client) -> Result<(), String> {
        let (kind, name) = &self.key;
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource());
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let body = Patch::Apply(&self.body);
        match timeout(WRITE, api.patch_status(name, &params, &body)).await {
            Ok(Ok(_)) => Ok(()),
            // It was changed or deleted meanwhile, as the watch will tell.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", WRITE.as_secs())),
        }
    }
}

#[cfg(test)]
mod tests;
