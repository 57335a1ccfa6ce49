//! The log line of a decision, as it reaches standard error.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::review::{ImageReview, ImageUse, Review};
use countersign::telemetry::{DecisionLog, DecisionRecord, Format, Lines, Outcome, init};
use countersign_verify::image::{Digest, Reference};
use countersign_verify::outcome::{Decision, Denial, Finding, PolicyVerdict, Unavailable};
use countersign_verify::policy::Action;
use serde_json::Value;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn lines(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap().clone();
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn review(image: &str, finding: Finding) -> Review {
    let verdict = PolicyVerdict {
        policy: Some("payments".to_owned()),
        action: Action::Deny,
        finding,
        authorities: Vec::new(),
        disclose: false,
        help: None,
    };
    let usage = ImageUse { path: "spec.containers[name=api]".to_owned(), image: image.to_owned() };
    let decision = Decision {
        reference: Reference::parse(image).ok(),
        digest: Some(Digest::sha256(b"manifest")),
        verdicts: vec![verdict],
    };
    Review { images: vec![ImageReview { usage, decision, pin: None, notes: Vec::new() }] }
}

fn record(review: &Review) -> DecisionRecord<'_> {
    DecisionRecord {
        action: "validate",
        uid: "u-1",
        namespace: "default",
        group: "",
        kind: "Pod",
        name: "x",
        operation: "CREATE",
        dry_run: true,
        outcome: Outcome::Denied,
        code: "SourceUnavailable",
        took: Duration::from_micros(42),
        review,
    }
}

#[test]
fn a_decision_is_one_json_line_with_everything_in_it() {
    let sink = Sink::default();
    let lines = Lines::to(sink.clone()).unwrap();
    assert!(init(Format::Json, "not a=filter=", &lines).is_err());
    init(Format::Json, "info", &lines).unwrap();
    assert!(init(Format::Json, "info", &lines).is_err(), "once");

    // Without a collector a span costs nothing: it is off before its fields are looked at.
    assert!(!tracing::span_enabled!(target: "countersign::span", tracing::Level::INFO));
    assert!(tracing::span_enabled!(target: "another", tracing::Level::INFO));

    let unavailable = Unavailable::SourceUnavailable {
        source_name: "corp".to_owned(),
        cause: "connection refused\nby 10.0.0.1".to_owned(),
        is_away: true,
    };
    let denied = review("r.example/api:1", Finding::Refused(unavailable.into()));
    let log = DecisionLog::new(lines.clone());
    log.record(&record(&denied));
    let long = "x\n".repeat(5 << 20);
    let invalid = Denial::InvalidReference { image: long.clone(), reason: long.clone() };
    let mut invalid = review(&long, Finding::Refused(invalid.into()));
    invalid.images[0].notes.push(long.clone());
    log.record(&DecisionRecord { name: &long, ..record(&invalid) });
    tracing::info!(port = 1, "listening");
    tracing::debug!("not written");
    std::panic::catch_unwind(|| panic!("scripted")).unwrap_err();
    lines.flush(Duration::from_secs(5));

    let written = sink.lines();
    assert_eq!(written.len(), 4);
    let line = &written[0];
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["target"], "countersign::decision");
    assert_eq!(line["outcome"], "denied");
    assert_eq!(line["code"], "SourceUnavailable");
    assert_eq!(line["uid"], "u-1");
    assert_eq!(line["dry_run"], true);
    assert_eq!(line["duration_us"], 42);
    assert!(line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let image = &line["images"][0];
    assert_eq!(image["path"], "spec.containers[name=api]");
    assert_eq!(image["digest"], Digest::sha256(b"manifest").to_string());
    assert_eq!(image["effect"], "Deny");
    let policy = &image["policies"][0];
    assert_eq!(policy["policy"], "payments");
    assert_eq!(policy["finding"], "SourceUnavailable");
    assert_eq!(policy["causes"][0], "connection refused\nby 10.0.0.1", "causes are for logs");
    let length = written[1].to_string().len();
    assert!(length < 16_384, "a user's string neither fills the log nor drops its line: {length}");
    assert_eq!(written[2]["message"], "listening");
    assert_eq!(written[3]["panic"], "scripted");
    assert_eq!(written[3]["level"], "ERROR");
}

/// A sink that never comes back, as a pipe that nobody reads.
struct Stuck;

impl Write for Stuck {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        loop {
            std::thread::park();
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_hangs_holds_nothing_up_and_what_is_lost_is_counted() {
    let lines = Lines::to(Stuck).unwrap();
    let line = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        lines.push(&line);
    }
    assert!((83..=92).contains(&lines.dropped()), "{}", lines.dropped());
    let start = std::time::Instant::now();
    lines.flush(Duration::from_millis(50));
    assert!(start.elapsed() < Duration::from_secs(5));
}
