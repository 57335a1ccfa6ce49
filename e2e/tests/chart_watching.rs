//! What the chart makes for who watches Countersign.

use std::fs;

use countersign_e2e::chart::{ALL_VALUES, CHART, Rendered, documents};
use countersign_e2e::{Context as _, Outcome};
use serde_json::{Value, json};

const DENY: &str = "--set=unmatched=Deny";

fn with(value: &str) -> Outcome<Rendered> {
    Rendered::new(&[DENY, &format!("--set={value}")])
}

/// The ConfigMap of the dashboard.
fn dashboard<'r>(rendered: &'r Rendered, label: &str, value: &str) -> Option<&'r Value> {
    let labelled = |it: &&Value| it["metadata"]["labels"][label] == value;
    rendered.all("ConfigMap").into_iter().find(labelled)
}

fn alerts() -> Outcome<Value> {
    Ok(documents(&fs::read_to_string(format!("{CHART}/files/alerts.yaml"))?)?.remove(0))
}

#[test]
fn nothing_is_made_where_nobody_asks() -> Outcome<()> {
    let rendered = Rendered::new(&[DENY])?;
    for kind in ["ServiceMonitor", "PrometheusRule"] {
        assert!(rendered.all(kind).is_empty(), "{kind}");
    }
    assert!(dashboard(&rendered, "grafana_dashboard", "1").is_none());
    assert!(!rendered.arguments()?.iter().any(|it| it.starts_with("--otlp-endpoint")));
    Ok(())
}

#[test]
fn a_service_monitor_selects_the_service_and_a_port_that_it_has() -> Outcome<()> {
    let [plain, all] =
        [with("serviceMonitor.enabled=true")?, Rendered::new(&["--values", ALL_VALUES])?];
    for rendered in [&plain, &all] {
        let (monitor, service) = (rendered.one("ServiceMonitor")?, rendered.one("Service")?);
        // Without a selector of namespaces it looks in its own.
        assert!(monitor["spec"]["namespaceSelector"].is_null());
        assert_eq!(monitor["metadata"]["namespace"], service["metadata"]["namespace"]);
        let selector = &monitor["spec"]["selector"];
        assert_eq!(selector.as_object().map(serde_json::Map::len), Some(1), "{selector}");
        let selected = selector["matchLabels"].as_object().context("selects everything")?;
        let labels = &service["metadata"]["labels"];
        assert!(!selected.is_empty());
        assert!(selected.iter().all(|(key, value)| labels[key] == *value), "{selector}, {labels}");
        let [endpoint] = monitor["spec"]["endpoints"].as_array().context("endpoints")?.as_slice()
        else {
            panic!("one endpoint: {monitor}")
        };
        assert_eq!(endpoint["path"], "/metrics");
        let ports = service["spec"]["ports"].as_array().context("ports")?;
        let port = ports.iter().find(|port| port["name"] == endpoint["port"]);
        let port = port.context(format!("the Service has no port {}", endpoint["port"]))?;
        // That port is the one of the metrics.
        let pod = &rendered.one("Deployment")?["spec"]["template"]["spec"]["containers"][0];
        let open = pod["ports"].as_array().context("the container's ports")?;
        let open = open.iter().find(|it| it["name"] == port["targetPort"]).context("no target")?;
        assert_eq!(open["containerPort"], 8080);
    }
    assert_eq!(plain.one("ServiceMonitor")?["spec"]["endpoints"][0]["interval"], "30s");
    let monitor = all.one("ServiceMonitor")?;
    assert_eq!(monitor["spec"]["endpoints"][0]["interval"], "1m");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    Ok(())
}

#[test]
fn alerts_are_made_as_they_are_tested() -> Outcome<()> {
    let rendered = with("prometheusRule.enabled=true")?;
    assert_eq!(rendered.one("PrometheusRule")?["spec"], alerts()?);
    let all = Rendered::new(&["--values", ALL_VALUES])?;
    let rule = all.one("PrometheusRule")?;
    assert_eq!(rule["spec"], alerts()?);
    assert_eq!(rule["metadata"]["labels"]["release"], "prometheus");
    Ok(())
}

#[test]
fn a_dashboard_is_made_where_grafana_finds_it() -> Outcome<()> {
    let file = fs::read_to_string(format!("{CHART}/files/dashboard.json"))?;
    let file: Value = serde_json::from_str(&file)?;
    let [plain, all] = [with("dashboard.enabled=true")?, Rendered::new(&["--values", ALL_VALUES])?];
    for (rendered, label, value) in
        [(&plain, "grafana_dashboard", "1"), (&all, "dashboards", "grafana")]
    {
        let made = dashboard(rendered, label, value).context("a dashboard")?;
        let text = made["data"]["countersign.json"].as_str().context("its JSON")?;
        assert_eq!(serde_json::from_str::<Value>(text)?, file);
    }
    let made = dashboard(&all, "dashboards", "grafana").context("a dashboard")?;
    let folder = json!({"k8s-sidecar-target-directory": "Security"});
    assert_eq!(made["metadata"]["annotations"], folder);
    Ok(())
}

#[test]
fn traces_go_where_the_values_say() -> Outcome<()> {
    let rendered = with("tracing.endpoint=http://c:4318")?;
    let arguments = rendered.arguments()?;
    assert!(arguments.contains(&"--otlp-endpoint=http://c:4318"), "{arguments:?}");
    Ok(())
}
