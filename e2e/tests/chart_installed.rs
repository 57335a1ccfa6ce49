//! The chart on a real API server: installed, upgraded, uninstalled, and what its account may do.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign_e2e::api_server::{ApiServer, Shared};
use countersign_e2e::chart::{ALL_VALUES, CHART, RELEASE, Rendered, documents, helm, template_as};
use countersign_e2e::process::{Finished, run, wait_until};
use countersign_e2e::{Context, Outcome};
use serde_json::{Value, json};

/// What the API server of these tests does not know, or has from another release.
const THEIRS: [&str; 3] = ["CustomResourceDefinition", "PrometheusRule", "ServiceMonitor"];

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples");

/// Countersign's ServiceAccount.
const ACCOUNT: &str = "--as=system:serviceaccount:countersign:countersign";

/// How long the API server may take to act on a changed role or definition.
const TAKEN_UP: Duration = Duration::from_secs(20);

struct Cluster {
    shared: Arc<Shared>,
}

impl Cluster {
    fn api_server(&self) -> &ApiServer {
        &self.shared.api_server
    }

    fn kubectl(&self, line: &str) -> Outcome<Finished> {
        self.api_server().kubectl(&line.split(' ').collect::<Vec<_>>())
    }

    fn helm(&self, arguments: &[&str]) -> Outcome<Finished> {
        run(helm(arguments)?.env("KUBECONFIG", self.api_server().kubeconfig()), "")
    }

    /// Whether Countersign may do this, as `create leases -n countersign`.
    fn may(&self, what: &str) -> Outcome<bool> {
        let answer = self.kubectl(&format!("auth can-i {what} {ACCOUNT}"))?;
        Ok(answer.stdout.trim() == "yes")
    }

    /// Applies an object as Countersign does; `dry_run` is `none` or `server`.
    fn apply_as_countersign(&self, object: &Value, dry_run: &str) -> Outcome<Finished> {
        let dry_run = format!("--dry-run={dry_run}");
        let mut apply = vec!["apply", "--server-side", "--field-manager=countersign", ACCOUNT];
        apply.extend([dry_run.as_str(), "-f", "-"]);
        self.api_server().kubectl_with(&apply, &object.to_string())
    }

    /// Creates a pod in the release's namespace, and stores nothing.
    fn try_pod(&self, metadata: &Value, spec: &Value) -> Outcome<Finished> {
        let metadata = json!({"name": "tried", "labels": metadata["labels"]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        let create = ["create", "--dry-run=server", "-n", RELEASE, "-f", "-"];
        self.api_server().kubectl_with(&create, &pod.to_string())
    }
}

#[test]
fn a_release_lives_and_its_definitions_outlive_it() -> Outcome<()> {
    let cluster = Cluster { shared: Shared::get()? };
    let notes = install(&cluster)?;
    pods_are_restricted(&cluster)?;
    examples_are_taken(&cluster)?;
    rights(&cluster)?;
    an_upgrade_leaves_the_certificate(&cluster)?;
    the_worst_day(&cluster, &notes)?;
    uninstall(&cluster)
}

/// What `helm install` says in the end.
fn install(cluster: &Cluster) -> Outcome<String> {
    cluster.api_server().create_namespace(RELEASE)?;
    cluster
        .kubectl("label ns countersign pod-security.kubernetes.io/enforce=restricted")?
        .success()?;
    let refused = cluster.helm(&["install", RELEASE, CHART, "-n", RELEASE])?;
    assert_ne!(refused.code, Some(0), "{refused}");
    assert!(refused.stderr.contains("unmatched is not set"), "{refused}");
    let install = ["install", RELEASE, CHART, "-n", RELEASE, "--set=unmatched=Audit"];
    let notes = cluster.helm(&install)?.success()?.stdout;
    for part in ["helm test countersign -n countersign", "scan -A", "--set unmatched=Deny"] {
        assert!(notes.contains(part), "no {part:?} in {notes}");
    }
    Ok(notes)
}

/// The namespace enforces the restricted standard.
fn pods_are_restricted(cluster: &Cluster) -> Outcome<()> {
    let deployment = cluster.api_server().get(&["deployment", RELEASE, "-n", RELEASE])?;
    let template = &deployment["spec"]["template"];
    cluster.try_pod(&template["metadata"], &template["spec"])?.success()?;
    let rendered = Rendered::new(&["--set=unmatched=Deny"])?;
    let test = rendered.one("Pod")?;
    cluster.try_pod(&test["metadata"], &test["spec"])?.success()?;

    let mut loose = template["spec"].clone();
    loose["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = true.into();
    let refused = cluster.try_pod(&template["metadata"], &loose)?;
    assert!(refused.stderr.contains("violates PodSecurity"), "{refused}");
    Ok(())
}

fn examples_are_taken(cluster: &Cluster) -> Outcome<()> {
    cluster.kubectl("wait --for=condition=Established --timeout=60s crd --all")?.success()?;
    // A definition is established a moment before its resources can be made.
    let apply = ["apply", "--dry-run=server", "-f", EXAMPLES];
    wait_until("the examples can be applied", TAKEN_UP, || {
        Ok(cluster.api_server().kubectl(&apply)?.code == Some(0))
    })
}

fn rights(cluster: &Cluster) -> Outcome<()> {
    for what in [
        "watch trustpolicies.countersign.dev",
        "patch trustsources.countersign.dev --subresource=status",
        "watch trustcheckpoints.countersign.dev",
        "create trustcheckpoints.countersign.dev",
        "patch trustcheckpoints.countersign.dev",
        "list namespaces",
        "create events.events.k8s.io -n default",
        "get secrets -n countersign",
        "patch secret/countersign-tls -n countersign",
        "create leases.coordination.k8s.io -n countersign",
        "update lease.coordination.k8s.io/countersign -n countersign",
    ] {
        assert!(cluster.may(what)?, "Countersign may not {what}");
    }
    for what in [
        "patch trustpolicies.countersign.dev",
        "delete trustcheckpoints.countersign.dev",
        "get secrets -n default",
        "create secrets -n countersign",
        "patch secret/other -n countersign",
        "update lease.coordination.k8s.io/other -n countersign",
        "list pods -n default",
        "patch namespaces",
        "get clusterrole.rbac.authorization.k8s.io/admin",
        "delete validatingwebhookconfiguration/other",
    ] {
        assert!(!cluster.may(what)?, "Countersign may {what}");
    }
    for mut configuration in Rendered::new(&["--set=unmatched=Deny"])?.webhooks()? {
        review_nothing(&mut configuration)?;
        // Twice: it creates, and then changes.
        cluster.apply_as_countersign(&configuration, "none")?.success()?;
        cluster.apply_as_countersign(&configuration, "none")?.success()?;
        configuration["metadata"]["name"] = "another".into();
        let refused = cluster.apply_as_countersign(&configuration, "none")?;
        assert!(refused.stderr.contains("is forbidden"), "{refused}");
    }
    Ok(())
}

/// Nobody answers here: the other tests' objects must not wait for it.
fn review_nothing(configuration: &mut Value) -> Outcome<()> {
    let webhooks = configuration["webhooks"].as_array_mut().context("no webhooks")?;
    for webhook in webhooks {
        webhook["namespaceSelector"] = json!({"matchLabels": {"countersign.dev/none": ""}});
    }
    Ok(())
}

fn upgrade(cluster: &Cluster, more: &[&str]) -> Outcome<()> {
    let mut arguments = vec!["upgrade", RELEASE, CHART, "-n", RELEASE];
    arguments.push("--reset-then-reuse-values");
    arguments.extend(more);
    cluster.helm(&arguments)?.success().map(drop)
}

fn an_upgrade_leaves_the_certificate(cluster: &Cluster) -> Outcome<()> {
    let patch = r#"{"data":{"tls.key":"a2V5"}}"#;
    let secret = ["patch", "secret", "countersign-tls", "-n", RELEASE, ACCOUNT, "-p", patch];
    cluster.api_server().kubectl(&secret)?.success()?;
    upgrade(cluster, &["--set=unmatched=Deny"])?;
    let secret = cluster.api_server().get(&["secret", "countersign-tls", "-n", RELEASE])?;
    assert_eq!(secret["data"]["tls.key"], "a2V5");
    let deployment = cluster.api_server().get(&["deployment", RELEASE, "-n", RELEASE])?;
    assert!(deployment.to_string().contains("--unmatched=Deny"));
    Ok(())
}

/// The command in the notes takes the webhooks away for good, and the next upgrade undoes it.
fn the_worst_day(cluster: &Cluster, notes: &str) -> Outcome<()> {
    let command = notes.lines().find_map(|line| line.trim().strip_prefix("kubectl "));
    cluster.kubectl(command.context("no command in the notes")?)?.success()?;
    let kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
    let left = cluster.kubectl(&format!("get {kinds} -o name"))?.success()?;
    assert!(!left.stdout.contains("/countersign\n"), "{left}");

    let [validating, _] = Rendered::new(&["--set=unmatched=Deny"])?.webhooks()?;
    wait_until("it cannot bring its webhooks back", TAKEN_UP, || {
        Ok(cluster.apply_as_countersign(&validating, "server")?.stderr.contains("is forbidden"))
    })?;
    upgrade(cluster, &[])?;
    wait_until("it can", TAKEN_UP, || {
        Ok(cluster.apply_as_countersign(&validating, "server")?.code == Some(0))
    })
}

fn uninstall(cluster: &Cluster) -> Outcome<()> {
    let hash = "0".repeat(64);
    let seen = json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "TrustCheckpoint",
        "metadata": {"name": "kept"},
        "spec": {
            "source": "notary", "repository": "registry.example.com/app", "anchor": hash,
            "root": {"version": 1, "sha256": hash}, "roles": [],
        },
    });
    cluster.api_server().apply(&seen)?.success()?;
    cluster.helm(&["uninstall", RELEASE, "-n", RELEASE])?.success()?;
    let kinds = ["trustpolicies", "trustsources", "trustcheckpoints"];
    for kind in kinds {
        cluster.kubectl(&format!("get crd {kind}.countersign.dev"))?.success()?;
    }
    cluster.kubectl("get trustcheckpoint kept")?.success()?;
    let left =
        cluster.kubectl("get all,cm,secret,role,networkpolicy,pdb -o name -n countersign")?;
    assert!(!left.success()?.stdout.contains("countersign"));
    let gone = cluster.kubectl("get clusterrole countersign")?;
    assert!(gone.stderr.contains("NotFound"), "{gone}");
    // And comes again, to the definitions that were kept.
    let install = ["install", RELEASE, CHART, "-n", RELEASE, "--set=unmatched=Deny"];
    cluster.helm(&install)?.success()?;
    cluster.helm(&["uninstall", RELEASE, "-n", RELEASE])?.success().map(drop)
}

#[test]
fn the_api_server_takes_everything_that_values_can_ask_for() -> Outcome<()> {
    let cluster = Cluster { shared: Shared::get()? };
    let folder = tempfile::tempdir()?;
    for namespace in ["everything", "payments", "shop"] {
        cluster.api_server().create_namespace(namespace)?;
    }
    let everywhere =
        ["--values", ALL_VALUES, "--set=pullSecrets.everywhere=true,certificate.mode=Own"];
    for (index, values) in [&everywhere[..2], &everywhere].into_iter().enumerate() {
        let mut objects = documents(&template_as("everything", values)?.success()?.stdout)?;
        // Those of another release, and those that Prometheus' operator brings the definition of.
        objects
            .retain(|object| !object["kind"].as_str().is_some_and(|kind| THEIRS.contains(&kind)));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        apply_dry(&cluster, &folder.path().join(format!("{index}.json")), &list)?;
        let webhooks = Rendered(objects).webhooks()?;
        let list = json!({"apiVersion": "v1", "kind": "List", "items": webhooks});
        apply_dry(&cluster, &folder.path().join(format!("webhooks-{index}.json")), &list)?;
    }
    Ok(())
}

fn apply_dry(cluster: &Cluster, file: &Path, list: &Value) -> Outcome<()> {
    fs::write(file, list.to_string())?;
    let path = file.to_str().context("a path in Unicode")?;
    let apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", path];
    cluster.api_server().kubectl(&apply)?.success().map(drop)
}
