//! The resources that users write, and their one compiler; and the one that Countersign writes.
//!
//! [`Resources`] holds them as read, from files or from the API server; [`compile`] turns them
//! into the validated forms that reviews use. Webhook, status and command line share it, so they
//! cannot disagree.

mod checkpoint;
mod compile;
mod crds;
mod files;
mod policy;
mod source;

pub use checkpoint::{
    CheckpointKeys, CheckpointRole, CheckpointRoot, CheckpointSigners, TrustCheckpoint,
    TrustCheckpointSpec,
};
pub(crate) use compile::is_dns_subdomain;
pub use compile::{
    Compiled, Connection, Credentials, Problem, Source, SourceKind, compile, connect, is_namespace,
};
pub use crds::crds;
pub use files::{FileProblem, LoadProblem, load, read};
pub use policy::{
    ActionName, AllowUnverified, Authority, Exception, Images, LabelOperator, LabelRequirement,
    LabelSelector, LookupKind, Match, NotaryLookup, SourceRef, TagsRule, TrustPolicy,
    TrustPolicySpec, TufLookup, Verify,
};
pub use source::{
    ConfigMapKey, ConnectionSpec, Freshness, NotarySource, PinSpec, RootRef, SecretName,
    TrustSource, TrustSourceSpec, TufSource,
};

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ApiResource;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The API group and version of all resources.
pub const API_VERSION: &str = "countersign.dev/v1alpha1";

/// The kinds of resources that users write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// TrustPolicy.
    Policy,
    /// TrustSource.
    Source,
}

impl Kind {
    /// The kind of this API group and name.
    pub fn of(group: &str, kind: &str) -> Option<Self> {
        let ours = |it: &Self| group == "countersign.dev" && kind == it.as_str();
        [Self::Policy, Self::Source].into_iter().find(ours)
    }

    /// Its name, as in `kind`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "TrustPolicy",
            Self::Source => "TrustSource",
        }
    }

    /// Where the API server has it.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::Policy => ApiResource::erase::<TrustPolicy>(&()),
            Self::Source => ApiResource::erase::<TrustSource>(&()),
        }
    }
}

/// What Countersign says of a resource.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The generation of the resource that the conditions are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` is true where the resource could be read; else its message names the field.
    /// `Expiring`, of a source, is true where signed metadata in use is about to expire.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
}

/// A resource as read: its name, and its spec or why that cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Document<S> {
    /// `metadata.name`.
    pub name: String,
    /// Where it was read, as `policies.yaml, line 3`; `None` for the API server.
    pub place: Option<String>,
    /// The spec.
    pub spec: Result<S, Unreadable>,
}

/// A spec that does not have the shape of its kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Unreadable {
    /// The field's path, as `spec.verify`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
    /// The whole spec as written, for what can be read of it.
    pub spec: Value,
}

impl<S: DeserializeOwned> Document<S> {
    /// Reads a spec. Unknown fields are errors, for the loss of one could loosen a policy.
    pub fn new(name: impl Into<String>, place: Option<String>, spec: Value) -> Self {
        let read = serde_path_to_error::deserialize(&spec).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { "spec".to_owned() } else { format!("spec.{path}") };
            (field, error.into_inner().to_string())
        });
        let spec = read.map_err(|(field, reason)| Unreadable { field, reason, spec });
        Self { name: name.into(), place, spec }
    }
}

/// All resources of an installation, as read.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    /// The TrustPolicies.
    pub policies: Vec<Document<TrustPolicySpec>>,
    /// The TrustSources.
    pub sources: Vec<Document<TrustSourceSpec>>,
    /// The ConfigMaps that sources may name: each one's data by key.
    pub config_maps: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// The Secrets that sources may name.
    pub secrets: BTreeMap<String, SecretData>,
    /// The ConfigMaps and Secrets that may be there and could not be read, by kind and name, and
    /// why. A source that names one is `SourceUnavailable`.
    pub unread: BTreeMap<(&'static str, String), String>,
}

impl Resources {
    /// The ConfigMaps and Secrets that sources name, by kind and name.
    pub fn named(&self) -> BTreeSet<(&'static str, &str)> {
        let specs = self.sources.iter().filter_map(|document| document.spec.as_ref().ok());
        specs.flat_map(TrustSourceSpec::named).collect()
    }

    /// These, where `others` replace what has the same kind and name.
    #[must_use]
    pub fn replaced_by(mut self, others: Self) -> Self {
        fn replace<S>(present: &mut Vec<Document<S>>, others: Vec<Document<S>>) {
            present.retain(|it| !others.iter().any(|other| other.name == it.name));
            present.extend(others);
        }
        replace(&mut self.policies, others.policies);
        replace(&mut self.sources, others.sources);
        self.unread.retain(|(kind, name), _| match *kind {
            CONFIG_MAP => !others.config_maps.contains_key(name),
            _ => !others.secrets.contains_key(name),
        });
        self.config_maps.extend(others.config_maps);
        self.secrets.extend(others.secrets);
        self.unread.extend(others.unread);
        self
    }
}

/// The kind of a [`Resources::config_maps`] entry.
pub const CONFIG_MAP: &str = "ConfigMap";

/// The kind of a [`Resources::secrets`] entry.
pub const SECRET: &str = "Secret";

/// A Secret's data by key; its values are never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretData(pub BTreeMap<String, Vec<u8>>);

impl SecretData {
    /// Of a Secret's data what a source can use; the rest is not kept.
    pub fn of_use(data: impl Iterator<Item = (String, Vec<u8>)>) -> Self {
        Self(data.filter(|(key, _)| compile::is_of_use(key)).collect())
    }
}

impl std::fmt::Debug for SecretData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The schema's bounds. They keep the cost of CEL rules within the API server's budget and
/// reviews cheap; the compiler enforces them too, for files know no schema.
pub(crate) mod bounds {
    /// Most patterns in one list.
    pub(crate) const PATTERNS: usize = 64;
    /// Most pins in a source.
    pub(crate) const PINS: usize = 64;
    /// Most keys or certificate authorities in a pin.
    pub(crate) const PIN_KEYS: usize = 16;
    /// Most authorities in a policy.
    pub(crate) const AUTHORITIES: usize = countersign_verify::limits::AUTHORITIES;
    /// Most roles of one authority.
    pub(crate) const ROLES: usize = 16;
    /// Most mirrors of a TUF source.
    pub(crate) const MIRRORS: usize = 8;
    /// Most delegations that a TUF source may be let visit for one image.
    pub(crate) const MAX_DELEGATIONS: u32 = 1024;
    /// Most characters of a target's template.
    pub(crate) const TARGET_CHARS: usize = 512;
    /// Most roles that a checkpoint remembers: the three of every repository, and the delegated ones
    /// of one update (`DELEGATIONS` in the verifier's limits) almost four times over, for those that
    /// were seen before and are not there any more.
    pub(crate) const CHECKPOINT_ROLES: usize = 128;
    /// Most exceptions in a policy.
    pub(crate) const EXCEPTIONS: usize = 64;
    /// Most namespaces in an exception.
    pub(crate) const NAMESPACES: usize = 64;
    /// Most token hosts of a source.
    pub(crate) const TOKEN_HOSTS: usize = 8;
    /// Most characters of a PEM block.
    pub(crate) const PEM_CHARS: usize = 16384;
    /// Most characters of a URL.
    pub(crate) const URL_CHARS: usize = 1024;
    /// Most characters of a reason.
    pub(crate) const REASON_CHARS: usize = 500;
    /// Most characters of a help text that is no URL.
    pub(crate) const HELP_CHARS: usize = 200;
    /// Most characters of a name in a list.
    pub(crate) const NAME_CHARS: usize = 63;
    /// Most characters of a Kubernetes object's name.
    pub(crate) const OBJECT_NAME_CHARS: usize = 253;
    /// Longest `refreshAfterSeconds`.
    pub(crate) const REFRESH_SECONDS: u32 = 3600;
    /// Longest `refuseAfterSeconds`.
    pub(crate) const REFUSE_SECONDS: u32 = 604_800;
}
