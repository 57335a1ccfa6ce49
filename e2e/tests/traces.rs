//! Spans of real reviews, as a collector reads them.

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_e2e::collector::{Collector, Span};
use countersign_e2e::countersign::{Config, Countersign};
use countersign_e2e::lab::Lab;
use countersign_e2e::process::{eventually, free_port};
use countersign_e2e::registry::{Auth, PASSWORD, Registry, USER};
use countersign_e2e::{Context as _, Outcome, reviews};
use serde_json::json;

const REPOSITORY: &str = "payments/api";

/// Sends spans there, some times a second.
fn sending(lab: &Lab, endpoint: &str) -> Config {
    let mut config = lab.config();
    config.more.push(format!("--otlp-endpoint={endpoint}"));
    config.env = vec![
        ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=payments".to_owned()),
    ];
    config
}

fn all<'s>(spans: &'s [Span], name: &str) -> Vec<&'s Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

#[test]
fn a_cold_review_is_one_trace_down_to_every_request_and_a_warm_one_is_one_span() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let collector = Collector::start()?;
    let config = sending(&lab, collector.url());
    let countersign = Countersign::start(&lab.folder("traced"), &lab.authority, &config)?;
    countersign.deployment(&image.tagged("1.4"))?.admitted()?;
    let has_all = |spans: &Vec<Span>| !all(spans, "review").is_empty();
    let spans = eventually("spans", || Ok(collector.spans()), has_all)?;

    let reviews = all(&spans, "review");
    let [review] = reviews[..] else { panic!("{reviews:?}") };
    assert!(review.parent.is_empty());
    for (name, value) in [
        ("action", "validate"),
        ("kind", "Deployment"),
        ("namespace", "payments"),
        ("operation", "CREATE"),
        ("outcome", "allowed"),
        ("code", ""),
    ] {
        assert_eq!(review.attribute(name), value, "{name} of {review:?}");
    }
    assert!(!review.attribute("uid").is_empty());
    let service = review.resource.iter().find(|(key, _)| key == "service.name");
    assert_eq!(service.map(|(_, name)| name.as_str()), Some("countersign"));

    for name in ["gather", "resolve", "update"] {
        let found = all(&spans, name);
        let [span] = found[..] else { panic!("{name}: {found:?}") };
        assert_eq!(span.trace, review.trace, "{name}");
        assert!(!span.parent.is_empty(), "{name}");
    }
    let update = all(&spans, "update").pop().context("an update")?;
    assert_eq!(update.attribute("outcome"), "updated");
    assert_eq!(update.attribute("repository"), lab.gun(REPOSITORY));
    let verify = all(&spans, "verify").pop().context("verified")?;
    assert_eq!(verify.parent, update.id);
    let fetches = all(&spans, "fetch");
    let timestamp = fetches.iter().find(|it| it.attribute("url.path").ends_with("timestamp.json"));
    let timestamp = timestamp.context("the timestamp is fetched")?;
    assert_eq!((&timestamp.trace, &timestamp.parent), (&review.trace, &update.id));
    assert_eq!(timestamp.attribute("outcome"), "ok");
    assert_eq!(timestamp.attribute("http.response.status_code"), "200");
    assert_eq!(timestamp.attribute("server.address"), "localhost");
    let bytes: usize = timestamp.attribute("http.response.body.size").parse()?;
    assert!(bytes > 100, "{bytes}");

    let before = collector.spans().len();
    countersign.deployment(&image.tagged("1.4"))?.admitted()?;
    let more = |spans: &Vec<Span>| all(spans, "review").len() == 2;
    let spans = eventually("a second review", || Ok(collector.spans()), more)?;
    let warm = all(&spans, "review").pop().context("a review")?;
    let of_it = spans[before..].iter().filter(|span| span.trace == warm.trace).count();
    assert_eq!(of_it, 1, "{spans:?}");
    assert_eq!(collector.refused(), 0);
    let tenant = |it: &axum::http::HeaderMap| it.get("x-tenant").is_some_and(|it| it == "payments");
    assert!(collector.headers().iter().all(tenant));
    // A span is no line of the log.
    assert!(!countersign.log()?.contains("server.address"));
    let sent = countersign.probe("/metrics")?;
    assert!(!sent.contains("countersign_spans_exported_total{outcome=\"sent\"} 0\n"), "{sent}");
    Ok(())
}

#[test]
fn no_credentials_are_in_spans() -> Outcome<()> {
    let mut lab = Lab::start()?;
    lab.registry = Registry::start_with(&lab.folder("private"), &lab.authority, Auth::Basic)?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let collector = Collector::start()?;
    let mut config = sending(&lab, collector.url());
    let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let file = lab.folder("config.json");
    let auths = json!({lab.registry.host(): {"auth": auth}});
    fs::write(&file, json!({"auths": auths}).to_string())?;
    config.docker_config = Some(file);
    let countersign = Countersign::start(&lab.folder("traced"), &lab.authority, &config)?;
    countersign.deployment(&image.tagged("1.4"))?.admitted()?;
    let has_all = |spans: &Vec<Span>| !all(spans, "review").is_empty();
    let spans = eventually("spans", || Ok(collector.spans()), has_all)?;
    assert!(!all(&spans, "resolve").is_empty(), "the registry was asked: {spans:?}");
    let text = format!("{spans:?}");
    for secret in [PASSWORD, &auth, "Authorization", "Basic "] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    Ok(())
}

#[test]
fn a_collector_that_is_away_harms_no_review_and_is_told_once() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let nobody = format!("http://127.0.0.1:{}", free_port()?);
    let config = sending(&lab, &nobody);
    let mut countersign = Countersign::start(&lab.folder("alone"), &lab.authority, &config)?;
    let pod = reviews::create("payments", &reviews::pod("app", &image.by_digest()));
    // More than the queue holds.
    for _ in 0..3000 {
        countersign.review("/validate", &pod)?.admitted()?;
    }
    let failed = |metrics: &String| {
        !metrics.contains("countersign_spans_exported_total{outcome=\"failed\"} 0\n")
    };
    eventually("spans that fail", || countersign.probe("/metrics"), failed)?;
    let told = countersign.log()?.matches("spans cannot be sent").count();
    assert_eq!(told, 1, "{}", countersign.log()?);
    countersign.process().terminate()?;
    let ended = countersign.process().wait(Duration::from_secs(20))?;
    assert!(ended.success(), "{ended}");
    Ok(())
}

#[test]
fn nothing_is_sent_where_nobody_asks_for_it_and_a_wrong_url_is_told() -> Outcome<()> {
    let lab = Lab::start()?;
    lab.trusted(REPOSITORY, "1.4")?;
    let mut config = lab.config();
    config.env = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", String::new())];
    let countersign = Countersign::start(&lab.folder("quiet"), &lab.authority, &config)?;
    assert!(!countersign.probe("/metrics")?.contains("spans_exported"));
    config.env = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318".to_owned())];
    let refused = Countersign::start(&lab.folder("wrong"), &lab.authority, &config);
    let said = refused.err().context("started")?.to_string();
    assert!(said.contains("--otlp-endpoint"), "{said}");
    Ok(())
}
