//! TrustSource: where signed metadata lives, and who may sign its root.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CONFIG_MAP, SECRET, Status};

/// Where signed metadata lives, and who may sign its root.
#[derive(Debug, Clone, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "TrustSource",
    shortname = "tsrc",
    category = "countersign",
    status = "Status",
    derive = "PartialEq",
    doc = "Where signed metadata lives, and who may sign its root.",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Notary","type":"string","jsonPath":".spec.notary.url"}"#,
    printcolumn = r#"{"name":"TUF","type":"string","jsonPath":".spec.tuf.metadataURLs[0]"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.notary) != has(self.tuf)",
     "message": "exactly one of notary and tuf is required"},
    {"rule": "has(self.notary) == has(oldSelf.notary) && has(self.tuf) == has(oldSelf.tuf)",
     "message": "the choice of notary or tuf is immutable; create another TrustSource"},
]))]
pub struct TrustSourceSpec {
    /// A Notary server (Docker Content Trust). Exactly one of notary and tuf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notary: Option<NotarySource>,
    /// A TUF repository. Exactly one of notary and tuf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuf: Option<TufSource>,
    /// How to connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionSpec>,
    /// How old verified metadata may become; without it, 60 and 86400 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Freshness>,
}

/// A Notary server.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotarySource {
    /// The server's https URL, as https://notary.example.com. Plain http is for loopback hosts
    /// only.
    #[schemars(length(min = 1, max = 1024))]
    pub url: String,
    /// Who may sign the roots of which repositories. There is no trust on first use: a repository
    /// that no pin covers is not trusted.
    #[schemars(
        length(min = 1, max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub pins: Vec<PinSpec>,
}

/// Who may sign the roots of some repositories.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.publicKeys), has(self.certificateAuthorities), has(self.rootKeyIDs)].exists_one(given, given)",
     "message": "exactly one of publicKeys, certificateAuthorities and rootKeyIDs is required"},
    {"rule": "has(self.threshold) || ((!has(self.publicKeys) || size(self.publicKeys) <= 1) && (!has(self.rootKeyIDs) || size(self.rootKeyIDs) <= 1))",
     "message": "threshold is required with more than one key"},
    {"rule": "!has(self.threshold) || !has(self.certificateAuthorities)",
     "message": "threshold counts keys; it cannot be used with certificateAuthorities"},
]))]
pub struct PinSpec {
    /// The pin's name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Patterns of the repositories it speaks for, as registry.example.com/payments/**; the most
    /// specific one that covers a repository counts.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 1024)))]
    pub repositories: Vec<String>,
    /// PEM public keys (-----BEGIN PUBLIC KEY-----), one an item: those in the certificates of
    /// the repository's root keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 16384)))]
    pub public_keys: Option<Vec<String>>,
    /// PEM certificates of authorities that issue the certificates of root keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 16384)))]
    pub certificate_authorities: Option<Vec<String>>,
    /// Key ids as root.json lists them: 64 lower-case hex digits. The same key has another id in
    /// each repository, so the pin's repositories have to be literal.
    #[serde(rename = "rootKeyIDs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 64, max = 64)))]
    pub root_key_ids: Option<Vec<String>>,
    /// How many of the keys must have signed. Required with more than one key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16), extend("format" = "int32"))]
    pub threshold: Option<u32>,
}

/// A TUF repository: one for all images that are signed in it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TufSource {
    /// The https URLs of the folders that have the metadata, mirrors of each other, as
    /// https://tuf.example.com/metadata/: the next one is asked where one does not answer, or not
    /// with what verifies. file:///path is a folder mounted into every replica. Plain http is for
    /// loopback hosts only.
    #[serde(rename = "metadataURLs")]
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 1024)))]
    pub metadata_urls: Vec<String>,
    /// The initial root.json: whoever may write it says who is trusted. What was remembered holds
    /// for another one as well: a root of another chain is refused until its TrustCheckpoint is
    /// deleted.
    pub root_ref: RootRef,
    /// How many delegated roles the lookup of one image visits at most; without it, 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024), extend("format" = "int32"))]
    pub max_delegations: Option<u32>,
}

/// A key of a ConfigMap or Secret in Countersign's namespace.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.configMap) != has(self.secret)",
     "message": "exactly one of configMap and secret is required"},
]))]
pub struct RootRef {
    /// The ConfigMap's name. Exactly one of configMap and secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub config_map: Option<String>,
    /// The Secret's name. Exactly one of configMap and secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret: Option<String>,
    /// The key in its data, as root.json; that of a Secret ends in .json.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

impl TrustSourceSpec {
    /// The ConfigMaps and Secrets that it names, by kind and name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let root = self.tuf.iter().flat_map(|tuf| tuf.root_ref.named());
        root.chain(self.connection.iter().flat_map(ConnectionSpec::named))
    }
}

impl RootRef {
    fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let config_map = self.config_map.iter().map(|name| (CONFIG_MAP, name.as_str()));
        config_map.chain(self.secret.iter().map(|name| (SECRET, name.as_str())))
    }
}

/// How to connect to a source. The objects it names live in Countersign's namespace.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionSpec {
    /// The ConfigMap and key that hold the PEM certificates of the server's authority. Without
    /// it, the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<ConfigMapKey>,
    /// The Secret that holds the credentials: kubernetes.io/dockerconfigjson with an entry for
    /// the source's host, or username and password with that host under the key host. Of a TUF
    /// source's mirrors those get them whose host is named there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretName>,
    /// Hosts, with their ports, that a bearer challenge may send us to. Without them, the
    /// source's own host only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 253)))]
    pub token_hosts: Vec<String>,
}

impl ConnectionSpec {
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let ca = self.ca_config_map_ref.iter().map(|named| (CONFIG_MAP, named.name.as_str()));
        let login = self.credentials_secret_ref.iter().map(|named| (SECRET, named.name.as_str()));
        ca.chain(login)
    }
}

/// A key of a ConfigMap in Countersign's namespace.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapKey {
    /// The ConfigMap's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in its data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A Secret in Countersign's namespace.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretName {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How old verified metadata may become. A revocation is seen at the next refresh, or, if the
/// source withholds it, when the metadata itself expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.refreshAfterSeconds <= self.refuseAfterSeconds",
     "message": "refreshAfterSeconds must not be greater than refuseAfterSeconds"},
]))]
pub struct Freshness {
    /// Metadata older than this is refreshed before it answers. At most one hour.
    #[schemars(range(min = 1, max = 3600), extend("format" = "int32"))]
    pub refresh_after_seconds: u32,
    /// Metadata whose last complete refresh is longer ago than this answers no more. At most
    /// seven days.
    #[schemars(range(min = 1, max = 604800), extend("format" = "int32"))]
    pub refuse_after_seconds: u32,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { refresh_after_seconds: 60, refuse_after_seconds: 86_400 }
    }
}
