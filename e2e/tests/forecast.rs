//! Metadata that is about to expire, told in a real API server by an account with the chart's rights,
//! and to a lease of any name.

use std::path::Path;
use std::thread;
use std::time::Duration;

use countersign_e2e::api_server::ApiServer;
use countersign_e2e::builder::{self, GUN, Repo};
use countersign_e2e::chart::RELEASE;
use countersign_e2e::countersign::{Config, Countersign, Kubernetes};
use countersign_e2e::pki::Authority;
use countersign_e2e::policies::{Policy, Source};
use countersign_e2e::process::eventually;
use countersign_e2e::serve::Served;
use countersign_e2e::signed::{self, Signed};
use countersign_e2e::signer::{Kind, Signer};
use countersign_e2e::{Context as _, Outcome, install, reviews};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const SOURCE: &str = "corp";

/// Signs targets until then, and serves everything.
fn serve(signed: &Signed, repo: &mut Repo, version: u64, until: Timestamp) {
    for role in ["targets", "snapshot", "timestamp"] {
        repo.set(role, "version", json!(version));
    }
    repo.set("targets", "expires", json!(until.to_string()));
    signed.put(GUN, &repo.seal());
}

struct Cluster {
    api_server: ApiServer,
    kubernetes: Kubernetes,
}

impl Cluster {
    fn start(folder: &Path, authority: &Authority) -> Outcome<Self> {
        let api_server = ApiServer::start(&folder.join("kubernetes"), authority)?;
        install::definitions(&api_server)?;
        install::grant(&api_server, RELEASE, RELEASE)?;
        install::grant_any_lease(&api_server, RELEASE)?;
        let kubernetes = Kubernetes {
            kubeconfig: api_server.account(RELEASE, RELEASE)?,
            namespace: RELEASE.to_owned(),
            stale_after: 300,
        };
        Ok(Self { api_server, kubernetes })
    }

    fn source(&self) -> Outcome<Value> {
        self.api_server.get(&["tsrc", SOURCE])
    }

    /// Waits until the condition says so.
    fn expiring(&self, status: &str, reason: &str) -> Outcome<Value> {
        let find = || {
            let conditions = self.source()?["status"]["conditions"].as_array().cloned();
            let mut conditions = conditions.into_iter().flatten();
            Ok(conditions.find(|it| it["type"] == "Expiring").unwrap_or_default())
        };
        let is = |it: &Value| it["status"] == status && it["reason"] == reason;
        eventually("the condition Expiring", find, is)
    }
}

#[test]
fn who_looks_at_a_source_sees_what_expires_and_nothing_is_written_twice() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    let signed = Signed::default();
    let notary = Served::start(signed.router(), &authority.server("notary")?)?;
    let keys = [Kind::P256, Kind::P256, Kind::Ed25519].map(Signer::new);
    let certified = Signer::x509(Kind::P256, &signed::certificate(GUN));
    let mut repo = Repo::with_keys(certified, keys);
    repo.targets(&[("1.4", "app")]);
    let in_days = |days: i64| -> Outcome<Timestamp> {
        let then = Timestamp::now() + SignedDuration::from_hours(24 * days);
        Ok(Timestamp::from_second(then.as_second())?)
    };
    let soon = in_days(5)?;
    serve(&signed, &mut repo, 1, soon);

    let cluster = Cluster::start(folder.path(), &authority)?;
    let key = signed::public_key(&repo.root_key);
    let source = Source::new(SOURCE, notary.url(), &authority.pem()).pin("all", GUN, &key);
    let api_server = &cluster.api_server;
    for yaml in [source.config_map(), source.yaml(), Policy::new("p", GUN, SOURCE).yaml()] {
        api_server.kubectl_with(&["-n", RELEASE, "apply", "-f", "-"], &yaml)?.success()?;
    }
    let config =
        Config { kubernetes: Some(cluster.kubernetes.clone()), ..Config::new(Path::new("")) };
    let countersign = Countersign::start(&folder.path().join("one"), &authority, &config)?;
    let nothing = cluster.expiring("False", "NothingExpires")?;
    assert!(
        nothing["message"].as_str().is_some_and(|it| it.contains("the lease's holder has in use"))
    );

    let image = format!("{GUN}@{}", builder::digest("app"));
    let review = reviews::create("default", &reviews::pod("app", &image));
    let admit = || countersign.review("/validate", &review)?.admitted();
    admit()?;
    let told = cluster.expiring("True", "ExpiresSoon")?;
    let message = told["message"].as_str().context("a message")?;
    assert!(message.starts_with(&format!("targets of {GUN} expires at {soon}: ")), "{message}");
    // It is in force all the same, as kubectl waits for it.
    let wait = ["wait", "--for=condition=Ready", "--timeout=5s", "tsrc", SOURCE];
    api_server.kubectl(&wait)?.success()?;
    let describe = || Ok(api_server.kubectl(&["describe", "tsrc", SOURCE])?.success()?.stdout);
    let has_event = |text: &String| text.contains("Warning  ExpiresSoon");
    eventually("an event", describe, has_event)?;
    let metric = format!(
        "countersign_metadata_expiry_timestamp_seconds{{source=\"{SOURCE}\",role=\"targets\",updates=\"ok\"}} {}",
        soon.as_second()
    );
    let metrics = countersign.probe("/metrics")?;
    assert!(metrics.contains(&metric), "{metric} in {metrics}");

    // Looked at twice, refreshed many times, and nothing is written.
    let before = cluster.source()?["metadata"]["resourceVersion"].clone();
    for _ in 0..25 {
        admit()?;
        thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(cluster.source()?["metadata"]["resourceVersion"], before);
    let list = api_server.get(&["events.v1.events.k8s.io", "-n", "default"])?;
    let events: Vec<&Value> = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|it| it["reason"] == "ExpiresSoon")
        .collect();
    let [event] = events[..] else { panic!("{events:#?}") };
    assert_eq!(event["series"], Value::Null, "told once: {event}");
    assert_eq!(event["regarding"]["kind"], "TrustSource");

    // Somebody signs.
    serve(&signed, &mut repo, 2, in_days(1000)?);
    thread::sleep(Duration::from_millis(1500));
    admit()?;
    cluster.expiring("False", "NothingExpires")?;
    Ok(())
}
