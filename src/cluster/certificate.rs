//! Countersign's own authority and serving certificate, kept in a Secret.
//!
//! The Secret is there from the start, empty, so that nobody needs the right to create Secrets.
//! Whoever finds it empty fills it; from then on the holder of the lease writes. Every write names
//! the resourceVersion that it was planned from.

mod material;
mod plan;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use super::FIELD_MANAGER;
use super::problem::{Told, because, changed, is_conflict};
use crate::clock::Clock;
use crate::server::{CERTIFICATE, Pair, Readiness};
use crate::telemetry::Metrics;
use material::{Content, Data, Material};
use plan::Step;

/// Longest wait for the API server. A Secret is small.
const PATIENCE: Duration = Duration::from_secs(10);

/// How soon something is tried again that the API server refused.
const RETRY: Duration = Duration::from_secs(2);

/// Longest time without a look at the Secret, whatever the watch says.
const LOOK: Duration = Duration::from_secs(60);

/// What is kept, and where.
#[derive(Debug, Clone)]
pub struct CertificateSettings {
    /// The Secret's namespace, which is the Service's too.
    pub namespace: String,
    /// The Secret's name.
    pub secret: String,
    /// The Service in front of the webhooks.
    pub service: String,
    /// How long new certificates are valid; they are renewed at two thirds of it.
    pub lifetime: Duration,
}

impl CertificateSettings {
    /// The names that the API server may know the webhooks by.
    fn names(&self) -> BTreeSet<String> {
        let short = format!("{}.{}", self.service, self.namespace);
        BTreeSet::from([format!("{short}.svc"), format!("{short}.svc.cluster.local"), short])
    }

    /// The Secret, as messages name it.
    fn place(&self) -> String {
        format!("Secret {}/{}", self.namespace, self.secret)
    }
}

/// What the keeper hears and tells.
#[derive(Debug)]
pub struct CertificateChannels {
    /// Whether this replica holds the lease.
    pub holds: watch::Receiver<bool>,
    /// The bundle that every webhook configuration is known to have; `None` where this program
    /// keeps no configurations: then a published bundle counts as known.
    pub applied: Option<watch::Receiver<Option<Arc<str>>>>,
    /// What to serve with.
    pub pair: watch::Sender<Option<Arc<Pair>>>,
    /// Every authority that is trusted, in PEM.
    pub bundle: watch::Sender<Option<Arc<str>>>,
}

/// Keeps the Secret, and tells what is in it.
#[derive(Debug)]
pub struct CertificateKeeper {
    api: Api<Secret>,
    settings: CertificateSettings,
    names: BTreeSet<String>,
    channels: CertificateChannels,
    readiness: Readiness,
    metrics: Metrics,
    clock: Clock,
    /// The Secret's resourceVersion and content.
    found: Option<(String, Content)>,
    /// What it held when it was whole the last time.
    good: Option<Material>,
    /// Since when every client knows which authority.
    announced: Option<(CertificateDer<'static>, Timestamp)>,
    told: Told,
}

/// A Secret as it is to become. Never shown: there are keys in it.
#[derive(Serialize)]
struct Written(serde_json::Value);

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Written(..)")
    }
}

impl CertificateKeeper {
    /// Keeps nothing yet. Readiness is held until there is a certificate to serve with.
    pub fn new(
        client: Client,
        settings: CertificateSettings,
        channels: CertificateChannels,
        readiness: Readiness,
        metrics: Metrics,
    ) -> Self {
        readiness.hold(CERTIFICATE, format!("{} was not read yet", settings.place()));
        Self {
            api: Api::namespaced(client, &settings.namespace),
            names: settings.names(),
            settings,
            channels,
            readiness,
            metrics,
            clock: Clock::system(),
            found: None,
            good: None,
            announced: None,
            told: Told::default(),
        }
    }

    /// Keeps the Secret for ever.
    pub async fn run(mut self) {
        let secrets: Api<PartialObjectMeta<Secret>> =
            Api::namespaced(self.api.clone().into_client(), &self.settings.namespace);
        let changes = watcher::watch_object(secrets, &self.settings.secret).default_backoff();
        let mut changes = std::pin::pin!(changes);
        let mut watching = Told::default();
        loop {
            let wait = match self.look().await {
                Ok(until) => {
                    self.told.clear();
                    self.until(until)
                }
                Err(problem) => {
                    self.tell(&problem);
                    RETRY
                }
            };
            tokio::select! {
                Some(change) = changes.next() => match change {
                    Ok(_) => watching.clear(),
                    Err(error) => watching.tell("the Secret cannot be watched", &error.to_string()),
                },
                () = changed(Some(&mut self.channels.holds)) => {}
                () = changed(self.channels.applied.as_mut()) => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Reads the Secret, tells what is in it, and takes the next step where it is ours to take.
    /// Gives the time of the step after it, where one is known.
    async fn look(&mut self) -> Result<Option<Timestamp>, String> {
        let (version, content) = self.read().await?;
        let now = self.clock.now();
        let (material, write_back) = match (&content, &self.good) {
            (Content::Empty, _) => (Material::default(), false),
            (Content::Whole(material), _) => (material.clone(), false),
            (Content::Broken(..), Some(good)) => (good.clone(), true),
            (Content::Broken(usable, _), None) => (usable.clone(), false),
        };
        let announced = self.announced(&material, now);
        // An empty Secret is filled by whoever comes first: nobody serves before.
        if !matches!(content, Content::Empty) && !*self.channels.holds.borrow() {
            return Ok(None);
        }
        let step = plan::plan(&material.outline(), announced, self.settings.lifetime, now);
        match step {
            Step::Wait(until) if !write_back => Ok(until),
            step => {
                let data = material.after(step, &self.names, self.settings.lifetime, now);
                let data = data.map_err(|error| error.to_string())?;
                self.write(&version, &data, step).await?;
                // The watch tells sooner what became of it.
                Ok(Some(plan::after(now, RETRY)))
            }
        }
    }

    /// The Secret's resourceVersion and content. What is whole is told to those who use it.
    async fn read(&mut self) -> Result<(String, Content), String> {
        let CertificateSettings { namespace, secret, .. } = &self.settings;
        let Some(found) = answer(self.api.get_opt(secret)).await? else {
            return Err(format!(
                "{} does not exist; the chart renders it empty, for Countersign to fill: apply the \
                 chart again, or run: kubectl create secret generic {secret} -n {namespace}",
                self.settings.place()
            ));
        };
        let version = found.metadata.resource_version.unwrap_or_default();
        if let Some((seen, content)) = &self.found
            && *seen == version
        {
            return Ok((version, content.clone()));
        }
        let place = self.settings.place();
        let content = Content::read(&place, &found.data.unwrap_or_default(), &self.names);
        match &content {
            Content::Empty => {}
            Content::Whole(material) => {
                self.publish(material);
                self.metrics.certificate_reloaded(true);
            }
            Content::Broken(_, problem) => {
                self.metrics.certificate_reloaded(false);
                tracing::error!(%problem, "{place} cannot be used; serving with the last pair");
            }
        }
        self.found = Some((version.clone(), content.clone()));
        Ok((version, content))
    }

    fn publish(&mut self, material: &Material) {
        set(&self.channels.pair, material.pair());
        set(&self.channels.bundle, Some(material.bundle().into()));
        self.good = Some(material.clone());
    }

    /// Since when every client knows the authority that signs.
    fn announced(&mut self, material: &Material, now: Timestamp) -> Option<Timestamp> {
        let signer = material.signer()?;
        let known = match &self.channels.applied {
            Some(applied) => applied.borrow().clone(),
            None => self.channels.bundle.borrow().clone(),
        };
        let known = known.is_some_and(|bundle| material::contains(&bundle, signer));
        let before = self.announced.take().filter(|(authority, _)| authority == signer);
        self.announced = known.then(|| before.unwrap_or_else(|| (signer.clone(), now)));
        self.announced.as_ref().map(|(_, since)| *since)
    }

    /// Writes unless the Secret has changed since it was read. Who lost that race reads again.
    async fn write(&self, version: &str, data: &Data, step: Step) -> Result<(), String> {
        let written = Written(json!({"metadata": {"resourceVersion": version}, "data": data}));
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
        let (name, patch) = (&self.settings.secret, Patch::Merge(&written));
        let patched = timeout(PATIENCE, self.api.patch(name, &parameters, &patch)).await;
        let place = self.settings.place();
        match patched {
            Ok(Ok(_)) => {
                let done = match step {
                    Step::Begin => "a new authority and certificate",
                    Step::AddAuthority => "a new authority, which signs when it is known",
                    Step::Sign => "a new certificate",
                    Step::Drop => "without authorities that have ended",
                    Step::Wait(_) => "its last whole content again",
                };
                tracing::info!("{place} was written: {done}");
                Ok(())
            }
            Ok(Err(error)) if is_conflict(&error) => Ok(()),
            Ok(Err(error)) => Err(format!("{place} cannot be written: {}", because(&error))),
            Err(_) => Err(format!("{place} cannot be written: no answer in time")),
        }
    }

    /// How long to wait for news.
    fn until(&self, until: Option<Timestamp>) -> Duration {
        let wait = until.map(|until| until.duration_since(self.clock.now()));
        let wait = wait.map_or(LOOK, |wait| Duration::try_from(wait).unwrap_or_default());
        // A clock in microseconds may wake a little too soon.
        wait.min(LOOK) + Duration::from_millis(1)
    }

    fn tell(&mut self, problem: &str) {
        if self.channels.pair.borrow().is_none() {
            self.readiness.hold(CERTIFICATE, problem);
        }
        self.told.tell("the certificate cannot be kept", problem);
    }
}

/// What the API server answers, in time.
async fn answer<T>(asked: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(|error| because(&error)),
        Err(_) => Err("the API server does not answer".to_owned()),
    }
}

fn set<T: PartialEq>(channel: &watch::Sender<T>, value: T) {
    channel.send_if_modified(|present| {
        let new = *present != value;
        *present = value;
        new
    });
}
