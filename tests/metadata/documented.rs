//! Code, documentation, alerts and dashboard speak of the same metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use countersign::clock::Clock;
use countersign::review::{ImageReview, ImageUse, Review};
use countersign::server::Readiness;
use countersign::telemetry::{Lines, Metrics, Outcome, Traces};
use countersign_verify::outcome::{Decision, Denial, Finding, PolicyVerdict};
use countersign_verify::policy::Action;
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::sync::watch;
use url::Url;

use super::freshness::HOUR;
use super::world::World;
use super::{MINUTE, sound};

const DOCS: &str = include_str!("../../docs/metrics.md");
const RUNBOOK: &str = include_str!("../../docs/alerts.md");
const ALERTS: &str = include_str!("../../charts/countersign/files/alerts.yaml");
const DASHBOARD: &str = include_str!("../../charts/countersign/files/dashboard.json");
const CODES: &str = include_str!("../../verify/src/outcome/unavailable.rs");

const HANDLER: &str = include_str!("../../src/admission/handler.rs");
const BODY: &str = include_str!("../../src/admission/body.rs");
const OUTCOMES: &str = include_str!("../../src/telemetry/outcomes.rs");
const MEASURES: &str = include_str!("../../src/telemetry/measures.rs");
const METRICS: &str = include_str!("../../src/telemetry/metrics.rs");
const FIGURES: &str = include_str!("../../src/metadata/figures.rs");
const FRESHNESS: &str = include_str!("../../src/telemetry/freshness.rs");

/// Labels that take their values from a function's match, which the compiler keeps complete. Of
/// the other closed ones every value is to be seen.
const MATCHED: [(&str, &str, &str, &str); 9] = [
    ("countersign_reviews_total", "action", HANDLER, "fn as_str(self)"),
    ("countersign_reviews_total", "outcome", OUTCOMES, "fn as_str(self)"),
    ("countersign_review_duration_seconds", "action", HANDLER, "fn as_str(self)"),
    ("countersign_refusals_total", "action", METRICS, "fn action("),
    ("countersign_requests_rejected_total", "reason", BODY, "fn status(&self)"),
    ("countersign_fetch_duration_seconds", "server", MEASURES, "fn as_str(self)"),
    ("countersign_fetch_duration_seconds", "outcome", MEASURES, "fn outcome<T>("),
    ("countersign_metadata_expiry_timestamp_seconds", "role", FIGURES, "fn as_str(self)"),
    ("countersign_metadata_expiry_timestamp_seconds", "updates", FRESHNESS, "fn updates_are("),
];

/// What a scrape adds, and what Prometheus makes itself.
const OF_SCRAPES: [&str; 4] = ["cluster", "instance", "le", "namespace"];

/// A metric: its type, and its labels with the values that were seen, or that it may have; none
/// where they are open.
#[derive(Debug, Clone, Default, PartialEq)]
struct Metric {
    kind: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

type All = BTreeMap<String, Metric>;

/// Everything that a replica registers, driven until each metric has its labels.
async fn of_the_code() -> All {
    let mut registry = Registry::with_prefix("countersign");
    let metrics = Metrics::register(&mut registry);
    Metrics::watch_lines(&mut registry, &Lines::to(std::io::sink()).expect("a thread"));
    let collector = Url::parse("http://127.0.0.1:1").expect("a URL");
    let traces = Traces::start(&collector, None, None).expect("an exporter");
    traces.register(&mut registry);
    let world = World::new(&sound(), 24 * HOUR).await;
    Metrics::watch_repositories(&mut registry, &world.repositories);
    Metrics::watch_remembered(&mut registry, || [("notary".to_owned(), 1)].into());
    let (_leading, leads) = watch::channel(true);
    Metrics::watch_state(&mut registry, &Readiness::new(), &leads, &world.denying());

    metrics.answered("validate", Outcome::Denied, "Unsigned", Duration::from_millis(1));
    metrics.rejected("broken");
    let excepted = Finding::Excepted {
        exception: "e".to_owned(),
        expires: jiff::Timestamp::MAX,
        refusal: Denial::NotPinned.into(),
    };
    let findings = [Finding::Refused(Denial::NotPinned.into()), excepted];
    metrics.reviewed(&Review { images: vec![image(findings)] });
    world.ask().await.0.expect("verified");
    world.pass(MINUTE).await;
    world.server.has_nothing();
    world.pass(MINUTE).await;
    let mut text = String::new();
    encode(&mut text, &registry).expect("text");
    read(&text)
}

fn image(findings: [Finding; 2]) -> ImageReview {
    let verdict = |finding| PolicyVerdict {
        policy: Some("p".to_owned()),
        finding,
        ..PolicyVerdict::by_installation(Action::Deny, Denial::NotPinned)
    };
    let verdicts = findings.map(verdict).to_vec();
    let usage = ImageUse { path: "image".to_owned(), image: "r.example/a:1".to_owned() };
    let decision = Decision { reference: None, digest: None, verdicts };
    ImageReview { usage, decision, pin: None, notes: Vec::new() }
}

/// Reads OpenMetrics as Prometheus does, which names a counter with its `_total`.
fn read(text: &str) -> All {
    let mut all = All::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a type");
        let (suffix, kind) = match kind {
            "counter" => ("_total", kind),
            "info" => ("_info", "gauge"),
            _ => ("", kind),
        };
        let metric = Metric { kind: kind.to_owned(), ..Metric::default() };
        assert_eq!(all.insert(format!("{name}{suffix}"), metric), None, "{name} twice");
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let metric = all.get_mut(base(name)).unwrap_or_else(|| panic!("{name} has no type"));
        for (label, value) in matchers(labels.trim_end_matches('}')) {
            if label != "le" {
                metric.labels.entry(label).or_default().insert(value);
            }
        }
    }
    all
}

/// The metric that a series is of.
fn base(series: &str) -> &str {
    let of_histogram = ["_bucket", "_sum", "_count"];
    let found = of_histogram.iter().find_map(|suffix| series.strip_suffix(suffix));
    found.filter(|name| name.ends_with("_duration_seconds")).unwrap_or(series)
}

/// Labels with what they are compared with: `a="x",b=~"y|z"`.
fn matchers(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((label, after)) = rest.split_once('"') {
        let (value, after) = after.split_once('"').expect("the end of a value");
        let label = label.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        found.push((label.to_owned(), value.to_owned()));
        rest = after;
    }
    found
}

/// The table of the documentation.
fn of_the_docs() -> All {
    let rows = DOCS.lines().filter(|line| line.starts_with("| `countersign_"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, labels, meaning] = cells[..] else { panic!("{line}") };
        assert!(!meaning.is_empty(), "{line}");
        let label = |text: &str| {
            let (name, values) = text.split_once(": ").expect(text);
            let open = values.starts_with("a ");
            let values = values.split(", ").map(str::to_owned).filter(|_| !open);
            (name.trim().trim_matches('`').to_owned(), values.collect())
        };
        let labels = labels.split("; ").filter(|text| !text.is_empty()).map(label).collect();
        (name.trim_matches('`').to_owned(), Metric { kind: kind.to_owned(), labels })
    };
    // A cell that is empty.
    rows.map(|line| row(&line.replace("| | ", "|  | "))).collect()
}

/// Every expression of the alerts with what is said of its result, and of the dashboard.
fn expressions() -> Vec<(String, String)> {
    let alerts: Value = serde_saphyr::from_str(ALERTS).expect("YAML");
    let rules = alerts["groups"][0]["rules"].as_array().expect("rules");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let alert = |rule: &Value| (text(&rule["expr"]), rule["annotations"].to_string());
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array()).flatten();
    let target = |it: &Value| (text(&it["expr"]), text(&it["legendFormat"]));
    rules.iter().map(alert).chain(targets.map(target)).collect()
}

/// The series in an expression, each with its matchers.
fn series(expression: &str) -> Vec<(String, Vec<(String, String)>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = expression.match_indices("countersign_").map(|(at, _)| &expression[at..]);
    let one = |text: &str| {
        let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let selector = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        (name.to_owned(), selector.map_or_else(Vec::new, |(selector, _)| matchers(selector)))
    };
    starts.map(one).collect()
}

/// What stands in brackets after each `word`, by commas.
fn listed<'t>(text: &'t str, word: &str, end: &str) -> BTreeSet<&'t str> {
    let lists = text.split(word).skip(1).filter_map(|rest| rest.split_once(end));
    lists.flat_map(|(list, _)| list.split(',')).map(str::trim).collect()
}

/// The values that a closed label may have, by the code: those of its match, or all that were seen.
fn values_by_the_code(metric: &str, label: &str, seen: &BTreeSet<String>) -> BTreeSet<String> {
    let matched = MATCHED.iter().find(|(of, name, ..)| (*of, *name) == (metric, label));
    let Some((_, _, source, function)) = matched else { return seen.clone() };
    let (_, rest) = source.split_once(function).unwrap_or_else(|| panic!("no {function}"));
    // A function ends where a brace closes that is as far to the left as it or its `impl`.
    let end = ["\n    }\n", "\n}\n"].iter().filter_map(|end| rest.find(end)).min();
    let body = &rest[..end.expect("the end of a function")];
    let values = body.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(seen.is_subset(&values), "{metric}, {label}: {seen:?} are not in {function}");
    values
}

#[tokio::test(start_paused = true)]
async fn every_metric_is_documented_with_its_type_and_labels_and_nothing_else_is() {
    let (code, docs) = (of_the_code().await, of_the_docs());
    let names = |all: &All| all.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&code), names(&docs));
    for (name, metric) in &code {
        let documented = &docs[name];
        assert_eq!(metric.kind, documented.kind, "{name}");
        assert!(metric.labels.keys().eq(documented.labels.keys()), "{name}: {metric:?}");
        for (label, seen) in &metric.labels {
            let values = &documented.labels[label];
            if !values.is_empty() {
                assert_eq!(&values_by_the_code(name, label, seen), values, "{name}, {label}");
            }
        }
        assert!(name.starts_with("countersign_"), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == "counter", "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn t17_how_far_a_clock_was_ahead_is_told() {
    static SECOND: AtomicI64 = AtomicI64::new(10_000);
    let read = || Timestamp::from_second(SECOND.load(Ordering::SeqCst)).expect("a time");
    let (clock, mut registry) = (Clock::reading(read), Registry::default());
    clock.now();
    SECOND.store(2_800, Ordering::SeqCst);
    let (readiness, (_leading, leads)) = (Readiness::by(clock), watch::channel(true));
    let world = World::new(&sound(), 24 * HOUR).await;
    Metrics::watch_state(&mut registry, &readiness, &leads, &world.denying());
    let mut text = String::new();
    encode(&mut text, &registry).expect("text");
    assert!(text.contains("\nclock_ahead_seconds 7200.0\n"), "{text}");
    assert!(text.contains("\nready 0\n"), "{text}");
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_and_labels_that_there_are() {
    let docs = of_the_docs();
    let mut asked = BTreeSet::new();
    for (expression, told) in expressions() {
        let mut labels = BTreeSet::from(OF_SCRAPES);
        for (name, matchers) in series(&expression) {
            let metric = docs.get(base(&name));
            let metric = metric.unwrap_or_else(|| panic!("no metric {name}: {expression}"));
            labels.extend(metric.labels.keys().map(String::as_str));
            for (label, wanted) in matchers {
                let values = metric.labels.get(&label);
                let values = values.unwrap_or_else(|| panic!("{name} has no label {label}"));
                let known = |value: &str| values.is_empty() || values.contains(value);
                assert!(wanted.split('|').all(known), "{name}: {label} is never {wanted}");
            }
            asked.insert(base(&name).to_owned());
        }
        let by = listed(&expression, "by (", ")");
        let on = listed(&expression, "on (", ")");
        for label in by.iter().chain(&on) {
            assert!(labels.contains(label), "{label}: {expression}");
        }
        // What is left of the labels is what can be told.
        let legend = listed(&told, "{{", "}}");
        for label in legend.iter().filter_map(|it| it.strip_prefix("$labels.").or(Some(it))) {
            let is_value = label.starts_with("$value");
            assert!(is_value || label.is_empty() || labels.contains(label), "{label}: {told}");
            let kept = by.is_empty() || by.contains(label);
            assert!(is_value || kept, "{label} is gone: {expression}");
        }
    }
    // One for which nobody has a look is one too many.
    let unseen: Vec<&String> = docs.keys().filter(|name| !asked.contains(*name)).collect();
    assert_eq!(unseen, Vec::<&String>::new());
}

#[test]
fn every_alert_says_what_it_is_and_its_runbook_is_there() {
    let alerts: Value = serde_saphyr::from_str(ALERTS).expect("YAML");
    let mut headings = Vec::new();
    for rule in alerts["groups"][0]["rules"].as_array().expect("rules") {
        let name = rule["alert"].as_str().expect("a name");
        headings.push(format!("## {name}"));
        for annotation in ["summary", "description"] {
            let text = rule["annotations"][annotation].as_str().unwrap_or_default();
            assert!(text.len() > 20, "{name}: {annotation}");
        }
        let url = rule["annotations"]["runbook_url"].as_str().unwrap_or_default();
        assert!(url.ends_with(&format!("docs/alerts.md#{}", name.to_lowercase())), "{name}: {url}");
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        assert!(["warning", "critical"].contains(&severity), "{name}: {severity}");
    }
    let told: Vec<&str> = RUNBOOK.lines().filter(|line| line.starts_with("## ")).collect();
    assert_eq!(told, headings);
    for section in RUNBOOK.split("\n## ").skip(1) {
        assert!(section.trim().lines().count() > 2, "{section}");
    }
}

#[test]
fn whoever_cannot_be_asked_is_told_and_no_one_else() {
    let after = |text: &str| text.split_once('"').map(|(code, _)| code.to_owned());
    let mut codes: BTreeSet<String> = CODES.split("=> \"").skip(1).filter_map(after).collect();
    // Whoever names an image chooses its registry: that is no outage.
    assert!(codes.remove("RegistryNotAllowed"));
    let told = expressions().into_iter().flat_map(|(expression, _)| series(&expression));
    let told = told.filter(|(name, _)| name == "countersign_reviews_total");
    let told = told.flat_map(|(_, matchers)| matchers);
    let told = told.filter(|(label, wanted)| label == "code" && wanted.contains('|'));
    let told: Vec<BTreeSet<String>> =
        told.map(|(_, wanted)| wanted.split('|').map(str::to_owned).collect()).collect();
    assert_eq!(told, [codes]);
}

#[test]
fn what_is_read_of_expressions_is_what_is_in_them() {
    let text =
        "sum by (le, a) (rate(countersign_x_duration_seconds_bucket{b=\"1\", c=~\"2|3\"}[5m])) > 0";
    let matchers = vec![("b".to_owned(), "1".to_owned()), ("c".to_owned(), "2|3".to_owned())];
    assert_eq!(series(text), [("countersign_x_duration_seconds_bucket".to_owned(), matchers)]);
    assert_eq!(base("countersign_x_duration_seconds_bucket"), "countersign_x_duration_seconds");
    assert_eq!(base("countersign_a_count"), "countersign_a_count");
    assert_eq!(listed(text, "by (", ")"), BTreeSet::from(["a", "le"]));
}
