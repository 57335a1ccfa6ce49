//! Countersign that reads its policies from a real API server, with the rights of an installation
//! and no others.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::api_server::{ApiServer, Shared};
use countersign_e2e::countersign::{Config, Countersign, Kubernetes};
use countersign_e2e::install::{self, SYSTEM_NAMESPACE};
use countersign_e2e::lab::{Lab, SOURCE};
use countersign_e2e::pki::Authority;
use countersign_e2e::policies::Policy;
use countersign_e2e::process::{Finished, eventually};
use countersign_e2e::reviews::{self, Verdict};
use countersign_e2e::{Context, Outcome};
use serde_json::{Value, json};

/// The bound for tests in which the API server is never away.
const LONG: u32 = 300;

/// An API server with the definitions and the rights, shared by tests.
struct Installation {
    shared: Arc<Shared>,
    kubernetes: Kubernetes,
}

impl Installation {
    fn get() -> Outcome<Arc<Self>> {
        static RUNNING: Mutex<Weak<Installation>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(installation) = running.upgrade() {
            return Ok(installation);
        }
        let shared = Shared::get()?;
        install::definitions(&shared.api_server)?;
        let kubernetes = install::rights(&shared.api_server, LONG)?;
        let installation = Arc::new(Self { shared, kubernetes });
        *running = Arc::downgrade(&installation);
        Ok(installation)
    }

    fn api_server(&self) -> &ApiServer {
        &self.shared.api_server
    }

    fn apply(&self, yaml: &str) -> Outcome<Finished> {
        self.api_server().kubectl_with(&["apply", "-f", "-"], yaml)
    }

    fn start(&self, folder: &Path, authority: &Authority) -> Outcome<Countersign> {
        Countersign::start(folder, authority, &in_cluster(&self.kubernetes))
    }
}

fn in_cluster(kubernetes: &Kubernetes) -> Config {
    Config { kubernetes: Some(kubernetes.clone()), ..Config::new(Path::new("")) }
}

/// Lets these images in without a signature in the namespaces that the selector selects.
fn allow(name: &str, include: &str, selector: &str) -> String {
    format!(
        "apiVersion: countersign.dev/v1alpha1\nkind: TrustPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
         match:\n    images: {{include: [\"{include}\"], exclude: []}}\n    \
         namespaceSelector: {{matchLabels: {{{selector}}}}}\n  allowUnverified: {{reason: a test}}\n"
    )
}

fn pod(countersign: &Countersign, namespace: &str, image: &str) -> Outcome<Verdict> {
    countersign.review("/validate", &reviews::create(namespace, &reviews::pod("app", image)))
}

/// Asks until a pod is let in.
fn admitted(countersign: &Countersign, namespace: &str, image: &str) -> Outcome<()> {
    let ask = || pod(countersign, namespace, image);
    eventually(image, ask, |verdict| verdict.allowed).map(drop)
}

/// Asks until a pod is refused with this code.
fn denied(countersign: &Countersign, namespace: &str, image: &str, code: &str) -> Outcome<()> {
    let ask = || pod(countersign, namespace, image);
    let is = |verdict: &Verdict| verdict.clone().denied_as(code).is_ok();
    eventually(code, ask, is).map(drop)
}

#[test]
fn a_policy_holds_at_once_when_it_is_made_edited_and_deleted() -> Outcome<()> {
    let installation = Installation::get()?;
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    let countersign = installation.start(folder.path(), &authority)?;
    let (one, two) = ("edits.example.com/one:1", "edits.example.com/two:1");
    pod(&countersign, "default", one)?.denied_as("NoMatchingPolicy")?;

    installation.apply(&allow("edits", "edits.example.com/one", ""))?.success()?;
    admitted(&countersign, "default", one)?;
    pod(&countersign, "default", two)?.denied_as("NoMatchingPolicy")?;

    let took = Instant::now();
    installation.apply(&allow("edits", "edits.example.com/two", ""))?.success()?;
    admitted(&countersign, "default", two)?;
    pod(&countersign, "default", one)?.denied_as("NoMatchingPolicy")?;
    assert!(took.elapsed() < Duration::from_secs(5), "{:?}", took.elapsed());

    installation.api_server().kubectl(&["delete", "tp", "edits"])?.success()?;
    denied(&countersign, "default", two, "NoMatchingPolicy")
}

#[test]
fn a_namespace_selector_follows_the_namespace_s_labels() -> Outcome<()> {
    let installation = Installation::get()?;
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    let countersign = installation.start(folder.path(), &authority)?;
    let image = "labels.example.com/app:1";
    installation.apply(&allow("labels", "labels.example.com/**", "env: dev"))?.success()?;
    // Made after the server, which is told by its watch.
    installation.api_server().create_namespace("labelled")?;
    let label = |value: &str| {
        let arguments = ["label", "namespace", "labelled", "--overwrite", value];
        installation.api_server().kubectl(&arguments)?.success().map(drop)
    };
    denied(&countersign, "labelled", image, "NoMatchingPolicy")?;
    label("env=dev")?;
    admitted(&countersign, "labelled", image)?;
    label("env=prod")?;
    denied(&countersign, "labelled", image, "NoMatchingPolicy")?;
    label("env=dev")?;
    admitted(&countersign, "labelled", image)?;
    // K14: nobody knows this one.
    pod(&countersign, "no-such-namespace", image)?.denied_as("NamespaceUnavailable").map(drop)
}

#[test]
fn a_policy_may_come_before_its_source_and_what_the_source_names_is_followed() -> Outcome<()> {
    let installation = Installation::get()?;
    let lab = Lab::start()?;
    let repository = "payments/api";
    let signed = lab.trusted(repository, "1.4")?;
    let image = signed.tagged("1.4");
    let mut config = lab.config();
    config.kubernetes = Some(installation.kubernetes.clone());
    let countersign = Countersign::start(&lab.folder("in-cluster"), &lab.authority, &config)?;

    installation.apply(&lab.policy().yaml())?.success()?;
    denied(&countersign, "default", &signed.by_digest(), "SourceNotFound")?;
    let mut source = lab.source(repository)?;
    installation.apply(&source.yaml())?.success()?;
    // Its ConfigMap is missing.
    denied(&countersign, "default", &signed.by_digest(), "InvalidPolicy")?;
    let config_map = |pem: &str| {
        source.authority = pem.to_owned();
        let arguments = ["apply", "-n", SYSTEM_NAMESPACE, "-f", "-"];
        let yaml = source.config_map();
        installation.api_server().kubectl_with(&arguments, &yaml)?.success().map(drop)
    };
    let mut config_map = config_map;
    config_map(&lab.authority.pem())?;
    admitted(&countersign, "default", &signed.by_digest())?;
    // The webhooks' whole way: the mutating one pins what the validating one then lets in.
    let (verdict, pinned) = countersign.pod(&image)?;
    verdict.admitted()?;
    assert_eq!(pinned, format!("{image}@{}", signed.digest));

    // Another authority's certificate: the source's server is not asked any more. What it served
    // before was signed under the pin, and answers for as long as in any outage.
    let other = Authority::new(&lab.folder("other-pki"))?;
    config_map(&other.pem())?;
    let new = Countersign::start(&lab.folder("new"), &lab.authority, &config)?;
    denied(&new, "default", &signed.by_digest(), "SourceUnavailable")?;
    countersign.pod(&signed.by_digest())?.0.admitted()?;
    config_map(&lab.authority.pem())?;
    admitted(&new, "default", &signed.by_digest())?;

    let credentials = credentials_of(&installation, &countersign, &signed.by_digest());
    installation.api_server().kubectl(&["delete", "tp,tsrc", "--all"])?.success()?;
    credentials
}

/// A Secret that a source names: missing, there, and there for another host.
fn credentials_of(
    installation: &Installation,
    countersign: &Countersign,
    image: &str,
) -> Outcome<()> {
    let api_server = installation.api_server();
    let named = r#"{"spec": {"connection": {"credentialsSecretRef": {"name": "notary-login"}}}}"#;
    api_server.kubectl(&["patch", "tsrc", SOURCE, "--type=merge", "-p", named])?.success()?;
    denied(countersign, "default", image, "InvalidPolicy")?;
    let url = api_server.get(&["tsrc", SOURCE])?["spec"]["notary"]["url"].clone();
    let url = url.as_str().context("no URL")?.to_owned();
    let secret = |host: &str| {
        let object = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "notary-login", "namespace": SYSTEM_NAMESPACE},
            "stringData": {"username": "countersign", "password": "secret", "host": host},
        });
        api_server.apply(&object)?.success().map(drop)
    };
    secret(url.trim_start_matches("https://"))?;
    admitted(countersign, "default", image)?;
    secret("elsewhere.example.com")?;
    denied(countersign, "default", image, "InvalidPolicy")
}

#[test]
fn a_resource_that_does_not_compile_is_refused_where_it_is_applied() -> Outcome<()> {
    let installation = Installation::get()?;
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    let countersign = installation.start(folder.path(), &authority)?;
    let api_server = installation.api_server();
    let url = countersign.url();
    install::resources_webhook(api_server, "refused", url, authority.certificate())?;
    let policy = |include: &str| Policy::new("refused", include, "refused-source").yaml();
    let broken = policy("refused.example.com/a**b");
    let ask = || installation.apply(&broken);
    let refused = eventually("the webhook", ask, |finished| finished.code != Some(0));
    let unregister = || {
        let webhook = ["delete", "validatingwebhookconfiguration", "refused-resources"];
        api_server.kubectl(&webhook)?.success().map(drop)
    };
    let checked = refused.and_then(|refused| {
        let wanted = "TrustPolicy \"refused\": spec.match.images.include[0]: \"refused.example.com/a**b\" is not a pattern";
        assert!(refused.stderr.contains(wanted), "{refused}");
        // Its source does not exist yet: a warning, for the order does not matter.
        let taken = installation.apply(&policy("refused.example.com/**"))?.success()?;
        let warned = taken.stderr.contains("Warning:") && taken.stderr.contains("refused-source");
        assert!(warned, "{taken}");
        let source = "apiVersion: countersign.dev/v1alpha1\nkind: TrustSource\nmetadata: {name: refused-source}\nspec:\n  \
                      notary:\n    url: http://notary.example.com\n    pins: [{name: all, repositories: [\"**\"], publicKeys: [x]}]\n";
        let refused = installation.apply(source)?;
        assert!(refused.code != Some(0) && refused.stderr.contains("spec.notary."), "{refused}");
        Ok(())
    });
    unregister()?;
    api_server.kubectl(&["delete", "tp", "refused", "--ignore-not-found"])?.success()?;
    checked
}

fn ready(api_server: &ApiServer, what: &[&str]) -> Outcome<Value> {
    let object = api_server.get(what)?;
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    Ok(conditions.into_iter().find(|it| it["type"] == "Ready").unwrap_or_default())
}

fn standing(api_server: &ApiServer, what: &[&str]) -> Outcome<(Value, Value)> {
    let object = api_server.get(what)?;
    let metadata = &object["metadata"];
    Ok((metadata["generation"].clone(), metadata["resourceVersion"].clone()))
}

#[test]
fn a_status_says_what_is_wrong_and_is_written_once() -> Outcome<()> {
    let installation = Installation::get()?;
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    let countersign = installation.start(folder.path(), &authority)?;
    // A second replica that took itself for the leader too would write the same.
    let _second = installation.start(&folder.path().join("second"), &authority)?;
    let api_server = installation.api_server();
    let what = ["tp", "status"];
    let server_side = ["apply", "--server-side", "-f", "-"];
    let policy = Policy::new("status", "status.example.com/**", "status-source").yaml();
    api_server.kubectl_with(&server_side, &policy)?.success()?;
    let ask = || ready(api_server, &what);
    let condition = eventually("a status", ask, |it| it["status"] == "False")?;
    assert_eq!(condition["reason"], "SourceNotFound");
    let message = condition["message"].as_str().unwrap_or_default();
    let field = "spec.verify.authorities[name=release-team].sourceRef.name";
    assert!(message.contains(field) && message.contains("status-source"), "{message}");
    assert_eq!(condition["observedGeneration"], 1);
    assert_eq!(api_server.get(&what)?["status"]["observedGeneration"], 1);

    // The same manifest again is no difference, and nothing is written while nothing changes.
    let before = standing(api_server, &what)?;
    assert_eq!(before.0, 1);
    let diff = ["diff", "--server-side", "-f", "-"];
    api_server.kubectl_with(&diff, &policy)?.success()?;
    api_server.kubectl_with(&server_side, &policy)?.success()?;
    let image = "status.example.com/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        pod(&countersign, "default", image)?.denied_as("SourceNotFound")?;
        assert_eq!(standing(api_server, &what)?, before);
    }

    // Its source comes, with all its names: Ready, as kubectl waits for it.
    let lab_source = "apiVersion: countersign.dev/v1alpha1\nkind: TrustSource\nmetadata: {name: status-source}\nspec:\n  \
                      notary:\n    url: https://notary.example.com\n    pins: [{name: all, repositories: [\"status.example.com/app\"], rootKeyIDs: [\"0000000000000000000000000000000000000000000000000000000000000000\"]}]\n";
    installation.apply(lab_source)?.success()?;
    let wait =
        ["wait", "--for=condition=Ready", "--timeout=20s", "tp/status", "tsrc/status-source"];
    api_server.kubectl(&wait)?.success()?;
    let condition = ready(api_server, &what)?;
    assert_eq!((&condition["reason"], &condition["status"]), (&"Ready".into(), &"True".into()));
    let table = api_server.kubectl(&["get", "tp", "status"])?.success()?;
    assert!(table.stdout.contains("True"), "{table}");

    // An edit is a new generation, which the status observes; somebody else's status is corrected.
    let edit = r#"{"spec": {"help": "ask"}}"#;
    api_server.kubectl(&["patch", "tp", "status", "--type=merge", "-p", edit])?.success()?;
    let ask = || ready(api_server, &what);
    eventually("generation 2", ask, |it| it["observedGeneration"] == 2 && it["status"] == "True")?;
    let forged = r#"{"status": {"observedGeneration": 1, "conditions": []}}"#;
    let subresource = ["--subresource=status", "--type=merge", "-p", forged];
    let mut patch = vec!["patch", "tp", "status"];
    patch.extend(subresource);
    api_server.kubectl(&patch)?.success()?;
    eventually("corrected", ask, |it| it["observedGeneration"] == 2 && it["status"] == "True")?;
    api_server.kubectl(&["delete", "tp/status", "tsrc/status-source"])?.success().map(drop)
}

#[test]
fn k11_o4_an_api_server_that_is_away_a_while_harms_nobody_and_for_too_long_denies() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    let mut api_server = ApiServer::start(&folder.path().join("kubernetes"), &authority)?;
    let patient = install::rights(&api_server, LONG)?;
    let strict = Kubernetes { stale_after: 6, ..patient.clone() };
    let start = |name: &str, kubernetes: &Kubernetes| {
        Countersign::start_unready(&folder.path().join(name), &authority, &in_cluster(kubernetes))
    };
    let (patient, strict) = (start("patient", &patient)?, start("strict", &strict)?);
    let image = "away.example.com/app:1";

    // Its definitions are missing, so nothing can be listed.
    let held = || strict.held();
    eventually("a reason", held, |held| held.contains("TrustPolicies have not been listed yet"))?;
    pod(&strict, "default", image)?.denied_as("PoliciesUnavailable")?;
    install::definitions(&api_server)?;
    for countersign in [&patient, &strict] {
        eventually("readiness", || countersign.held(), String::is_empty)?;
    }
    let policy = allow("away", "away.example.com/**", "");
    api_server.kubectl_with(&["apply", "-f", "-"], &policy)?.success()?;
    for countersign in [&patient, &strict] {
        admitted(countersign, "default", image)?;
    }
    // Nothing happens for longer than the bound, and that is no staleness.
    let until = Instant::now() + Duration::from_secs(9);
    while Instant::now() < until {
        pod(&strict, "default", image)?.admitted()?;
        assert_eq!(strict.held()?, "");
        thread::sleep(Duration::from_millis(100));
    }

    api_server.stop();
    eventually("staleness", held, |held| held.contains("nothing was heard of"))?;
    pod(&strict, "default", image)?.denied_as("PoliciesUnavailable")?;
    pod(&patient, "default", image)?.admitted()?;
    assert_eq!(patient.held()?, "");

    api_server.start_again()?;
    eventually("recovery", held, String::is_empty)?;
    admitted(&strict, "default", image)?;
    pod(&patient, "default", image)?.admitted()?;
    api_server.kubectl(&["delete", "tp", "away"])?.success()?;
    for countersign in [&patient, &strict] {
        denied(countersign, "default", image, "NoMatchingPolicy")?;
    }
    Ok(())
}
