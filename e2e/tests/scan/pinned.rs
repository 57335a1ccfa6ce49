//! Pods as the mutating webhook leaves them, and what it does not see.

use countersign_e2e::chart::{CHART, helm};
use countersign_e2e::countersign::scan;
use countersign_e2e::install::SYSTEM_NAMESPACE;
use countersign_e2e::policies::Policy;
use countersign_e2e::process::run;
use countersign_e2e::{Context, Outcome, reviews};
use serde_json::json;

use crate::cluster::{Cluster, STRANGE, code, contains, pod_of, verdict};

pub(crate) fn pinned_pods_are_judged_by_their_tags_too(cluster: &Cluster) -> Outcome<()> {
    let Cluster { signed, moved, before_it_moved, lab, .. } = cluster;
    let fine = format!("{}@{}", signed.tagged("1.4"), signed.digest);
    let mut mirror = reviews::pod("etcd-node-1", STRANGE);
    mirror["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "n", "controller": true,
    }]);
    let pods = [pod_of("api-1a", "api", &fine), pod_of("web-1b", "web", before_it_moved), mirror];
    cluster.create("pinned", &pods)?;
    let (json, exit) = cluster.found(&["-n", "pinned"])?;
    let summary = json!({"pods": 2, "images": 3, "denied": 1, "warned": 0});
    assert_eq!((&json["summary"], exit), (&summary, Some(1)), "{json}");
    for image in [&fine, before_it_moved] {
        assert_eq!(verdict(&json, "pinned", image)?["admitted"], true, "{json}");
    }
    let by_tag = verdict(&json, "pinned", moved)?;
    assert_eq!(code(by_tag), "DigestMismatch", "{by_tag}");
    let (_, digest) = before_it_moved.split_once('@').context("a digest")?;
    assert_eq!(by_tag["pinnedTo"], json!([digest]));
    assert_eq!(by_tag["workloads"][0]["name"], "web-1b");
    let told = "note: by its tag; the running pods are pinned to";
    contains(&cluster.scan(&["-n", "pinned"])?, 1, &["ReplicaSet/web-1b", told, digest]);

    // Whoever is about to ask for digests learns which templates may name none.
    let strict = cluster.candidates("strict-pins", |candidates| {
        candidates.policy(&Policy { tags: "RequireDigest", ..lab.policy() })
    })?;
    let strict = strict.display().to_string();
    let (json, exit) = cluster.found(&["-n", "pinned", "--policies", &strict])?;
    let by_tag = verdict(&json, "pinned", &signed.tagged("1.4"))?;
    assert_eq!((code(by_tag), exit), ("NotPinned", Some(1)), "{json}");
    assert_eq!(by_tag["change"], "NewlyDenied", "{json}");
    assert_eq!(verdict(&json, "pinned", &fine)?["change"], "Unchanged", "{json}");

    // The exit status is never without its reason.
    let same = lab.policies.folder().display().to_string();
    let finished = cluster.scan(&["-n", "pinned", "--policies", &same])?;
    contains(&finished, 1, &["Denied as before:\n", "DigestMismatch", ": 3 unchanged."]);
    Ok(())
}

pub(crate) fn what_the_chart_says_to_run_is_right(cluster: &Cluster) -> Outcome<()> {
    let kubeconfig = cluster.api_server.kubeconfig();
    for (namespace, unmatched, more, wanted) in [
        ("countersign", "Deny", "", ""),
        (SYSTEM_NAMESPACE, "Deny", "", " --system-namespace NS"),
        (
            "own",
            "Audit",
            "mesh,pinned",
            " --system-namespace NS --exclude-namespace mesh --exclude-namespace pinned",
        ),
    ] {
        let excluded = match more {
            "" => "[]".to_owned(),
            _ => json!(Vec::from_iter(more.split(','))).to_string(),
        };
        let set =
            format!("--set-json=unmatched=\"{unmatched}\",webhooks.excludeNamespaces={excluded}");
        let install = [
            "install",
            "new",
            CHART,
            "-n",
            namespace,
            "--dry-run=client",
            "--take-ownership",
            &set,
        ];
        let notes = run(helm(&install)?.env("KUBECONFIG", kubeconfig), "")?.success()?.stdout;
        let found = notes.lines().find_map(|line| line.trim().strip_prefix("countersign scan "));
        let command = found.context(notes.clone())?;
        let wanted = match namespace {
            "countersign" => wanted.to_owned(),
            _ => wanted.replace("NS", namespace),
        };
        assert_eq!(command, format!("-A{wanted}"), "{notes}");
        let arguments = Vec::from_iter(command.split(' '));
        let finished = scan(&cluster.lab.config(), kubeconfig, &arguments)?;
        assert_ne!(finished.code, Some(2), "{finished}");
        let left_out = format!("{namespace}, kube-system");
        assert!(finished.stdout.contains(" Left out: ") && finished.stdout.contains(namespace));
        assert!(!more.is_empty() || finished.stdout.contains(&left_out), "{finished}");
    }
    Ok(())
}
