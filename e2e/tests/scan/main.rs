//! `countersign scan` in a real API server, with signed, unsigned and moved images of a real
//! registry and a real Notary server.

mod cluster;
mod pinned;

use std::fs;

use countersign_e2e::countersign::scan;
use countersign_e2e::front::Mode;
use countersign_e2e::install::{self, SYSTEM_NAMESPACE};
use countersign_e2e::lab::{POLICY, SOURCE, refresh};
use countersign_e2e::policies::Policy;
use countersign_e2e::{Outcome, reviews};
use serde_json::{Value, json};

use cluster::{Cluster, REPOSITORY, STRANGE, code, contains, pod_of, verdict};

/// More than one page of pods.
const MANY: usize = 260;

#[test]
fn running_pods_are_scanned_by_the_cluster_s_policies_and_by_candidates() -> Outcome<()> {
    let cluster = Cluster::start()?;
    what_keeps_it_from_scanning_is_told(&cluster)?;
    before_the_installation_any_policy_is_a_candidate(&cluster)?;
    install(&cluster)?;
    run_pods(&cluster)?;
    a_namespace_is_scanned(&cluster)?;
    all_namespaces_are_scanned(&cluster)?;
    pods_are_counted_over_pages(&cluster)?;
    candidates_tell_what_they_would_change(&cluster)?;
    namespaces_labels_count(&cluster)?;
    pinned::pinned_pods_are_judged_by_their_tags_too(&cluster)?;
    pinned::what_the_chart_says_to_run_is_right(&cluster)?;
    a_system_namespace_that_is_not_there_is_told(&cluster)?;
    without_evidence_the_exit_status_is_3(&cluster)?;
    few_rights_are_enough_for_a_part(&cluster)
}

fn what_keeps_it_from_scanning_is_told(cluster: &Cluster) -> Outcome<()> {
    contains(&cluster.scan(&["-A"])?, 2, &["does not know trustpolicies", "countersign crds"]);
    let nowhere = cluster.lab.folder("nowhere");
    contains(&cluster.scan_as(&nowhere, &["-A"])?, 2, &["no cluster to scan", "KUBECONFIG"]);
    let mut config: Value = serde_json::from_slice(&fs::read(cluster.api_server.kubeconfig())?)?;
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1".into();
    let dead = cluster.lab.folder("dead-kubeconfig");
    fs::write(&dead, config.to_string())?;
    contains(&cluster.scan_as(&dead, &["-A"])?, 2, &["https://127.0.0.1:1/ cannot be read"]);
    contains(&cluster.scan(&["-A", "-n", "shop"])?, 2, &["cannot be used with"]);
    Ok(())
}

fn before_the_installation_any_policy_is_a_candidate(cluster: &Cluster) -> Outcome<()> {
    cluster.create("fine", &[reviews::pod("one", &cluster.signed.tagged("1.4"))])?;
    let candidates = cluster.lab.policies.folder().display().to_string();
    let finished = cluster.scan(&["-n", "fine", "--policies", &candidates])?;
    contains(
        &finished,
        0,
        &["compared with none", "Newly admitted:", "1 newly admitted, 0 unchanged."],
    );
    Ok(())
}

/// The definitions, the source with what it names, and the policy.
fn install(cluster: &Cluster) -> Outcome<()> {
    let Cluster { api_server, lab, .. } = cluster;
    install::definitions(api_server)?;
    api_server.create_namespace(SYSTEM_NAMESPACE)?;
    let source = lab.source(REPOSITORY)?;
    let here = ["apply", "-n", SYSTEM_NAMESPACE, "-f", "-"];
    api_server.kubectl_with(&here, &source.config_map())?.success()?;
    let yaml = format!("{}---\n{}", source.yaml(), lab.policy().yaml());
    api_server.kubectl_with(&["apply", "-f", "-"], &yaml)?.success().map(drop)
}

/// Of the namespace `shop` three images run, and one does not any more.
fn run_pods(cluster: &Cluster) -> Outcome<()> {
    let Cluster { signed, unsigned, moved, .. } = cluster;
    let mut two = reviews::pod("two", &signed.tagged("1.4"));
    two["spec"]["initContainers"] = json!([{"name": "init", "image": unsigned}]);
    cluster.create(
        "shop",
        &[
            pod_of("api-7d9f", "api-1", &signed.tagged("1.4")),
            pod_of("api-7d9f", "api-2", &signed.tagged("1.4")),
            pod_of("web-5c6d", "web-1", moved),
            two,
            reviews::pod("done", STRANGE),
        ],
    )?;
    let finished = r#"{"status": {"phase": "Succeeded"}}"#;
    let patch = ["patch", "pod", "done", "-n", "shop", "--subresource=status", "-p", finished];
    cluster.api_server.kubectl(&patch)?.success()?;
    cluster.create("other", &[reviews::pod("strange", STRANGE)])?;
    cluster.create("kube-system", &[reviews::pod("never", STRANGE)])
}

fn a_namespace_is_scanned(cluster: &Cluster) -> Outcome<()> {
    let Cluster { signed, unsigned, moved, .. } = cluster;
    let (json, exit) = cluster.found(&["-n", "shop"])?;
    assert_eq!(exit, Some(1), "{json}");
    let summary = json!({"pods": 4, "images": 3, "denied": 2, "warned": 0});
    assert_eq!(json["summary"], summary, "{json}");
    // The one image that is admitted: by its chain's first expiry, and by the first that people sign.
    let ends = json["forecast"].as_array().cloned().unwrap_or_default();
    let ends: Vec<_> = ends.iter().map(|it| (&it["source"], &it["role"], &it["images"])).collect();
    let [of_servers, of_people] = ["timestamp", "targets"].map(Value::from);
    let (source, one) = (Value::from(SOURCE), Value::from(1));
    assert_eq!(ends, [(&source, &of_servers, &one), (&source, &of_people, &one)], "{json}");
    assert_eq!(json["forecast"][0]["repository"], signed.name.as_str(), "{json}");
    let good = verdict(&json, "shop", &signed.tagged("1.4"))?;
    assert_eq!(
        (&good["admitted"], &good["digest"]),
        (&true.into(), &signed.digest.as_str().into())
    );
    let path = ["spec.containers[name=app]"];
    let workloads = json!([
        {"kind": "Pod", "name": "two", "pods": 1, "paths": path},
        {"kind": "ReplicaSet", "name": "api-7d9f", "pods": 2, "paths": path},
    ]);
    assert_eq!(good["workloads"], workloads);
    let bad = verdict(&json, "shop", unsigned)?;
    assert_eq!((&bad["admitted"], code(bad)), (&false.into(), "Unsigned"), "{bad}");
    assert_eq!(bad["workloads"][0]["paths"], json!(["spec.initContainers[name=init]"]));
    assert_eq!(code(verdict(&json, "shop", moved)?), "DigestMismatch");

    let finished = cluster.scan(&["-n", "shop"])?;
    let wanted = ["ReplicaSet/web-5c6d", "Unsigned", "payments, release-team: ", "DigestMismatch"];
    contains(&finished, 1, &wanted);
    contains(&finished, 1, &["4 pods, 3 images: 2 would be denied, 0 warned.\n"]);
    let forecast =
        ["Could not be admitted again:\n    1 image after 20", "unless targets in TrustSource"];
    contains(&finished, 1, &forecast);
    assert!(!finished.stdout.contains("api-7d9f"), "what is fine is no row: {finished}");
    let wide = finished.stdout.lines().filter(|line| line.chars().count() > 120).count();
    assert_eq!(wide, 0, "{finished}");

    contains(&cluster.scan(&["-n", "fine"])?, 0, &["1 pod, 1 image: 0 would be denied"]);
    contains(&cluster.scan(&["-n", "empty"])?, 0, &["No pods run in namespace \"empty\"."]);
    // The kubeconfig's context names no namespace.
    contains(&cluster.scan(&[])?, 0, &["No pods run in namespace \"default\"."]);
    Ok(())
}

fn all_namespaces_are_scanned(cluster: &Cluster) -> Outcome<()> {
    let (json, exit) = cluster.found(&["-A"])?;
    assert_eq!((&json["summary"]["pods"], exit), (&6.into(), Some(1)), "{json}");
    assert_eq!(code(verdict(&json, "other", STRANGE)?), "NoMatchingPolicy");
    assert_eq!(json["leftOutNamespaces"], json!([SYSTEM_NAMESPACE, "kube-system"]));
    let (json, _) =
        cluster.found(&["-A", "--exclude-namespace=shop", "--exclude-namespace=fine"])?;
    assert_eq!(json["images"].as_array().map(Vec::len), Some(1), "{json}");
    // Who asks for it gets it.
    let (json, _) = cluster.found(&["-n", "kube-system"])?;
    assert_eq!(code(verdict(&json, "kube-system", STRANGE)?), "NoMatchingPolicy");
    // As it is before the rest is refused.
    let (_, exit) = cluster.found(&["-n", "other", "--unmatched=Audit"])?;
    assert_eq!(exit, Some(0));
    contains(
        &cluster.scan(&["-n", "other", "--unmatched=Warn"])?,
        0,
        &["warning: NoMatchingPolicy"],
    );
    Ok(())
}

fn pods_are_counted_over_pages(cluster: &Cluster) -> Outcome<()> {
    let image = cluster.signed.by_digest();
    let pods: Vec<Value> =
        (0..MANY).map(|number| pod_of("many", &format!("many-{number}"), &image)).collect();
    for some in pods.chunks(MANY / 2) {
        cluster.create("many", some)?;
    }
    let (json, exit) = cluster.found(&["-n", "many"])?;
    assert_eq!(exit, Some(0), "{json}");
    assert_eq!(verdict(&json, "many", &image)?["workloads"][0]["pods"], MANY);
    let delete = ["delete", "pods", "--all", "-n", "many", "--force", "--grace-period=0"];
    cluster.api_server.kubectl(&delete)?.success()?;
    Ok(())
}

fn candidates_tell_what_they_would_change(cluster: &Cluster) -> Outcome<()> {
    let Cluster { lab, signed, unsigned, .. } = cluster;
    let warns = Policy { action: "Warn", ..lab.policy() };
    let allows = allow("strangers", "registry.example.com/**", "");
    // Only the one for the same name is replaced; its source is the cluster's.
    let folder = cluster.candidates("candidates", |candidates| {
        candidates.policy(&warns)?;
        candidates.write("policy-strangers", &allows)
    })?;
    let folder = folder.display().to_string();
    let (json, exit) = cluster.found(&["-A", "--unmatched=Audit", "--policies", &folder])?;
    assert_eq!(exit, Some(0), "{json}");
    let changes = json!({
        "NewlyDenied": 0, "DeniedOtherwise": 0, "NewlyWarned": 0, "NewlyAdmitted": 2,
        "NoLongerWarned": 0, "NotKnown": 0, "Unchanged": 3,
    });
    assert_eq!(json["summary"]["changes"], changes, "{json}");
    assert_eq!(json["summary"]["warned"], 2, "{json}");
    let admitted = verdict(&json, "shop", unsigned)?;
    assert_eq!(
        (&admitted["change"], &admitted["effect"]),
        (&"NewlyAdmitted".into(), &"Warn".into())
    );
    assert_eq!(admitted["before"]["policies"][0]["code"], "Unsigned");
    assert_eq!(verdict(&json, "shop", &signed.tagged("1.4"))?["change"], "Unchanged");

    // Stricter: nothing by tag, and strangers by a source that is missing.
    let strict = cluster.candidates("strict", |candidates| {
        candidates.policy(&Policy { tags: "RequireDigest", ..lab.policy() })
    })?;
    let strict = strict.display().to_string();
    let finished = cluster.scan(&["-n", "shop", "--policies", &strict])?;
    let wanted = [
        "Newly denied:\n",
        "NotPinned",
        "this policy wants a digest",
        "Denied as before:\n",
        "1 newly denied, ",
    ];
    contains(&finished, 1, &wanted);
    let missing = cluster.candidates("missing", |candidates| {
        candidates.policy(&Policy::new("more", "registry.example.com/**", "no-such-source"))
    })?;
    let missing = missing.display().to_string();
    let refused = cluster.scan(&["-A", "--policies", &missing])?;
    contains(&refused, 2, &["TrustPolicy \"more\"", "no-such-source"]);
    // Nothing of it is in the cluster.
    let policies = cluster.api_server.kubectl(&["get", "tp", "-o", "name"])?.success()?;
    assert_eq!(policies.stdout.trim(), format!("trustpolicy.countersign.dev/{POLICY}"));
    Ok(())
}

/// Lets these images in without a signature in the namespaces that the selector selects.
fn allow(name: &str, include: &str, selector: &str) -> String {
    format!(
        "apiVersion: countersign.dev/v1alpha1\nkind: TrustPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
         match:\n    images: {{include: [\"{include}\"], exclude: []}}\n    \
         namespaceSelector: {{matchLabels: {{{selector}}}}}\n  allowUnverified: {{reason: a test}}\n"
    )
}

fn namespaces_labels_count(cluster: &Cluster) -> Outcome<()> {
    let policy = allow("labelled", "registry.example.com/**", "env: dev");
    let api_server = &cluster.api_server;
    api_server.kubectl_with(&["apply", "-f", "-"], &policy)?.success()?;
    for (label, exit) in [("env=prod", 1), ("env=dev", 0)] {
        let arguments = ["label", "namespace", "other", "--overwrite", label];
        api_server.kubectl(&arguments)?.success()?;
        assert_eq!(cluster.found(&["-n", "other"])?.1, Some(exit), "{label}");
        let (json, _) = cluster.found(&["-A"])?;
        assert_eq!(verdict(&json, "other", STRANGE)?["admitted"], exit == 0, "{json}");
    }
    api_server.kubectl(&["delete", "tp", "labelled"])?.success().map(drop)
}

fn a_system_namespace_that_is_not_there_is_told(cluster: &Cluster) -> Outcome<()> {
    let arguments = ["-n", "fine", "--system-namespace=absent"];
    let finished = scan(&cluster.lab.config(), cluster.api_server.kubeconfig(), &arguments)?;
    contains(&finished, 3, &["namespace \"absent\" does not exist", "SourceUnavailable"]);
    assert!(!finished.stdout.contains("InvalidPolicy"), "{finished}");
    Ok(())
}

fn without_evidence_the_exit_status_is_3(cluster: &Cluster) -> Outcome<()> {
    cluster.lab.front.set(Mode::Down);
    let finished = cluster.scan(&["-n", "fine"])?;
    let same = cluster.lab.policies.folder().display().to_string();
    let compared = cluster.scan(&["-n", "fine", "--policies", &same])?;
    cluster.lab.front.set(Mode::Forward);
    contains(&compared, 3, &["Not known for want of evidence:\n", ": 1 not known", " 0 unchanged"]);
    contains(&finished, 3, &["SourceUnavailable", "1 would be denied"]);
    refresh();
    contains(&cluster.scan(&["-n", "fine"])?, 0, &["0 would be denied"]);
    Ok(())
}

/// An account that may read policies everywhere, pods in two namespaces, and no Secret.
fn few_rights_are_enough_for_a_part(cluster: &Cluster) -> Outcome<()> {
    let api_server = &cluster.api_server;
    let kubectl = |arguments: &[&str]| api_server.kubectl(arguments)?.success().map(drop);
    kubectl(&["create", "serviceaccount", "reader", "-n", "empty"])?;
    let account = "--serviceaccount=empty:reader";
    kubectl(&["create", "clusterrole", "pods", "--verb=list", "--resource=pods"])?;
    kubectl(&["create", "rolebinding", "pods", "-n", "fine", "--clusterrole=pods", account])?;
    let reader = api_server.account("empty", "reader")?;
    let unread = cluster.scan_as(&reader, &["-n", "fine"])?;
    contains(&unread, 2, &["you may not list trustpolicies", "ask for the right"]);
    let resources = "--resource=trustpolicies.countersign.dev,trustsources.countersign.dev";
    kubectl(&["create", "clusterrole", "policies", "--verb=list", resources])?;
    kubectl(&["create", "clusterrolebinding", "policies", "--clusterrole=policies", account])?;
    let maps =
        ["create", "role", "maps", "-n", SYSTEM_NAMESPACE, "--verb=get", "--resource=configmaps"];
    kubectl(&maps)?;
    kubectl(&["create", "rolebinding", "maps", "-n", SYSTEM_NAMESPACE, "--role=maps", account])?;

    contains(&cluster.scan_as(&reader, &["-n", "fine"])?, 0, &["0 would be denied"]);
    let everywhere = cluster.scan_as(&reader, &["-A"])?;
    contains(&everywhere, 2, &["you may not list pods in all namespaces", "-n NAMESPACE"]);
    let elsewhere = cluster.scan_as(&reader, &["-n", "shop"])?;
    contains(&elsewhere, 2, &["you may not list pods in namespace \"shop\""]);

    let named = r#"{"spec": {"connection": {"credentialsSecretRef": {"name": "notary-login"}}}}"#;
    kubectl(&["patch", "tsrc", SOURCE, "--type=merge", "-p", named])?;
    let secret =
        format!("you may not read Secret \"notary-login\" in namespace \"{SYSTEM_NAMESPACE}\"");
    let finished = cluster.scan_as(&reader, &["-n", "fine", "-o", "json"])?;
    contains(&finished, 3, &["SourceUnavailable", &secret.replace('"', "\\\"")]);
    // Who may read it is told that it is not there, as the webhook's users are.
    contains(&cluster.scan(&["-n", "fine"])?, 1, &["InvalidPolicy", "in the cluster: TrustSource"]);
    Ok(())
}
