//! What the API server has at one moment, read once with the rights of whoever asks.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DynamicObject, ListParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Error, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::namespaces::{Labels, labels};
use super::pages::{self, ListError};
use super::resources::{Object, config_map, secret};
use super::{View, because};
use crate::api::{CONFIG_MAP, Document, Kind, Resources, is_dns_subdomain};

/// Longest wait for one object.
const READ: Duration = Duration::from_secs(10);

/// Objects read at the same time.
const READS: usize = 8;

/// A cluster, as far as it is read here.
#[derive(Clone)]
pub struct Present {
    client: Client,
    system_namespace: String,
}

/// Why a cluster's policies are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    /// The API server does not know the kind.
    #[error("the API server does not know {}", .kind.resource().plural)]
    NotDefined {
        /// Which.
        kind: Kind,
    },
    /// The list could not be read.
    #[error("{} cannot be listed: {error}", .kind.resource().plural)]
    List {
        /// Of what.
        kind: Kind,
        /// Why.
        error: ListError,
    },
}

impl Present {
    /// Sources name ConfigMaps and Secrets in `system_namespace`.
    pub fn new(client: Client, system_namespace: &str) -> Self {
        Self { client, system_namespace: system_namespace.to_owned() }
    }

    /// The TrustPolicies and TrustSources, without what these name.
    pub(crate) async fn resources(&self) -> Result<Resources, Unread> {
        Ok(Resources {
            policies: self.documents(Kind::Policy).await?,
            sources: self.documents(Kind::Source).await?,
            ..Resources::default()
        })
    }

    async fn documents<S>(&self, kind: Kind) -> Result<Vec<Document<S>>, Unread>
    where
        S: DeserializeOwned,
    {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind.resource());
        let fetch = async |params: &ListParams| {
            let list = api.list(params).await?;
            Ok((list.items, list.metadata.continue_))
        };
        let take =
            |taken: &mut Vec<Document<S>>, object| taken.push(Object::read(object).1.document);
        pages::all(&ListParams::default(), fetch, take).await.map_err(|error| match error.code() {
            Some(404) => Unread::NotDefined { kind },
            _ => Unread::List { kind, error },
        })
    }

    /// Adds the ConfigMaps and Secrets that sources name and that are not among the resources.
    /// One that cannot be read is told by the sources that name it.
    pub(crate) async fn with_named(&self, mut resources: Resources) -> Resources {
        let known = |kind: &str, name: &str| match kind {
            CONFIG_MAP => resources.config_maps.contains_key(name),
            _ => resources.secrets.contains_key(name),
        };
        // A name becomes a part of a URL, and no object has another one.
        let wanted: Vec<(&'static str, String)> = resources
            .named()
            .into_iter()
            .filter(|(kind, name)| !known(kind, name) && is_dns_subdomain(name))
            .map(|(kind, name)| (kind, name.to_owned()))
            .collect();
        if !wanted.is_empty() && self.has_no_system_namespace().await {
            let why = format!(
                "namespace \"{}\" does not exist, so nothing that sources name in it can be read; name Countersign's own with --system-namespace",
                self.system_namespace
            );
            resources.unread.extend(wanted.into_iter().map(|named| (named, why.clone())));
            return resources;
        }
        let mut reads = stream::iter(wanted).map(|named| self.read(named)).buffered(READS);
        while let Some(read) = reads.next().await {
            resources = resources.replaced_by(read);
        }
        resources
    }

    /// Whether the namespace of what sources name is surely not there. Where it may not be read,
    /// it is taken to be.
    async fn has_no_system_namespace(&self) -> bool {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let read = timeout(READ, api.get_metadata(&self.system_namespace)).await;
        matches!(read, Ok(Err(Error::Api(status))) if status.code == 404)
    }

    /// The resources with this one object, or with why it could not be read.
    async fn read(&self, (kind, name): (&'static str, String)) -> Resources {
        let mut read = Resources::default();
        let outcome = match kind {
            CONFIG_MAP => self.get(kind, &name).await.map(|found| {
                read.config_maps.extend(found.map(config_map));
            }),
            _ => self.get(kind, &name).await.map(|found| {
                read.secrets.extend(found.map(secret));
            }),
        };
        if let Err(why) = outcome {
            read.unread.insert((kind, name), why);
        }
        read
    }

    /// `None` where there is none of this name; or why that is not known.
    async fn get<K>(&self, kind: &str, name: &str) -> Result<Option<K>, String>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let namespace = &self.system_namespace;
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let why = match timeout(READ, api.get(name)).await {
            Ok(Ok(object)) => return Ok(Some(object)),
            Ok(Err(Error::Api(status))) if status.code == 404 => return Ok(None),
            Ok(Err(Error::Api(status))) if status.code == 403 => {
                return Err(format!(
                    "you may not read {kind} \"{name}\" in namespace \"{namespace}\", which it names"
                ));
            }
            Ok(Err(error)) => because(&error),
            Err(_) => format!("no answer within {} s", READ.as_secs()),
        };
        Err(format!("{kind} \"{name}\" in namespace \"{namespace}\" cannot be read: {why}"))
    }

    /// What reviews know of the cluster beside its policies: the labels of this namespace, or of
    /// all. Labels that cannot be read now are asked for when a policy asks for them, and told
    /// then.
    pub async fn view(&self, namespace: Option<&str>) -> View {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let one =
            |namespace: PartialObjectMeta<Namespace>| (namespace.name_any(), labels(namespace));
        let known: HashMap<String, Arc<Labels>> = match namespace {
            Some(name) => {
                let read = timeout(READ, api.get_metadata(name)).await;
                read.ok().and_then(Result::ok).map(one).into_iter().collect()
            }
            None => {
                let fetch = async |params: &ListParams| {
                    let list = api.list_metadata(params).await?;
                    Ok((list.items, list.metadata.continue_))
                };
                let take = |taken: &mut HashMap<_, _>, it| taken.extend([one(it)]);
                pages::all(&ListParams::default(), fetch, take).await.unwrap_or_default()
            }
        };
        View::of_moment(self.client.clone(), known)
    }
}

#[cfg(test)]
mod tests;
