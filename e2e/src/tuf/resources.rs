//! The resources that trust a TUF repository, as users write them.

use serde_json::{Value, json};

use super::Repository;
use crate::{Context, Outcome};

/// The name of the TrustSource that [`source`] gives.
pub const SOURCE: &str = "corp-tuf";

/// The name of the object that has the initial root, under [`ROOT_KEY`].
pub const ROOT: &str = "tuf-root";

/// Where the initial root is in its object.
pub const ROOT_KEY: &str = "root.json";

/// A ConfigMap or Secret with one text in its `field`.
pub fn object(kind: &str, name: &str, field: &str, key: &str, text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, field: {key: text}})
}

/// The ConfigMap of the authority of the server's certificate, which is PEM.
pub fn authority(pem: &str) -> Value {
    object("ConfigMap", "tuf-ca", "data", "ca.crt", pem)
}

/// The ConfigMap [`ROOT`] with this file of the repository.
pub fn root(tuf: &Repository, file: &str) -> Outcome<Value> {
    let root = String::from_utf8(tuf.file(file)?).context(file)?;
    Ok(object("ConfigMap", ROOT, "data", ROOT_KEY, &root))
}

/// The reference to what [`root`] gives.
pub fn root_reference() -> Value {
    json!({"configMap": ROOT, "key": ROOT_KEY})
}

/// A source of this server, asked again for every review older than a second.
pub fn source(metadata_url: &str, root_reference: &Value) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "TrustSource",
        "metadata": {"name": SOURCE},
        "spec": {
            "tuf": {"metadataURLs": [metadata_url], "rootRef": root_reference},
            "connection": {"caConfigMapRef": {"name": "tuf-ca", "key": "ca.crt"}},
            "freshness": {"refreshAfterSeconds": 1, "refuseAfterSeconds": 86_400},
        },
    })
}

/// A denying policy for these images, at least one of whose authorities has to have signed.
pub fn policy(name: &str, include: &str, authorities: &Value) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "TrustPolicy",
        "metadata": {"name": name},
        "spec": {
            "match": {"images": {"include": [include]}},
            "verify": {"minAuthorities": 1, "authorities": authorities},
        },
    })
}

/// The authority that accepts what these roles have signed in [`SOURCE`].
pub fn accepting(roles: &[&str]) -> Value {
    json!({"name": "archive", "sourceRef": {"name": SOURCE}, "tuf": {
        "target": "{registry}/{repository}/{tag}", "acceptRoles": roles,
    }})
}

/// The authority that accepts what was signed in this source with `docker trust`.
pub fn by_notary(source: &str) -> Value {
    json!({"name": "release-team", "sourceRef": {"name": source}, "notary": {"lookup": "Docker"}})
}
