//! What cannot work is told at the start; probes and metrics are there.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use countersign::clock::Clock;
use countersign::server::{PairOrigin, Readiness, ServeConfig, Server};
use countersign::telemetry::Metrics;
use jiff::Timestamp;
use prometheus_client::registry::Registry;

use crate::harness::{Folder, Pair, any_port, client, start, start_by};

fn files(certificate: &Path, key: &Path) -> PairOrigin {
    PairOrigin::Files { certificate: certificate.to_owned(), key: key.to_owned() }
}

fn refused(config: ServeConfig) -> String {
    let metrics = Metrics::register(&mut Registry::default());
    Server::bind(config, metrics).unwrap_err().to_string()
}

#[test]
fn a_pair_that_cannot_be_used_is_named_at_the_start() {
    let folder = Folder::new();
    let (pair, other) = (Pair::new(), Pair::new());
    let (certificate, key) = folder.write_pair(&pair);
    let garbage = folder.write("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let empty = folder.write("empty", "");
    let other_key = folder.write("other.key", &other.key);
    let absent = folder.0.join("absent");
    let config = |certificate: &std::path::PathBuf, key: &std::path::PathBuf| {
        ServeConfig::new(any_port(), any_port(), files(certificate, key))
    };
    for (config, named) in [
        (config(&absent, &key), &absent),
        (config(&certificate, &absent), &absent),
        (config(&garbage, &key), &garbage),
        (config(&empty, &key), &empty),
        (config(&key, &key), &key),
        (config(&certificate, &empty), &empty),
        (config(&certificate, &certificate), &certificate),
        (config(&certificate, &other_key), &other_key),
        (ServeConfig { client_ca: Some(empty.clone()), ..config(&certificate, &key) }, &empty),
    ] {
        let error = refused(config);
        assert!(error.starts_with(&named.display().to_string()), "{error}");
    }
    let error = refused(config(&certificate, &other_key));
    assert!(error.contains("not the key of the certificate in"), "{error}");
}

#[test]
fn a_port_in_use_is_named_at_the_start() {
    let folder = Folder::new();
    let (certificate, key) = folder.write_pair(&Pair::new());
    let held = TcpListener::bind(any_port()).unwrap();
    let address = held.local_addr().unwrap();
    let webhooks = ServeConfig::new(address, any_port(), files(&certificate, &key));
    let error = refused(webhooks);
    assert!(error.contains(&address.to_string()) && error.contains("for webhooks"), "{error}");
    let probes = ServeConfig::new(any_port(), address, files(&certificate, &key));
    let error = refused(probes);
    assert!(error.contains(&address.to_string()) && error.contains("for probes"), "{error}");
}

#[tokio::test]
async fn http_2_is_offered_and_http_1_answered() {
    let pair = Pair::new();
    let server = start(&pair, |_, _| {});
    let request = client(&[&pair]).post(server.url("/fast")).body("x");
    assert_eq!(request.send().await.unwrap().version(), reqwest::Version::HTTP_2);
    let old = crate::harness::builder(&[&pair]).http1_only().build().unwrap();
    assert_eq!(server.post(&old, "/fast", "x").await, "x");
    let plain = format!("http://{}/fast", server.address);
    assert!(reqwest::Client::new().post(plain).send().await.is_err(), "TLS only");
}

#[tokio::test]
async fn probes_tell_liveness_readiness_and_metrics() {
    let server = start(&Pair::new(), |_, _| {});
    assert_eq!(server.probe("/livez").await.0, 200);
    assert_eq!(server.probe("/readyz").await.0, 200);
    server.readiness.hold("policies", "not listed yet");
    assert_eq!(server.probe("/readyz").await, (503, "policies: not listed yet\n".to_owned()));
    assert_eq!(server.probe("/livez").await.0, 200);
    server.readiness.release("policies");
    assert_eq!(server.probe("/readyz").await.0, 200);
    let (status, metrics) = server.probe("/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("countersign_build_info{version="), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"));
}

#[test]
fn as_many_files_as_the_machine_allows_may_be_open() {
    let folder = Folder::new();
    folder.write_pair(&Pair::new());
    let policy = "apiVersion: countersign.dev/v1alpha1\n\
                  kind: TrustPolicy\n\
                  metadata: {name: any}\n\
                  spec:\n  \
                    match:\n    \
                      images: {include: [\"**\"], exclude: []}\n    \
                      namespaceSelector: {matchLabels: {}}\n  \
                    allowUnverified: {reason: none is reviewed}\n";
    folder.write("policies.yaml", policy);
    let serve = format!(
        "ulimit -S -n 256; exec {} serve --policies policies.yaml --unmatched Deny \
         --tls-cert tls.crt --tls-key tls.key --listen 127.0.0.1:0 --probe-listen 127.0.0.1:0",
        env!("CARGO_BIN_EXE_countersign"),
    );
    let mut command = Command::new("sh");
    command.args(["-c", &serve]).current_dir(&folder.0).stderr(Stdio::piped());
    let mut server = command.spawn().unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines().map(Result::unwrap);
    let listens = lines.any(|line| line.contains("listening"));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(listens, "it ended");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [.., soft, hard, _] = files.split_whitespace().collect::<Vec<_>>()[..] else {
        unreachable!("{files}")
    };
    assert_eq!(soft, hard);
}

#[tokio::test]
async fn t17_a_clock_that_was_ahead_is_noticed() {
    static SECOND: AtomicI64 = AtomicI64::new(10_000);
    let clock = Clock::reading(|| Timestamp::from_second(SECOND.load(Ordering::SeqCst)).unwrap());
    let readiness = Readiness::by(clock.clone());
    let server = start_by(Router::new(), readiness, Registry::default(), &Pair::new(), |_, _| {});
    clock.now();
    for (second, told) in [
        (10_000, None),
        (9_700, None),
        (9_699, Some("clock: the machine's clock is 301 s behind")),
        (2_800, Some("clock: the machine's clock is 7200 s behind")),
        (9_700, None),
    ] {
        SECOND.store(second, Ordering::SeqCst);
        for path in ["/livez", "/readyz"] {
            let (status, text) = server.probe(path).await;
            assert_eq!(status, if told.is_some() { 503 } else { 200 }, "{path} at {second}");
            assert!(text.starts_with(told.unwrap_or("ok\n")), "{text}");
        }
        assert_eq!(clock.now(), Timestamp::from_second(10_000).unwrap(), "what is held is held");
    }
}
