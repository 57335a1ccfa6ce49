//! TrustPolicies, TrustSources and what they name, from watches to one snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::events::Events;
use super::forecast::{Forecast, Teller};
use super::freshness::Freshness;
use super::status::{self, Key, Verdict, Write};
use super::store::{Store, map};
use crate::api::{
    self, Compiled, Document, Kind, Problem, Resources, SecretData, Status, TrustPolicySpec,
    TrustSourceSpec,
};
use crate::review::Reviewer;
use crate::snapshot::Snapshot;

/// How long changes are gathered after the first, so that a burst costs one compilation.
const GATHER: Duration = Duration::from_millis(20);

/// How often is looked what expires, while nothing else changes.
const LOOK_AHEAD: Duration = Duration::from_secs(10);

/// A TrustPolicy or TrustSource as the API server has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object<S> {
    pub(super) document: Document<S>,
    pub(super) generation: i64,
    pub(super) uid: String,
    pub(super) version: String,
    pub(super) status: Status,
}

impl<S: DeserializeOwned> Object<S> {
    /// Reads the spec as files' are read, whatever its shape.
    pub(super) fn read(mut object: DynamicObject) -> (String, Self) {
        let name = object.name_any();
        let mut part =
            |field: &str| object.data.get_mut(field).map(Value::take).unwrap_or_default();
        let (spec, status) = (part("spec"), part("status"));
        let read = Self {
            document: Document::new(name.as_str(), None, spec),
            generation: object.metadata.generation.unwrap_or_default(),
            uid: object.metadata.uid.unwrap_or_default(),
            version: object.metadata.resource_version.unwrap_or_default(),
            // One that cannot be read is written anew.
            status: serde_json::from_value(status).unwrap_or_default(),
        };
        (name, read)
    }
}

/// A ConfigMap's name and data by key.
pub(super) fn config_map(config_map: ConfigMap) -> (String, BTreeMap<String, Vec<u8>>) {
    let name = config_map.name_any();
    let text = config_map.data.unwrap_or_default().into_iter();
    let mut data: BTreeMap<String, Vec<u8>> =
        text.map(|(key, text)| (key, text.into_bytes())).collect();
    let binary = config_map.binary_data.unwrap_or_default().into_iter();
    data.extend(binary.map(|(key, bytes)| (key, bytes.0)));
    (name, data)
}

/// A Secret's name, and what a source can use of its data.
pub(super) fn secret(secret: Secret) -> (String, SecretData) {
    let name = secret.name_any();
    let data = secret.data.unwrap_or_default().into_iter();
    (name, SecretData::of_use(data.map(|(key, bytes)| (key, bytes.0))))
}

/// Everything as listed and watched.
#[derive(Debug, Default)]
struct Watched {
    policies: Store<Object<TrustPolicySpec>>,
    sources: Store<Object<TrustSourceSpec>>,
    config_maps: Store<BTreeMap<String, Vec<u8>>>,
    secrets: Store<SecretData>,
    /// Whether anything that is compiled changed since it was.
    to_compile: bool,
}

/// What the watches fill and [`Changes::put_in_place`] makes snapshots of.
#[derive(Debug)]
pub(super) struct Changes {
    watched: Mutex<Watched>,
    changed: Notify,
    freshness: Arc<Freshness>,
}

impl Changes {
    /// Nothing is listed; `freshness` is told what is in place.
    pub(super) fn new(freshness: Arc<Freshness>) -> Self {
        Self { watched: Mutex::default(), changed: Notify::new(), freshness }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        // It is whole between any two events.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, take: impl FnOnce(&mut Watched) -> (bool, bool)) {
        let mut watched = self.watched();
        let (changed, to_compile) = take(&mut watched);
        watched.to_compile |= to_compile;
        // Too old to go by until now: it is not to be gone by once more before this is in place.
        if to_compile && self.freshness.check().is_err() {
            self.freshness.put_in_place(false);
        }
        drop(watched);
        if changed {
            self.changed.notify_one();
        }
    }

    pub(super) fn policy(&self, event: Event<DynamicObject>) {
        let event = map(event, Object::read);
        self.take(|watched| resource(&mut watched.policies, event));
    }

    pub(super) fn source(&self, event: Event<DynamicObject>) {
        let event = map(event, Object::read);
        self.take(|watched| resource(&mut watched.sources, event));
    }

    pub(super) fn config_map(&self, event: Event<ConfigMap>) {
        let event = map(event, config_map);
        self.take(|watched| both(watched.config_maps.take(event)));
    }

    pub(super) fn secret(&self, event: Event<Secret>) {
        let event = map(event, secret);
        self.take(|watched| both(watched.secrets.take(event)));
    }

    /// What there is to compile; `None` where nothing changed, or not everything is listed.
    fn to_compile(&self) -> Option<Input> {
        let mut watched = self.watched();
        let Watched { policies, sources, config_maps, secrets, to_compile } = &mut *watched;
        let listed = [policies.listed(), sources.listed(), config_maps.listed(), secrets.listed()];
        if listed.contains(&false) || !std::mem::take(to_compile) {
            return None;
        }
        let generations = generations(Kind::Policy, policies)
            .chain(generations(Kind::Source, sources))
            .collect::<Vec<_>>();
        let resources = Resources {
            policies: policies.held().values().map(|object| object.document.clone()).collect(),
            sources: sources.held().values().map(|object| object.document.clone()).collect(),
            config_maps: config_maps.held().clone(),
            secrets: secrets.held().clone(),
            ..Resources::default()
        };
        Some(Input { resources, generations })
    }

    /// The statuses to write, and what is told of sources beside them.
    fn due(&self, verdicts: &BTreeMap<Key, Verdict>, place: &mut Place) -> Vec<Write> {
        let (forecasts, now) = (place.forecasts(), status::now());
        let watched = self.watched();
        let sources = watched.sources.held();
        place.teller.tell(&forecasts, |name| Some(sources.get(name)?.uid.clone()));
        let policies = due(Kind::Policy, &watched.policies, |key| verdicts.get(key).cloned(), &now);
        let source = |key: &Key| {
            let forecast = forecasts.get(&key.1).cloned().unwrap_or(Forecast::Unknown);
            Some(verdicts.get(key)?.with(forecast))
        };
        policies.chain(due(Kind::Source, &watched.sources, source, &now)).collect()
    }

    /// A snapshot is in place; what has changed since it was begun has its own turn.
    fn is_in_place(&self) {
        let watched = self.watched();
        if !watched.to_compile {
            self.freshness.put_in_place(true);
        }
    }

    /// Puts every change in place, for ever: one compilation a burst, and then the statuses that
    /// are due.
    pub(super) async fn put_in_place(
        &self,
        mut place: Place,
        statuses: watch::Sender<Arc<Vec<Write>>>,
    ) {
        let mut verdicts = BTreeMap::new();
        loop {
            if timeout(LOOK_AHEAD, self.changed.notified()).await.is_err() {
                let due = self.due(&verdicts, &mut place);
                statuses.send_if_modified(|former| {
                    let changed = **former != due;
                    if changed {
                        *former = Arc::new(due);
                    }
                    changed
                });
                continue;
            }
            sleep(GATHER).await;
            if let Some(input) = self.to_compile() {
                let compile = place.compile;
                let compiling = tokio::task::spawn_blocking(move || compile(input));
                match compiling.await {
                    Ok(output) => {
                        verdicts = place.put(output);
                        self.is_in_place();
                    }
                    // What was changed may have been made stricter: the former policies do not do.
                    Err(error) => {
                        self.freshness.put_in_place(false);
                        tracing::error!(%error, "policies cannot be compiled, which is a bug: everything is denied");
                    }
                }
            }
            statuses.send_replace(Arc::new(self.due(&verdicts, &mut place)));
        }
    }
}

/// Takes an event of a kind with a status: a new status alone is nothing to compile.
fn resource<S: PartialEq + Clone>(
    store: &mut Store<Object<S>>,
    event: Event<(String, Object<S>)>,
) -> (bool, bool) {
    let compiled = |store: &Store<Object<S>>, name: &String| {
        store.held().get(name).map(|object| (object.document.clone(), object.generation))
    };
    let name = match &event {
        Event::Apply((name, _)) => Some(name.clone()),
        _ => None,
    };
    let former = name.as_ref().and_then(|name| compiled(store, name));
    let changed = store.take(event);
    let same = name.is_some_and(|name| former.is_some() && compiled(store, &name) == former);
    (changed, changed && !same)
}

fn both(changed: bool) -> (bool, bool) {
    (changed, changed)
}

fn generations<S: PartialEq>(
    kind: Kind,
    store: &Store<Object<S>>,
) -> impl Iterator<Item = (Key, i64)> {
    store.held().iter().map(move |(name, object)| ((kind, name.clone()), object.generation))
}

fn due<S: PartialEq>(
    kind: Kind,
    store: &Store<Object<S>>,
    verdict: impl Fn(&Key) -> Option<Verdict>,
    now: &Time,
) -> impl Iterator<Item = Write> {
    store.held().iter().filter_map(move |(name, object)| {
        let key = (kind, name.clone());
        let verdict = verdict(&key)?;
        status::due(key, object, &verdict, now)
    })
}

/// Resources of one moment.
struct Input {
    resources: Resources,
    generations: Vec<(Key, i64)>,
}

/// What became of them.
struct Output {
    resources: Resources,
    compiled: Compiled,
    verdicts: BTreeMap<Key, Verdict>,
}

impl Input {
    fn compile(self) -> Output {
        let Self { resources, generations } = self;
        let compiled = api::compile(&resources, Timestamp::now());
        let mut problems: BTreeMap<(&str, &str), Vec<&Problem>> = BTreeMap::new();
        for problem in &compiled.problems {
            problems.entry((problem.kind, &problem.name)).or_default().push(problem);
        }
        let verdict = |(key, generation): (Key, i64)| {
            let of_it = problems.get(&(key.0.as_str(), key.1.as_str()));
            let verdict = Verdict::new(generation, of_it.map_or(&[], Vec::as_slice));
            (key, verdict)
        };
        let verdicts = generations.into_iter().map(verdict).collect();
        Output { resources, compiled, verdicts }
    }
}

/// Where compiled resources go.
pub(super) struct Place {
    reviewer: Arc<Reviewer>,
    latest: Arc<Latest>,
    registries: BTreeSet<String>,
    compile: fn(Input) -> Output,
    /// The problems that have been logged.
    told: Vec<Problem>,
    teller: Teller,
}

impl Place {
    /// `registries` are those that the configuration names.
    pub(super) fn new(
        reviewer: Arc<Reviewer>,
        latest: Arc<Latest>,
        registries: BTreeSet<String>,
    ) -> Self {
        let (compile, told) = (Input::compile, Vec::new());
        let teller = Teller::default();
        Self { reviewer, latest, registries, compile, told, teller }
    }

    /// The same, which tells by events what is about to expire.
    pub(super) fn with_events(self, events: Option<Events>) -> Self {
        Self { teller: Teller::new(events), ..self }
    }

    /// What this replica can say of the sources whose metadata it has.
    fn forecasts(&self) -> BTreeMap<String, Forecast> {
        let sources = self.reviewer.repositories().by_source();
        let now = Timestamp::now();
        sources.into_iter().map(|(name, it)| (name, Forecast::of(&it, now))).collect()
    }

    fn put(&mut self, output: Output) -> BTreeMap<Key, Verdict> {
        let Output { mut resources, mut compiled, verdicts } = output;
        let problems = std::mem::take(&mut compiled.problems);
        for problem in problems.iter().filter(|problem| !self.told.contains(problem)) {
            tracing::warn!(%problem, "a resource does not compile: it denies what it matches");
        }
        self.told = problems;
        // Nothing is checked against them.
        resources.policies.clear();
        let snapshot = Snapshot::new(compiled, &self.registries);
        tracing::info!(policies = snapshot.policies.policies().len(), "policies changed");
        self.reviewer.replace(snapshot);
        self.latest.0.store(Arc::new(resources));
        verdicts
    }
}

/// The resources that the present snapshot was compiled from.
#[derive(Debug, Default)]
pub struct Latest(ArcSwap<Resources>);

impl Latest {
    /// Starts with these resources.
    pub fn new(resources: Resources) -> Self {
        Self(ArcSwap::from_pointee(resources))
    }

    /// Everything that would be wrong with a resource of this name and spec, beside those that
    /// are there.
    pub fn check(&self, kind: Kind, name: &str, spec: Value) -> Vec<Problem> {
        let present = self.0.load();
        let mut resources = Resources {
            config_maps: present.config_maps.clone(),
            secrets: present.secrets.clone(),
            ..Resources::default()
        };
        match kind {
            Kind::Policy => {
                resources.policies.push(Document::new(name, None, spec));
                resources.sources.clone_from(&present.sources);
            }
            Kind::Source => resources.sources.push(Document::new(name, None, spec)),
        }
        let mut problems = api::compile(&resources, Timestamp::now()).problems;
        problems.retain(|problem| problem.kind == kind.as_str() && problem.name == name);
        problems
    }
}

#[cfg(test)]
mod tests;
