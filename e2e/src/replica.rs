//! Countersign as it keeps its own certificate and webhook configurations in an API server, with
//! the rights of an installation and no others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Certificate;
use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::process::{Server, free_port};
use crate::{Context, Failure, Outcome, http, install, reviews, tools};

/// How long two busy cores may take for a start.
const START: Duration = Duration::from_secs(60);

/// What a chart renders for an installation, in a namespace of its own.
pub struct Installation<'a> {
    api_server: &'a ApiServer,
    name: &'static str,
    folder: &'a Path,
    kubeconfig: PathBuf,
}

impl<'a> Installation<'a> {
    /// Makes the namespace `name`, an empty Secret in it, and the rights. `countersign` has to be in
    /// the name, so that the chart gives it to everything as it is.
    pub fn new(api_server: &'a ApiServer, name: &'static str, folder: &'a Path) -> Outcome<Self> {
        let definitions = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds.yaml");
        api_server.kubectl(&["apply", "--server-side", "-f", definitions])?.success()?;
        install::grant(api_server, name, name)?;
        let kubeconfig = api_server.account(name, name)?;
        let installation = Self { api_server, name, folder, kubeconfig };
        installation.create_secret()?;
        installation.write_webhooks(&installation.configurations())?;
        Ok(installation)
    }

    /// Replicas have the rights of this kubeconfig instead.
    #[must_use]
    pub fn with_kubeconfig(mut self, kubeconfig: PathBuf) -> Self {
        self.kubeconfig = kubeconfig;
        self
    }

    /// The Secret that it keeps its certificate in.
    pub fn secret_name(&self) -> String {
        format!("{}-tls", self.name)
    }

    /// Makes the Secret as the chart renders it: empty.
    pub fn create_secret(&self) -> Outcome<()> {
        let create = ["create", "secret", "generic", &self.secret_name(), "-n", self.name];
        self.api_server.kubectl(&create)?.success().map(drop)
    }

    /// The configurations of an installation, of webhooks that are never asked: nothing is in the
    /// namespace that they are for.
    pub fn configurations(&self) -> Vec<Value> {
        let webhook = |path: &str| {
            json!({
                "name": format!("{path}.countersign.dev"),
                "clientConfig": {"service":
                    {"name": self.name, "namespace": self.name, "path": format!("/{path}")}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
                    "operations": ["CREATE", "UPDATE"]}],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "nowhere"}},
                "failurePolicy": "Fail",
                "sideEffects": "NoneOnDryRun",
                "admissionReviewVersions": ["v1"],
            })
        };
        let configuration = |kind: &str, path: &str| {
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
                "metadata": {"name": self.name, "labels": {"app": "countersign"}},
                "webhooks": [webhook(path)],
            })
        };
        vec![
            configuration("ValidatingWebhookConfiguration", "validate"),
            configuration("MutatingWebhookConfiguration", "mutate"),
        ]
    }

    /// The file of configurations.
    pub fn webhooks(&self) -> PathBuf {
        self.folder.join(format!("{}-webhooks.yaml", self.name))
    }

    /// Writes the file of configurations anew. JSON is YAML, too.
    pub fn write_webhooks(&self, configurations: &[Value]) -> Outcome<()> {
        let documents: Vec<String> = configurations.iter().map(Value::to_string).collect();
        Ok(fs::write(self.webhooks(), documents.join("\n---\n"))?)
    }

    /// Starts a replica that keeps its certificate in the Secret, and waits for what `ready` says
    /// of it.
    pub fn start_when(
        &self,
        identity: &str,
        flags: &[&str],
        ready: impl Fn(&Replica) -> bool,
    ) -> Outcome<Replica> {
        let (port, probes) = (free_port()?, free_port()?);
        let folder = self.folder.join(identity);
        fs::create_dir_all(&folder)?;
        let mut command = Command::new(tools::countersign()?);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .args(["serve", "--kubernetes", "--unmatched=Deny"])
            .arg(format!("--system-namespace={}", self.name))
            .arg(format!("--lease={}", self.name))
            .arg(format!("--identity={identity}"))
            .arg(format!("--webhooks-owner={}", self.name))
            .arg("--webhooks")
            .arg(self.webhooks())
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg(format!("--probe-listen=127.0.0.1:{probes}"))
            .args(flags);
        if !flags.iter().any(|flag| flag.starts_with("--tls-cert")) {
            command
                .arg(format!("--tls-secret={}", self.secret_name()))
                .arg(format!("--service={}", self.name));
        }
        http::install_crypto();
        let probing = Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        let mut replica = Replica {
            server: None,
            host: format!("{}.{}.svc", self.name, self.name),
            port,
            probes,
            probing,
        };
        let server =
            Server::start("countersign", &mut command, &folder, START, || ready(&replica))?;
        replica.server = Some(server);
        Ok(replica)
    }

    /// Starts a replica and waits until it is ready.
    pub fn start(&self, identity: &str, flags: &[&str]) -> Outcome<Replica> {
        self.start_when(identity, flags, |replica| replica.held().is_ok_and(|held| held.is_empty()))
    }

    /// The value of a key of the Secret; empty where there is none.
    pub fn secret(&self, key: &str) -> Outcome<String> {
        let secret = self.api_server.get(&["secret", &self.secret_name(), "-n", self.name])?;
        let data = STANDARD.decode(secret["data"][key].as_str().unwrap_or_default())?;
        Ok(String::from_utf8(data)?)
    }

    /// Merges this into the Secret.
    pub fn patch_secret(&self, patch: &Value) -> Outcome<()> {
        let (patch, name) = (patch.to_string(), self.secret_name());
        let arguments = ["patch", "secret", &name, "-n", self.name, "--type=merge", "-p", &patch];
        self.api_server.kubectl(&arguments)?.success().map(drop)
    }

    /// Who holds the lease; empty where nobody does.
    pub fn holder(&self) -> Outcome<String> {
        let arguments = ["get", "lease", self.name, "-n", self.name, "--ignore-not-found", "-o"];
        let path = "jsonpath={.spec.holderIdentity}";
        Ok(self.api_server.kubectl(&[&arguments[..], &[path]].concat())?.success()?.stdout)
    }

    /// A configuration of this kind, as `validating`; `None` where it is not there.
    pub fn configuration(&self, kind: &str) -> Outcome<Option<Value>> {
        let kind = format!("{kind}webhookconfiguration");
        let arguments = ["get", &kind, self.name, "--ignore-not-found", "-o", "json"];
        let found = self.api_server.kubectl(&arguments)?.success()?.stdout;
        if found.is_empty() { Ok(None) } else { Ok(Some(serde_json::from_str(&found)?)) }
    }

    /// The bundle in a configuration's first webhook.
    pub fn bundle(configuration: &Value) -> Outcome<String> {
        let bundle = configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str();
        Ok(String::from_utf8(STANDARD.decode(bundle.unwrap_or_default())?)?)
    }
}

/// A running replica.
pub struct Replica {
    server: Option<Server>,
    host: String,
    port: u16,
    probes: u16,
    probing: Client,
}

impl Replica {
    /// Asks for a review over a new connection, trusting this bundle only.
    pub fn ask(&self, bundle: &str) -> Outcome<()> {
        let authorities = Certificate::from_pem_bundle(bundle.as_bytes())?;
        let client = Client::builder()
            .no_proxy()
            .tls_certs_only(authorities)
            .resolve(&self.host, ([127, 0, 0, 1], self.port).into())
            .timeout(Duration::from_secs(10))
            .build()?;
        let url = format!("https://{}:{}/validate", self.host, self.port);
        let review = reviews::create("default", &reviews::pod("app", "registry.example.com/a:1"));
        let answer = client.post(url).body(review.to_string()).send()?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(Failure::new(format!("{}: {}", answer.status(), answer.text()?)))
    }

    /// What holds its readiness; empty where nothing does.
    pub fn held(&self) -> Outcome<String> {
        let answer = self.probing.get(format!("http://127.0.0.1:{}/readyz", self.probes)).send()?;
        let ready = answer.status().is_success();
        let text = answer.text()?;
        Ok(if ready { String::new() } else { text })
    }

    /// The value of a metric.
    pub fn metric(&self, name: &str) -> Outcome<f64> {
        let url = format!("http://127.0.0.1:{}/metrics", self.probes);
        let metrics = self.probing.get(url).send()?.text()?;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.context(format!("no metric {name}"))?.parse()?)
    }

    /// What it has logged so far.
    pub fn log(&self) -> Outcome<String> {
        self.server.as_ref().context("it is not running")?.log()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(self) -> Outcome<()> {
        self.server.context("it is not running")?.kill()
    }

    /// Ends it in order, and waits for that.
    pub fn end(self) -> Outcome<()> {
        let mut server = self.server.context("it is not running")?;
        server.terminate()?;
        server.wait(Duration::from_secs(30)).map(drop)
    }
}

/// Reads the bundle of the moment from the API server, fast.
pub struct Bundles {
    client: Client,
    url: String,
    token: String,
}

impl Bundles {
    /// Reads that of the configurations of this name.
    pub fn new(api_server: &ApiServer, name: &str) -> Outcome<Self> {
        let config: Value = serde_json::from_slice(&fs::read(api_server.kubeconfig())?)?;
        let authority = &config["clusters"][0]["cluster"]["certificate-authority"];
        let token = &config["users"][0]["user"]["token"];
        let path = "apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
        Ok(Self {
            client: http::client(authority.as_str().context("no CA")?.as_ref())?,
            url: format!("{}/{path}/{name}", api_server.url()),
            token: token.as_str().context("no token")?.to_owned(),
        })
    }

    /// The bundle of the validating webhook.
    pub fn read(&self) -> Outcome<String> {
        let found = self.client.get(&self.url).bearer_auth(&self.token).send()?;
        Installation::bundle(&serde_json::from_str(&found.error_for_status()?.text()?)?)
    }
}
