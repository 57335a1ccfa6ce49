//! The webhook configurations: created when this replica can answer, and kept as they should be.
//!
//! They are rendered by the installation without the authority that signs our certificate and
//! without an owner. The holder of the lease fills in both and applies them. The owner is an object
//! of the installation, so that what makes the API server ask us goes when the installation does.

mod file;
mod service;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    ManagedFieldsEntry, ObjectMeta, OwnerReference,
};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::FIELD_MANAGER;
use super::problem::{Told, because, changed};
use crate::server::{Readiness, certificates};
use file::Configuration;

/// How often everything is looked at: what someone else changed is put right within this time.
const LOOK: Duration = Duration::from_secs(2);

/// Longest time for one look.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the authorities come from that the API server is to trust.
#[derive(Debug, Clone)]
pub enum Authorities {
    /// Whoever keeps the certificate, in PEM; `None` until it has been read.
    Kept(watch::Receiver<Option<Arc<str>>>),
    /// A PEM file.
    File(PathBuf),
}

/// What is kept.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// The configurations, as the installation renders them.
    pub file: PathBuf,
    /// The ClusterRole that owns them.
    pub owner: String,
    /// The authorities that they name.
    pub authorities: Authorities,
}

/// A configuration as this replica has left it.
#[derive(Debug, PartialEq)]
struct Left {
    object: Value,
    uid: Option<String>,
    version: Option<String>,
}

/// Keeps the webhook configurations.
pub struct WebhookKeeper {
    client: Client,
    settings: WebhookSettings,
    holds: watch::Receiver<bool>,
    readiness: Readiness,
    /// The bundle that every configuration has, as far as this replica knows.
    applied: watch::Sender<Option<Arc<str>>>,
    /// The text of the file that was good the last time, and what it says.
    text: String,
    configurations: Vec<Configuration>,
    left: BTreeMap<(String, String), Left>,
    told: Told,
    told_of_file: Told,
}

impl WebhookKeeper {
    /// Reads the file for the first time; everything wrong with it is an error. Nothing is applied
    /// before [`Self::run`], and then only while `holds` is true and nothing holds `readiness`.
    /// The bundle that all configurations have is told to `applied`.
    pub fn new(
        client: Client,
        settings: WebhookSettings,
        holds: watch::Receiver<bool>,
        readiness: Readiness,
        applied: watch::Sender<Option<Arc<str>>>,
    ) -> Result<Self, String> {
        let text = file::read(&settings.file)?;
        let configurations = file::parse(&settings.file, &text)?;
        if let Authorities::File(path) = &settings.authorities {
            bundle_in(path)?;
        }
        Ok(Self {
            client,
            settings,
            holds,
            readiness,
            applied,
            text,
            configurations,
            left: BTreeMap::new(),
            told: Told::default(),
            told_of_file: Told::default(),
        })
    }

    /// Keeps the configurations for ever.
    pub async fn run(mut self) {
        loop {
            self.read_again();
            if *self.holds.borrow() && self.readiness.held().is_none() {
                let looked = timeout(PATIENCE, self.look()).await;
                match looked.unwrap_or_else(|_| Err("the API server does not answer".to_owned())) {
                    Ok(()) => self.told.clear(),
                    Err(problem) => {
                        self.told.tell("the webhook configurations cannot be kept", &problem);
                    }
                }
            } else if !*self.holds.borrow() {
                // Another replica writes them now.
                self.applied.send_replace(None);
                self.left.clear();
            }
            let bundle = match &mut self.settings.authorities {
                Authorities::Kept(bundle) => Some(bundle),
                Authorities::File(_) => None,
            };
            tokio::select! {
                () = changed(Some(&mut self.holds)) => {}
                () = changed(bundle) => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Takes up the file where it has changed; a broken one changes nothing.
    fn read_again(&mut self) {
        let path = &self.settings.file;
        let read = file::read(path).and_then(|text| {
            if text == self.text {
                return Ok(None);
            }
            file::parse(path, &text).map(|configurations| Some((text, configurations)))
        });
        match read {
            Ok(None) => self.told_of_file.clear(),
            Ok(Some((text, configurations))) => {
                for gone in self.configurations.iter().filter(|former| {
                    !configurations
                        .iter()
                        .any(|new| (&new.kind, &new.name) == (&former.kind, &former.name))
                }) {
                    let Configuration { kind, name, .. } = gone;
                    tracing::warn!("{kind} {name} is no longer kept: delete it if nobody needs it");
                }
                tracing::info!(count = configurations.len(), "the webhook configurations changed");
                self.text = text;
                self.configurations = configurations;
                self.told_of_file.clear();
            }
            Err(problem) => self
                .told_of_file
                .tell("the webhook configurations cannot be read: the former ones stay", &problem),
        }
    }

    /// Puts right what is not as it should be.
    async fn look(&mut self) -> Result<(), String> {
        let bundle = match &self.settings.authorities {
            Authorities::Kept(bundle) => bundle.borrow().clone(),
            Authorities::File(path) => Some(bundle_in(path)?),
        };
        let Some(bundle) = bundle else { return Ok(()) };
        let owner = self.owner().await?;
        let mut waited = false;
        for configuration in self.configurations.clone() {
            let Configuration { kind, name, .. } = &configuration;
            let told = |error| format!("{kind} {name}: {}", because(&error));
            let api = file::api(&self.client, &configuration);
            let found = api.get_metadata_opt(name).await.map_err(told)?.map(|it| it.metadata);
            if found.is_none() && !std::mem::replace(&mut waited, true) {
                service::wait(configuration.webhooks()).await;
            }
            let object = configuration.filled(&bundle, &owner);
            self.keep(&configuration, found, object).await.map_err(told)?;
        }
        self.applied.send_if_modified(|applied| {
            let new = applied.as_ref() != Some(&bundle);
            *applied = Some(bundle);
            new
        });
        Ok(())
    }

    /// The reference to the owner. Where it is gone the installation is being removed: nothing may
    /// be created then that nobody would collect.
    async fn owner(&self) -> Result<OwnerReference, String> {
        let name = &self.settings.owner;
        let roles: Api<ClusterRole> = Api::all(self.client.clone());
        let found = roles.get_metadata_opt(name).await.map_err(|error| because(&error))?;
        let found = found.filter(|role| role.metadata.deletion_timestamp.is_none());
        let uid = found.and_then(|role| role.metadata.uid);
        let uid = uid.ok_or_else(|| {
            format!("ClusterRole {name}, which is to own them, does not exist: is the installation being removed?")
        })?;
        Ok(OwnerReference {
            api_version: "rbac.authorization.k8s.io/v1".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: name.clone(),
            uid,
            ..OwnerReference::default()
        })
    }

    /// Applies `object` unless what was found is as this replica has left it.
    async fn keep(
        &mut self,
        configuration: &Configuration,
        found: Option<ObjectMeta>,
        object: Value,
    ) -> kube::Result<()> {
        let api = file::api(&self.client, configuration);
        let Configuration { kind, name, .. } = configuration;
        let key = (kind.clone(), name.clone());
        let former = self.left.get(&key);
        if let (Some(found), Some(left)) = (&found, former)
            && (&found.uid, &found.resource_version, &object)
                == (&left.uid, &left.version, &left.object)
        {
            return Ok(());
        }
        let parameters = PatchParams::apply(FIELD_MANAGER).force().validation_strict();
        let mut stored = api.patch(name, &parameters, &Patch::Apply(&object)).await?.metadata;
        if stored.managed_fields.iter().flatten().any(is_of_others) {
            // What others have added is not applied away: the list is written as a whole.
            let whole = json!({"webhooks": object["webhooks"]});
            let parameters = PatchParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            };
            stored = api.patch(name, &parameters, &Patch::Merge(&whole)).await?.metadata;
        }
        let before = found.and_then(|found| found.resource_version);
        if before != stored.resource_version {
            match former {
                Some(left) if left.object == object => {
                    tracing::warn!("{kind} {name} was changed by someone else: it is put right");
                }
                _ => tracing::info!("{kind} {name} is applied"),
            }
        }
        let left = Left { object, uid: stored.uid, version: stored.resource_version };
        self.left.insert(key, left);
        Ok(())
    }
}

/// Whether anything in the list of webhooks is there for another reason than that we applied it.
fn is_of_others(entry: &ManagedFieldsEntry) -> bool {
    let applied = entry.manager.as_deref() == Some(FIELD_MANAGER)
        && entry.operation.as_deref() == Some("Apply");
    let webhooks = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:webhooks"));
    !applied && webhooks.is_some()
}

fn bundle_in(path: &std::path::Path) -> Result<Arc<str>, String> {
    let text = file::read(path)?;
    certificates(&path.display().to_string(), text.as_bytes())
        .map_err(|error| error.to_string())?;
    Ok(text.into())
}
