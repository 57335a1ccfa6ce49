//! The Helm chart, as it is rendered.

use std::collections::BTreeSet;
use std::fs;

use countersign_e2e::chart::{ALL_VALUES, CHART, Rendered, documents, template, template_as};
use countersign_e2e::countersign::command;
use countersign_e2e::lab::Lab;
use countersign_e2e::{Context, Outcome};
use serde_json::{Value, json};

const DENY: &str = "--set=unmatched=Deny";

/// Values of every shape that changes which objects there are.
const SHAPES: [&[&str]; 5] = [
    &[DENY],
    &["--values", ALL_VALUES],
    &[DENY, "--set=certificate.mode=CertManager,certificate.issuerRef.name=corp"],
    &[DENY, "--set=certificate.mode=Secret,certificate.secretName=given"],
    &[DENY, "--set=pullSecrets.everywhere=true,clientCA.configMap=api-server"],
];

fn with(more: &[&str]) -> Outcome<Rendered> {
    let mut arguments = vec![DENY];
    arguments.extend(more);
    Rendered::new(&arguments)
}

fn has(arguments: &[&str], wanted: &str) -> bool {
    arguments.contains(&wanted)
}

#[test]
fn without_unmatched_nothing_is_rendered_and_the_choices_and_the_road_are_named() -> Outcome<()> {
    for arguments in [[].as_slice(), &["--set=unmatched=null"], &["--set=unmatched="]] {
        let refused = template(arguments)?;
        assert_ne!(refused.code, Some(0), "{refused}");
        assert_eq!(refused.stdout, "");
        for part in ["Deny ", "Warn ", "Audit ", "unmatched=Audit", "scan -A", "unmatched=Deny"] {
            assert!(refused.stderr.contains(part), "no {part:?} in {refused}");
        }
    }
    let elsewhere = template_as("own", &["--set=webhooks.excludeNamespaces={mesh}"])?.stderr;
    let scan = "countersign scan -A --system-namespace own --exclude-namespace mesh\n";
    assert!(elsewhere.contains(scan), "{elsewhere}");
    Ok(())
}

#[test]
fn every_rendering_is_the_same_and_holds_no_key() -> Outcome<()> {
    for shape in SHAPES {
        let first = template(shape)?.success()?.stdout;
        assert_eq!(first, template(shape)?.success()?.stdout);
        // `PRIVATE KEY` is in no text, and a key in base64 would be in a Secret's data.
        assert!(!first.contains("PRIVATE KEY") && !first.contains("caBundle"), "{shape:?}");
        for secret in Rendered::new(shape)?.all("Secret") {
            assert!(secret["data"].is_null() && secret["stringData"].is_null(), "{secret}");
        }
    }
    Ok(())
}

#[test]
fn pods_ask_for_no_more_than_the_restricted_standard_gives() -> Outcome<()> {
    for shape in SHAPES {
        let rendered = Rendered::new(shape)?;
        let deployed = &rendered.one("Deployment")?["spec"]["template"]["spec"];
        for spec in [deployed, &rendered.one("Pod")?["spec"]] {
            let pod = &spec["securityContext"];
            assert_eq!(pod["runAsNonRoot"], true);
            assert_eq!(pod["runAsUser"], 65532);
            assert_eq!(pod["seccompProfile"], json!({"type": "RuntimeDefault"}));
            for host in ["hostNetwork", "hostPID", "hostIPC", "hostUsers"] {
                assert!(spec[host].is_null(), "{host}");
            }
            let wanted = json!({
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            });
            for container in spec["containers"].as_array().context("no containers")? {
                assert_eq!(container["securityContext"], wanted);
                assert!(container["resources"]["limits"]["memory"].is_string());
            }
        }
    }
    Ok(())
}

/// What a Role or ClusterRole grants: a line `groups resources verbs names` each.
fn grants(role: &Value) -> BTreeSet<String> {
    let list = |value: &Value| {
        let strings = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        strings.collect::<Vec<_>>().join(",")
    };
    let rules = role["rules"].as_array().into_iter().flatten();
    let line = |rule: &Value| {
        let parts = ["apiGroups", "resources", "verbs", "resourceNames"];
        parts.map(|part| list(&rule[part])).join(" ").trim_end().to_owned()
    };
    rules.map(line).collect()
}

fn lines(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn countersign_may_do_what_it_has_to_and_nothing_else() -> Outcome<()> {
    let rendered = with(&[])?;
    let cluster = [
        "countersign.dev trustpolicies,trustsources list,watch",
        "countersign.dev trustpolicies/status,trustsources/status patch",
        "countersign.dev trustcheckpoints get,list,watch,create,patch",
        " namespaces get,list,watch",
        "admissionregistration.k8s.io validatingwebhookconfigurations,mutatingwebhookconfigurations create,delete,get,patch countersign",
        "rbac.authorization.k8s.io clusterroles get countersign",
        "events.k8s.io events create,patch",
    ];
    let own = [
        " configmaps,secrets get,list,watch",
        " secrets patch countersign-tls",
        "coordination.k8s.io leases create",
        "coordination.k8s.io leases get,update countersign",
    ];
    assert_eq!(grants(rendered.one("ClusterRole")?), lines(&cluster));
    assert_eq!(grants(rendered.one("Role")?), lines(&own));
    assert_eq!(rendered.one("Role")?["metadata"]["namespace"], "countersign");
    let account =
        json!([{"kind": "ServiceAccount", "name": "countersign", "namespace": "countersign"}]);
    for binding in ["ClusterRoleBinding", "RoleBinding"] {
        assert_eq!(rendered.one(binding)?["subjects"], account);
    }
    // Where somebody else writes the certificate, no Secret is written.
    let given = with(&["--set=certificate.mode=Secret,certificate.secretName=given"])?;
    assert!(!grants(given.one("Role")?).iter().any(|line| line.contains("secrets patch")));
    Ok(())
}

#[test]
fn no_role_joins_those_that_users_have() -> Outcome<()> {
    for shape in SHAPES {
        let rendered = Rendered::new(shape)?;
        for role in rendered.all("ClusterRole") {
            assert!(role["aggregationRule"].is_null());
            assert!(!role["metadata"].to_string().contains("aggregate-to"), "{role}");
        }
    }
    Ok(())
}

#[test]
fn pull_secrets_are_read_where_the_values_say_only() -> Outcome<()> {
    let client = "--set=clientCA.configMap=api-server";
    let rendered = with(&[client, "--set=pullSecrets.namespaces={payments,shop}"])?;
    let pulls = |object: &&Value| object["metadata"]["name"] == "countersign-pull-secrets";
    let roles: Vec<_> = rendered.all("Role").into_iter().filter(pulls).collect();
    let namespaces: Vec<_> = roles.iter().map(|role| &role["metadata"]["namespace"]).collect();
    assert_eq!(namespaces, ["payments", "shop"]);
    for role in roles {
        assert_eq!(grants(role), lines(&[" secrets,serviceaccounts get"]));
    }
    assert_eq!(rendered.all("RoleBinding").into_iter().filter(pulls).count(), 2);
    assert_eq!(rendered.all("ClusterRole").len(), 1);
    let arguments = rendered.arguments()?;
    assert!(has(&arguments, "--pull-secrets-namespace=payments"));
    assert!(has(&arguments, "--pull-secrets-namespace=shop"));
    assert!(!has(&arguments, "--pull-secrets-everywhere"));

    let everywhere = with(&[client, "--set=pullSecrets.everywhere=true"])?;
    assert_eq!(everywhere.all("ClusterRole").into_iter().filter(pulls).count(), 1);
    assert_eq!(everywhere.all("ClusterRoleBinding").into_iter().filter(pulls).count(), 1);
    assert!(has(&everywhere.arguments()?, "--pull-secrets-everywhere"));

    let none = with(&[])?;
    assert!(!none.arguments()?.iter().any(|argument| argument.starts_with("--pull-secrets")));
    assert_eq!((none.all("Role").len(), none.all("ClusterRole").len()), (1, 1));
    Ok(())
}

#[test]
fn webhooks_fail_closed_and_leave_out_only_the_namespaces_that_are_named() -> Outcome<()> {
    let rendered = with(&["--set=webhooks.excludeNamespaces={calico-system}"])?;
    for name in ["validate.countersign.dev", "mutate.countersign.dev"] {
        let webhook = rendered.webhook(name)?;
        assert_eq!(webhook["failurePolicy"], "Fail");
        assert_eq!(webhook["timeoutSeconds"], 10);
        assert_eq!(webhook["matchPolicy"], "Equivalent");
        assert_eq!(webhook["sideEffects"], "NoneOnDryRun");
        assert!(webhook["objectSelector"].is_null());
        let excluded = json!({"matchExpressions": [{
            "key": "kubernetes.io/metadata.name", "operator": "NotIn",
            "values": ["kube-system", "countersign", "calico-system"],
        }]});
        assert_eq!(webhook["namespaceSelector"], excluded);
        // Of several conditions a single one that is false skips.
        assert_eq!(webhook["matchConditions"].as_array().map(Vec::len), Some(1));
    }
    assert_eq!(rendered.webhook("mutate.countersign.dev")?["reinvocationPolicy"], "IfNeeded");
    let own = rendered.webhook("resources.countersign.dev")?;
    assert_eq!(own["failurePolicy"], "Ignore");
    assert_eq!(own["clientConfig"]["service"]["path"], "/resources");
    assert!(own["namespaceSelector"].is_null());
    // The API server waits longer than Countersign takes.
    assert!(has(&rendered.arguments()?, "--deadline=8"));
    let slower = with(&["--set=webhooks.timeoutSeconds=15,webhooks.failurePolicy=Ignore"])?;
    assert!(has(&slower.arguments()?, "--deadline=13"));
    assert_eq!(slower.webhook("validate.countersign.dev")?["failurePolicy"], "Ignore");
    assert!(has(&with(&["--set=webhooks.templates=Warn"])?.arguments()?, "--templates=Warn"));
    Ok(())
}

#[test]
fn a_custom_kind_is_a_rule_and_a_flag() -> Outcome<()> {
    let rendered = Rendered::new(&["--values", ALL_VALUES])?;
    let webhook = rendered.webhook("custom.countersign.dev")?;
    // The condition of the built-in kinds does not know where a custom one keeps its template.
    assert!(webhook["matchConditions"].is_null());
    let rules = webhook["rules"].as_array().context("no rules")?;
    let ruled: Vec<_> =
        rules.iter().map(|rule| (&rule["apiGroups"][0], &rule["resources"][0])).collect();
    assert_eq!(
        ruled,
        [(&json!("argoproj.io"), &json!("rollouts")), (&json!("example.com"), &json!("batches"))]
    );
    let arguments = rendered.arguments()?;
    let flags: Vec<_> =
        arguments.iter().filter(|argument| argument.starts_with("--custom-kind")).collect();
    assert_eq!(
        flags,
        [
            &"--custom-kind=argoproj.io/Rollout=spec.template",
            &"--custom-kind=example.com/Batch=spec.work.pod"
        ]
    );
    assert!(with(&[])?.webhook("custom.countersign.dev").is_err());
    Ok(())
}

#[test]
fn replicas_are_spread_replaced_one_by_one_and_never_all_evicted() -> Outcome<()> {
    let rendered = with(&[])?;
    let deployment = &rendered.one("Deployment")?["spec"];
    assert_eq!(deployment["replicas"], 2);
    assert_eq!(
        deployment["strategy"],
        json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
    );
    let pod = &deployment["template"]["spec"];
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    let spread = pod["topologySpreadConstraints"].as_array().context("not spread")?;
    let keys: Vec<_> = spread.iter().map(|one| &one["topologyKey"]).collect();
    assert_eq!(keys, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
    let budget = &rendered.one("PodDisruptionBudget")?["spec"];
    assert_eq!(budget["maxUnavailable"], 1);
    let labels = &deployment["template"]["metadata"]["labels"];
    let policy = &rendered.one("NetworkPolicy")?["spec"];
    for selector in [
        &deployment["selector"],
        &budget["selector"],
        &policy["podSelector"],
        &json!({"matchLabels": rendered.one("Service")?["spec"]["selector"]}),
    ] {
        let selected = selector["matchLabels"].as_object().context("selects everything")?;
        assert!(selected.iter().all(|(key, value)| labels[key] == *value), "{selector}");
        // The pod of `helm test` is no replica.
        let test = &rendered.one("Pod")?["metadata"]["labels"];
        assert!(selected.iter().any(|(key, value)| test[key] != *value), "{selector}");
    }
    Ok(())
}

#[test]
fn the_network_policy_opens_the_webhooks_port_and_metrics_to_those_named() -> Outcome<()> {
    let open = with(&[])?;
    let policy = &open.one("NetworkPolicy")?["spec"];
    assert_eq!(policy["policyTypes"], json!(["Ingress"]));
    assert_eq!(policy["ingress"][0], json!({"ports": [{"protocol": "TCP", "port": "https"}]}));
    assert_eq!(policy["ingress"][1]["ports"], json!([{"protocol": "TCP", "port": "metrics"}]));
    let test = &open.one("Pod")?["metadata"]["labels"];
    assert_eq!(policy["ingress"][1]["from"], json!([{"podSelector": {"matchLabels": test}}]));

    let narrow = Rendered::new(&["--values", ALL_VALUES])?;
    let policy = &narrow.one("NetworkPolicy")?["spec"];
    assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["ingress"][0]["from"], json!([{"ipBlock": {"cidr": "10.0.0.2/32"}}]));
    assert_eq!(policy["ingress"][1]["from"].as_array().map(Vec::len), Some(2));
    assert!(with(&["--set=networkPolicy.enabled=false"])?.one("NetworkPolicy").is_err());
    Ok(())
}

#[test]
fn the_certificate_is_our_own_or_given() -> Outcome<()> {
    let own = with(&[])?;
    assert_eq!(own.one("Secret")?["metadata"]["name"], "countersign-tls");
    let arguments = own.arguments()?;
    for wanted in ["--tls-secret=countersign-tls", "--service=countersign"] {
        assert!(has(&arguments, wanted), "{wanted}");
    }
    assert!(!arguments.iter().any(|argument| argument.starts_with("--tls-cert=")));
    for (shape, secret) in [(SHAPES[2], "countersign-tls"), (SHAPES[3], "given")] {
        let given = Rendered::new(shape)?;
        assert!(given.one("Secret").is_err());
        let arguments = given.arguments()?;
        assert!(has(&arguments, "--webhooks-ca=/etc/countersign/tls/ca.crt"));
        assert!(!arguments.iter().any(|argument| argument.starts_with("--tls-secret")));
        let pod = &given.one("Deployment")?["spec"]["template"]["spec"];
        let volumes = pod["volumes"].as_array().context("no volumes")?;
        let mounted = json!({"name": "tls", "secret": {"secretName": secret}});
        assert!(volumes.contains(&mounted), "{volumes:?}");
    }
    let certificate = Rendered::new(SHAPES[2])?;
    let spec = &certificate.one("Certificate")?["spec"];
    assert_eq!(spec["secretName"], "countersign-tls");
    assert_eq!(spec["dnsNames"][0], "countersign.countersign.svc");
    Ok(())
}

#[test]
fn definitions_outlive_the_release() -> Outcome<()> {
    let rendered = with(&[])?;
    let generated = documents(&command(&["crds"])?.success()?.stdout)?;
    let definitions = rendered.all("CustomResourceDefinition");
    assert_eq!(definitions.len(), generated.len());
    for (definition, generated) in definitions.into_iter().zip(generated) {
        let annotations = &definition["metadata"]["annotations"];
        assert_eq!(annotations["helm.sh/resource-policy"], "keep");
        assert_eq!(definition["spec"], generated["spec"]);
    }
    Ok(())
}

/// The paths of all values, and those of the schema where `properties` leads on.
fn paths(value: &Value, schema: bool, path: &str, found: &mut BTreeSet<String>) {
    let members = if schema { &value["properties"] } else { value };
    match members.as_object().filter(|members| !members.is_empty()) {
        Some(members) => {
            for (name, member) in members {
                paths(member, schema, &format!("{path}.{name}"), found);
            }
        }
        None => drop(found.insert(path.to_owned())),
    }
}

#[test]
fn metadata_gets_the_memory_that_the_values_say() -> Outcome<()> {
    assert!(has(&with(&[])?.arguments()?, "--metadata-memory=256"));
    let all = Rendered::new(&["--values", ALL_VALUES])?;
    assert!(has(&all.arguments()?, "--metadata-memory=512"));
    Ok(())
}

#[test]
fn the_schema_knows_the_values_and_no_others() -> Outcome<()> {
    let read = |name: &str| fs::read_to_string(format!("{CHART}/{name}"));
    let values = documents(&read("values.yaml")?)?.remove(0);
    let schema: Value = serde_json::from_str(&read("values.schema.json")?)?;
    let (mut defined, mut known) = (BTreeSet::new(), BTreeSet::new());
    paths(&values, false, "", &mut defined);
    paths(&schema, true, "", &mut known);
    // Helm itself adds it; and the quantities' names are the cluster's.
    assert!(known.remove(".global"));
    let quantity = |path: &String| path.starts_with(".resources.");
    defined.retain(|path| !quantity(path));
    known.retain(|path| !quantity(path));
    assert_eq!(defined, known);
    Ok(())
}

#[test]
fn a_probe_tells_whether_countersign_is_ready() -> Outcome<()> {
    let lab = Lab::start()?;
    lab.trusted("payments/api", "1.4")?;
    let countersign = lab.countersign("countersign")?;
    let ready = format!("{}/readyz", countersign.probes());
    command(&["probe", &ready])?.success()?;
    let missing = format!("{}/nothing", countersign.probes());
    let refused = command(&["probe", "--timeout=0", &missing])?;
    assert_eq!(refused.code, Some(3), "{refused}");
    assert!(refused.stderr.contains("404"), "{refused}");
    countersign.kill()?;
    let gone = command(&["probe", "--timeout=1", &ready])?;
    assert_eq!(gone.code, Some(3), "{gone}");
    assert!(gone.stderr.contains("is not ready"), "{gone}");
    assert_eq!(command(&["probe", "https://127.0.0.1/readyz"])?.code, Some(2));
    Ok(())
}
