//! An API server, a registry and a Notary server to scan.

use std::path::{Path, PathBuf};

use countersign_e2e::api_server::ApiServer;
use countersign_e2e::countersign::scan;
use countersign_e2e::install::SYSTEM_NAMESPACE;
use countersign_e2e::lab::Lab;
use countersign_e2e::policies::Policies;
use countersign_e2e::process::Finished;
use countersign_e2e::registry::Image;
use countersign_e2e::{Context, Outcome, reviews};
use serde_json::{Value, json};

pub(crate) const REPOSITORY: &str = "payments/api";

/// Nobody's images.
pub(crate) const STRANGE: &str = "registry.example.com/of/nobody:1";

pub(crate) struct Cluster {
    pub(crate) api_server: ApiServer,
    pub(crate) lab: Lab,
    pub(crate) signed: Image,
    pub(crate) unsigned: String,
    /// By a tag that was signed for another image than it leads to now.
    pub(crate) moved: String,
    /// What was signed by that tag, as a pod has it that was pinned then.
    pub(crate) before_it_moved: String,
}

impl Cluster {
    pub(crate) fn start() -> Outcome<Self> {
        let lab = Lab::start()?;
        let signed = lab.trusted(REPOSITORY, "1.4")?;
        let unsigned = lab.registry.push(REPOSITORY, "1.5", "not signed")?.tagged("1.5");
        let release = lab.push_signed(REPOSITORY, "1.6", "release 1.6")?;
        let moved = release.tagged("1.6");
        let before_it_moved = format!("{moved}@{}", release.digest);
        lab.registry.push(REPOSITORY, "1.6", "something else")?;
        let api_server = ApiServer::start(&lab.folder("api-server"), &lab.authority)?;
        for namespace in ["shop", "fine", "many", "other", "empty", "pinned"] {
            api_server.create_namespace(namespace)?;
        }
        Ok(Self { api_server, lab, signed, unsigned, moved, before_it_moved })
    }

    /// Runs it with the administrator's rights.
    pub(crate) fn scan(&self, arguments: &[&str]) -> Outcome<Finished> {
        self.scan_as(self.api_server.kubeconfig(), arguments)
    }

    pub(crate) fn scan_as(&self, kubeconfig: &Path, arguments: &[&str]) -> Outcome<Finished> {
        let system = format!("--system-namespace={SYSTEM_NAMESPACE}");
        scan(&self.lab.config(), kubeconfig, &[&[system.as_str()], arguments].concat())
    }

    /// What it finds, and its exit status.
    pub(crate) fn found(&self, arguments: &[&str]) -> Outcome<(Value, Option<i32>)> {
        let finished = self.scan(&[&["-o", "json"], arguments].concat())?;
        let json = serde_json::from_str(&finished.stdout).context(finished.to_string())?;
        Ok((json, finished.code))
    }

    pub(crate) fn create(&self, namespace: &str, pods: &[Value]) -> Outcome<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string();
        let create = ["create", "-n", namespace, "-f", "-"];
        self.api_server.kubectl_with(&create, &list)?.success().map(drop)
    }

    /// A folder of candidates.
    pub(crate) fn candidates(
        &self,
        name: &str,
        write: impl Fn(&Policies) -> Outcome<()>,
    ) -> Outcome<PathBuf> {
        let candidates = Policies::new(&self.lab.folder(name))?;
        write(&candidates)?;
        Ok(candidates.folder().to_owned())
    }
}

pub(crate) fn pod_of(replica_set: &str, name: &str, image: &str) -> Value {
    let mut pod = reviews::pod(name, image);
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": replica_set, "uid": replica_set,
        "controller": true,
    }]);
    pod
}

/// The one verdict on this image.
pub(crate) fn verdict<'j>(json: &'j Value, namespace: &str, image: &str) -> Outcome<&'j Value> {
    let images = json["images"].as_array().context("no images")?;
    let mut of_it = images.iter().filter(|it| it["namespace"] == namespace && it["image"] == image);
    let found = of_it.next().context(format!("{image} is not in {json}"))?;
    assert!(of_it.next().is_none(), "{image} is there twice: {json}");
    Ok(found)
}

pub(crate) fn code(verdict: &Value) -> &str {
    verdict["policies"][0]["code"].as_str().unwrap_or_default()
}

pub(crate) fn contains(finished: &Finished, code: i32, wanted: &[&str]) {
    assert_eq!(finished.code, Some(code), "{finished}");
    let said = format!("{}{}", finished.stdout, finished.stderr);
    for wanted in wanted {
        assert!(said.contains(wanted), "{wanted}: {finished}");
    }
}
