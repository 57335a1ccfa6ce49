//! A real Prometheus scrapes a real replica and goes by the chart's alerts; and what the chart renders
//! for its operator.

use std::fs;
use std::path::Path;

use countersign_e2e::api_server::ApiServer;
use countersign_e2e::chart::{ALL_VALUES, RELEASE, Rendered};
use countersign_e2e::collector::Collector;
use countersign_e2e::countersign::Countersign;
use countersign_e2e::front::Mode;
use countersign_e2e::lab::{Lab, POLICY, SOURCE};
use countersign_e2e::pki::Authority;
use countersign_e2e::process::eventually;
use countersign_e2e::prometheus::Prometheus;
use countersign_e2e::tools::operator_definitions;
use countersign_e2e::{Context as _, Failure, Outcome};
use serde_json::Value;

const REPOSITORY: &str = "payments/api";

/// The documented metrics, each by a series that Prometheus has of it.
fn documented() -> Outcome<Vec<String>> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let docs = fs::read_to_string(docs)?;
    let rows = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let rows = rows.filter(|(name, _)| name.starts_with("countersign_"));
    // It is of TrustCheckpoints, which there are in clusters only.
    let rows = rows.filter(|(name, _)| *name != "countersign_repositories_remembered");
    let series = |(name, rest): (&str, &str)| match rest.starts_with("histogram") {
        true => format!("{name}_count"),
        false => name.to_owned(),
    };
    let found: Vec<String> = rows.map(series).collect();
    assert!(found.len() > 25, "{found:?}");
    Ok(found)
}

/// Every expression of the chart's dashboard, with what Grafana puts for its variable.
fn dashboard() -> Outcome<Vec<String>> {
    let rendered = Rendered::new(&["--set=unmatched=Deny,dashboard.enabled=true"])?;
    let data = rendered.all("ConfigMap").into_iter().filter_map(|it| it["data"].as_object());
    let files = data.flatten().filter(|(name, _)| name.ends_with(".json"));
    let texts: Vec<&str> = files.filter_map(|(_, text)| text.as_str()).collect();
    let [text] = texts[..] else { return Err(Failure::new("not one dashboard")) };
    let dashboard: Value = serde_json::from_str(text)?;
    let panels = dashboard["panels"].as_array().context("no panels")?.iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let found: Vec<String> = targets
        .filter_map(|target| target["expr"].as_str())
        .map(|expression| expression.replace("$__rate_interval", "1m"))
        .collect();
    assert_eq!(found.len(), text.matches("\"expr\":").count(), "{found:?}");
    assert!(found.iter().all(|it| !it.contains('$')), "{found:?}");
    Ok(found)
}

/// The rules as the chart renders them, that fire after seconds.
fn impatient_rules() -> Outcome<String> {
    let rendered = Rendered::new(&["--set=unmatched=Deny,prometheusRule.enabled=true"])?;
    let mut rules = rendered.one("PrometheusRule")?["spec"].clone();
    for rule in rules["groups"][0]["rules"].as_array_mut().context("no rules")? {
        if rule["for"].is_string() {
            rule["for"] = "2s".into();
        }
    }
    Ok(rules.to_string())
}

/// Makes a replica do everything that it counts.
fn drive(lab: &Lab, countersign: &Countersign, signed: &str, excepted: &str) -> Outcome<()> {
    countersign.deployment(signed)?.admitted()?;
    countersign.deployment(signed)?.admitted()?;
    let strange = countersign.deployment(&format!("{}/strange:1", lab.registry.host()))?;
    assert!(!strange.allowed, "{strange:?}");
    countersign.deployment(excepted)?.admitted()?;
    assert_eq!(countersign.post("/validate", "no review".to_owned())?.0, 400);
    Ok(())
}

#[test]
fn prometheus_reads_every_metric_and_its_alerts_fire_and_end() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let unsigned = lab.registry.push(REPOSITORY, "unsigned", "unsigned")?;
    let excepted = unsigned.by_digest();
    let exception = format!(
        "  exceptions:\n  - name: inc-1\n    images: [\"{excepted}\"]\n    namespaces: [payments]\n    \
         expiresAt: \"2099-01-01T00:00:00Z\"\n    reason: a test\n"
    );
    lab.policies.write(&format!("policy-{POLICY}"), &(lab.policy().yaml() + &exception))?;
    let collector = Collector::start()?;
    let mut config = lab.config();
    config.more.push(format!("--otlp-endpoint={}", collector.url()));
    let countersign = Countersign::start(&lab.folder("watched"), &lab.authority, &config)?;
    drive(&lab, &countersign, &image.tagged("1.4"), &excepted)?;

    let target = countersign.probes().trim_start_matches("http://").to_owned();
    let prometheus = Prometheus::start(&lab.folder("prometheus"), &target, &impatient_rules()?)?;
    let up = || prometheus.query("up{job=\"countersign\"}");
    eventually("the target is up", up, |it| it.iter().any(|one| one["value"][1] == "1"))?;

    // Its source is away: what a replica keeps fresh fails, and answers all the same.
    lab.front.set(Mode::Down);
    let alerts = || firing(&prometheus);
    let has = |name: &'static str| move |it: &Vec<String>| it.iter().any(|one| one == name);
    eventually("the source's alert", alerts, has("CountersignSourceFailing"))?;
    countersign.deployment(&image.tagged("1.4"))?.admitted()?;
    for series in documented()? {
        let ask = || prometheus.query(&series);
        eventually(&series, ask, |it| !it.is_empty())?;
    }
    for expression in dashboard()? {
        prometheus.query(&expression).context(&expression)?;
    }
    let source = prometheus.query("countersign_repositories_failing")?;
    assert_eq!(source[0]["metric"]["source"], SOURCE);

    for target in prometheus.ask("targets", &[])?["activeTargets"].as_array().context("targets")? {
        assert_eq!(
            (&target["health"], &target["lastError"]),
            (&"up".into(), &"".into()),
            "{target}"
        );
    }
    let rules = prometheus.ask("rules", &[])?["groups"][0]["rules"].clone();
    let rules = rules.as_array().context("rules")?;
    assert!(rules.len() >= 20, "{rules:?}");
    for rule in rules {
        assert_eq!((&rule["health"], &rule["lastError"]), (&"ok".into(), &Value::Null), "{rule}");
    }
    let log = prometheus.log()?;
    assert!(!log.contains("level=warn") && !log.contains("level=error"), "{log}");

    lab.front.set(Mode::Forward);
    let alerts = || firing(&prometheus);
    let ended = |it: &Vec<String>| !it.iter().any(|one| one == "CountersignSourceFailing");
    eventually("the alert's end", alerts, ended).map(drop)
}

#[test]
fn the_operator_s_definitions_take_what_the_chart_renders() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    let api_server = ApiServer::start(&folder.path().join("kubernetes"), &authority)?;
    for kind in ["servicemonitors", "prometheusrules"] {
        let file = operator_definitions()?.join(format!("monitoring.coreos.com_{kind}.yaml"));
        let apply = ["apply", "--server-side", "-f", &file.display().to_string()];
        api_server.kubectl(&apply)?.success()?;
    }
    let all = ["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"];
    api_server.kubectl(&all)?.success()?;
    api_server.create_namespace(RELEASE)?;
    let create = |object: &Value| {
        let create = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
        api_server.kubectl_with(&create, &object.to_string())
    };
    let rendered = Rendered::new(&[&format!("--values={ALL_VALUES}")])?;
    for (kind, part) in
        [("ServiceMonitor", "/spec/endpoints/0"), ("PrometheusRule", "/spec/groups/0")]
    {
        let object = rendered.one(kind)?;
        // A definition is established a moment before its resources can be made.
        eventually(kind, || create(object), |it| it.code == Some(0))?;
        let mut unknown = object.clone();
        unknown.pointer_mut(part).context(part)?["unknown"] = true.into();
        let refused = create(&unknown)?;
        assert!(refused.stderr.contains("unknown field"), "{refused}");
    }
    Ok(())
}

fn firing(prometheus: &Prometheus) -> Outcome<Vec<String>> {
    let alerts = prometheus.ask("alerts", &[])?["alerts"].clone();
    let alerts = alerts.as_array().context("alerts")?.iter();
    let firing = alerts.filter(|alert| alert["state"] == "firing");
    Ok(firing.filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned())).collect())
}
