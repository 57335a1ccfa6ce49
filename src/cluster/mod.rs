//! Countersign in a cluster: what it reads from the API server, and what it writes and keeps there.

pub mod certificate;
pub mod checkpoints;
pub mod events;
mod forecast;
mod freshness;
pub mod lease;
mod namespaces;
pub(crate) mod pages;
pub mod present;
mod problem;
pub mod pulls;
mod resources;
mod status;
mod store;
#[cfg(test)]
pub(crate) mod testing;
mod watch;
pub mod webhooks;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::DynamicObject;
use kube::{Api, Client};
use tokio::time::interval;

pub use freshness::Freshness;
pub use namespaces::{Labels, Namespaces};
pub(crate) use problem::because;
pub use resources::Latest;

use crate::api::Kind;
use crate::review::Reviewer;
use crate::server::Readiness;
use crate::telemetry::Metrics;
use checkpoints::Checkpoints;
use events::Events;
use freshness::Heard;
use resources::{Changes, Place};
use watch::Follow;

/// Who writes, as server-side apply records it.
pub const FIELD_MANAGER: &str = "countersign";

/// Helm keeps its releases, which are large, in Secrets of this type: they are of no use here.
const NO_RELEASES: &str = "type!=helm.sh/release.v1";

/// How often readiness is brought up to date.
const LOOK: Duration = Duration::from_millis(250);

/// What is read from the API server, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Countersign's own namespace: the ConfigMaps and Secrets that sources name are in there.
    pub system_namespace: String,
    /// Where nothing was heard of a watch for longer than this, nothing is admitted.
    pub stale_after: Duration,
    /// The registries that the configuration names.
    pub registries: BTreeSet<String>,
}

/// What reviews know of the cluster beside its policies.
#[derive(Debug)]
pub struct View {
    /// Whether the policies in place are those of the API server.
    pub freshness: Arc<Freshness>,
    /// The namespaces' labels.
    pub namespaces: Namespaces,
}

impl View {
    /// The cluster of one moment: nothing is watched, and the policies in place are those that
    /// were read. Labels that are not known are asked for.
    fn of_moment(client: Client, labels: HashMap<String, Arc<Labels>>) -> Self {
        let freshness = Arc::new(Freshness::new(Vec::new(), Duration::MAX));
        freshness.put_in_place(true);
        Self { freshness, namespaces: Namespaces::knowing(client, labels) }
    }
}

#[cfg(test)]
impl View {
    /// No watches, and nothing in place yet.
    pub(crate) fn of_test(client: Client) -> Self {
        let freshness = Arc::new(Freshness::new(Vec::new(), Duration::from_secs(60)));
        Self { freshness, namespaces: Namespaces::new(client) }
    }
}

/// The watches of one replica, before they are begun.
pub struct Cluster {
    client: Client,
    settings: Settings,
    view: Arc<View>,
    latest: Arc<Latest>,
    policies: Arc<Heard>,
    sources: Arc<Heard>,
    config_maps: Arc<Heard>,
    secrets: Arc<Heard>,
    namespaces: Arc<Heard>,
    checkpoints: Arc<Checkpoints>,
    events: Option<Events>,
}

impl Cluster {
    /// Nothing is read before [`Self::follow`] runs.
    pub fn new(client: Client, settings: Settings, metrics: &Metrics) -> Self {
        let [policies, sources, config_maps, secrets, namespaces] =
            ["TrustPolicies", "TrustSources", "ConfigMaps", "Secrets", "Namespaces"]
                .map(Heard::new);
        let watches = [&policies, &sources, &config_maps, &secrets, &namespaces];
        let watches = watches.into_iter().map(Arc::clone).collect();
        let freshness = Arc::new(Freshness::new(watches, settings.stale_after));
        let view = View { freshness, namespaces: Namespaces::new(client.clone()) };
        let checkpoints = Checkpoints::new(&client, settings.stale_after, metrics);
        Self {
            client,
            settings,
            view: Arc::new(view),
            latest: Arc::default(),
            policies,
            sources,
            config_maps,
            secrets,
            namespaces,
            checkpoints: Arc::new(checkpoints),
            events: None,
        }
    }

    /// Tells by events, too, what is about to expire.
    #[must_use]
    pub fn with_events(self, events: Option<Events>) -> Self {
        Self { events, ..self }
    }

    /// What is remembered of repositories in the cluster.
    pub fn checkpoints(&self) -> Arc<Checkpoints> {
        Arc::clone(&self.checkpoints)
    }

    /// What reviews know of the cluster.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// The resources of the moment, to check others against.
    pub fn latest(&self) -> Arc<Latest> {
        Arc::clone(&self.latest)
    }

    /// Follows the cluster for ever: gives every change to `reviewer`, holds `readiness` while
    /// what is known is not complete or too old, and writes statuses while `leads` is true.
    pub async fn follow(
        self,
        reviewer: Arc<Reviewer>,
        readiness: Readiness,
        leads: tokio::sync::watch::Receiver<bool>,
    ) {
        let changes = Changes::new(Arc::clone(&self.view.freshness));
        let (statuses, due) = tokio::sync::watch::channel(Arc::default());
        let place =
            Place::new(reviewer, Arc::clone(&self.latest), self.settings.registries.clone())
                .with_events(self.events.clone());
        let writing = async {
            status::write(self.client.clone(), due, leads).await;
            // Nobody leads any more: what is read still counts.
            std::future::pending::<()>().await;
        };
        tokio::join!(
            self.watch_resources(&changes),
            self.watch_namespaces(),
            changes.put_in_place(place, statuses),
            writing,
            self.checkpoints.follow(),
            hold(&readiness, &self.view.freshness, &self.checkpoints),
        );
    }

    async fn watch_resources(&self, changes: &Changes) {
        let resources = |kind: Kind, heard: &Arc<Heard>| {
            let follow = self.begin(heard);
            let api: Api<DynamicObject> = Api::all_with(follow.client.clone(), &kind.resource());
            (follow, api)
        };
        let namespace = &self.settings.system_namespace;
        let (policies, policies_api) = resources(Kind::Policy, &self.policies);
        let (sources, sources_api) = resources(Kind::Source, &self.sources);
        let config_maps = self.begin(&self.config_maps);
        let config_maps_api: Api<ConfigMap> =
            Api::namespaced(config_maps.client.clone(), namespace);
        let mut secrets = self.begin(&self.secrets);
        secrets.config = secrets.config.fields(NO_RELEASES);
        let secrets_api: Api<Secret> = Api::namespaced(secrets.client.clone(), namespace);
        tokio::join!(
            policies.run(policies_api, |event| changes.policy(event)),
            sources.run(sources_api, |event| changes.source(event)),
            config_maps.run(config_maps_api, |event| changes.config_map(event)),
            secrets.run(secrets_api, |event| changes.secret(event)),
        );
    }

    async fn watch_namespaces(&self) {
        let follow = self.begin(&self.namespaces);
        let api = Api::all(follow.client.clone());
        let mut listing = HashMap::new();
        follow.run(api, |event| self.view.namespaces.take(&mut listing, event)).await;
    }

    fn begin(&self, heard: &Arc<Heard>) -> Follow {
        Follow::new(&self.client, Arc::clone(heard), self.settings.stale_after)
    }
}

/// Holds readiness while what is known is not complete or too old.
async fn hold(readiness: &Readiness, freshness: &Freshness, checkpoints: &Checkpoints) {
    let mut looks = interval(LOOK);
    let mut told = None;
    loop {
        looks.tick().await;
        match checkpoints.unlisted() {
            Some(problem) => readiness.hold("checkpoints", problem),
            None => readiness.release("checkpoints"),
        }
        let problem = freshness.check().err();
        match &problem {
            Some(problem) => readiness.hold("policies", problem.as_str()),
            None => readiness.release("policies"),
        }
        if problem.is_some() != told.unwrap_or(true) {
            match &problem {
                Some(problem) => tracing::error!(%problem, "not ready: reviews are denied"),
                None => tracing::info!("ready: everything is listed and in place"),
            }
            told = Some(problem.is_some());
        }
    }
}
