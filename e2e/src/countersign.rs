//! The built `countersign` program: the server, and its other commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use reqwest::blocking::Client;
use serde_json::Value;

use crate::pki::Authority;
use crate::process::{Finished, Server, free_port, run};
use crate::reviews::{self, Verdict};
use crate::{Context, Failure, Outcome, http, tools};

const START: Duration = Duration::from_secs(20);

/// How `countersign serve` reads its policies from an API server.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    /// Whose rights it has there.
    pub kubeconfig: PathBuf,
    /// `--system-namespace`.
    pub namespace: String,
    /// `--watch-stale-after`, in seconds.
    pub stale_after: u32,
}

/// Where `countersign` finds what it needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// `--policies`.
    pub policies: PathBuf,
    /// `serve` reads its policies from here instead.
    pub kubernetes: Option<Kubernetes>,
    /// `--registry-certs-dir`.
    pub registry_certs: Option<PathBuf>,
    /// `--docker-config`.
    pub docker_config: Option<PathBuf>,
    /// `--unmatched`: `Deny`, `Warn` or `Audit`.
    pub unmatched: &'static str,
    /// As whom it asks the API server, where it does.
    pub kubeconfig: Option<PathBuf>,
    /// More flags of `serve`.
    pub more: Vec<String>,
    /// More of `serve`'s environment.
    pub env: Vec<(&'static str, String)>,
}

impl Config {
    /// Denies what these policies do not match.
    pub fn new(policies: &Path) -> Self {
        Self {
            policies: policies.to_owned(),
            kubernetes: None,
            registry_certs: None,
            docker_config: None,
            unmatched: "Deny",
            kubeconfig: None,
            more: Vec::new(),
            env: Vec::new(),
        }
    }
}

/// A running `countersign serve`.
pub struct Countersign {
    server: Server,
    url: String,
    probes: String,
    client: Client,
}

impl Countersign {
    /// Starts the server with its state and its log in `folder` and waits until it is ready.
    pub fn start(folder: &Path, authority: &Authority, config: &Config) -> Outcome<Self> {
        Self::start_until(folder, authority, config, "/readyz")
    }

    /// The same, and does not wait until it is ready, only until it runs.
    pub fn start_unready(folder: &Path, authority: &Authority, config: &Config) -> Outcome<Self> {
        Self::start_until(folder, authority, config, "/livez")
    }

    fn start_until(
        folder: &Path,
        authority: &Authority,
        config: &Config,
        probe: &str,
    ) -> Outcome<Self> {
        fs::create_dir_all(folder)?;
        let (port, probe_port) = (free_port()?, free_port()?);
        // A file of its own: others may start at the same time.
        let name = format!("countersign-{port}");
        let identity = authority.server_as(&name, &["countersign.countersign.svc"])?;
        let mut command = Command::new(tools::countersign()?);
        command
            .arg("serve")
            .arg("--tls-cert")
            .arg(&identity.certificate)
            .arg("--tls-key")
            .arg(&identity.key)
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg(format!("--probe-listen=127.0.0.1:{probe_port}"))
            .arg(format!("--unmatched={}", config.unmatched))
            .args(&config.more)
            .envs(config.env.iter().map(|(name, value)| (name, value)));
        match &config.kubernetes {
            None => command
                .arg("--policies")
                .arg(&config.policies)
                .arg("--state-dir")
                .arg(folder.join("state")),
            Some(kubernetes) => command
                .arg("--kubernetes")
                .arg(format!("--system-namespace={}", kubernetes.namespace))
                .arg(format!("--watch-stale-after={}", kubernetes.stale_after))
                // Tests that share a namespace are not each other's replicas.
                .arg(format!("--lease=countersign-{port}"))
                .arg(format!("--identity=countersign-{port}"))
                .env("KUBECONFIG", &kubernetes.kubeconfig),
        };
        if let Some(kubeconfig) = &config.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        optional(&mut command, "--registry-certs-dir", config.registry_certs.as_deref());
        optional(&mut command, "--docker-config", config.docker_config.as_deref());
        let client = http::client(authority.certificate())?;
        let probes = format!("http://127.0.0.1:{probe_port}");
        let ready = format!("{probes}{probe}");
        let server = Server::start("countersign", &mut command, folder, START, || {
            client.get(&ready).send().is_ok_and(|answer| answer.status().is_success())
        })?;
        Ok(Self { server, url: format!("https://127.0.0.1:{port}"), probes, client })
    }

    /// Its webhooks' address: `https://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address of its probes: `http://127.0.0.1:PORT`.
    pub fn probes(&self) -> &str {
        &self.probes
    }

    /// The process.
    pub fn process(&mut self) -> &mut Server {
        &mut self.server
    }

    /// Ends it as [`Self::kill`] does, while others may be asking it.
    pub fn crash(&self) -> Outcome<()> {
        self.server.crash()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(self) -> Outcome<()> {
        self.server.kill()
    }

    /// What it has logged so far.
    pub fn log(&self) -> Outcome<String> {
        self.server.log()
    }

    /// Sends a body to a path, as `/validate`, and gives the status and body of the answer.
    pub fn post(&self, path: &str, body: String) -> Outcome<(u16, String)> {
        let request = self.client.post(format!("{}{path}", self.url));
        let answer = request.header("content-type", "application/json").body(body).send()?;
        Ok((answer.status().as_u16(), answer.text()?))
    }

    /// Sends an AdmissionReview to a path, as `/validate`.
    pub fn review(&self, path: &str, review: &Value) -> Outcome<Verdict> {
        match self.post(path, review.to_string())? {
            (200, body) => reviews::verdict(&body),
            (status, body) => Err(Failure::new(format!("{path}: {status}: {body}"))),
        }
    }

    /// The verdict on a Deployment of this image in the namespace `payments`.
    pub fn deployment(&self, image: &str) -> Outcome<Verdict> {
        self.review("/validate", &reviews::create("payments", &reviews::deployment("app", image)))
    }

    /// The verdict on a pod of this image in the namespace `payments`, as the API server comes to
    /// it: first the mutating webhook, then the validating one. And the image as it came out.
    pub fn pod(&self, image: &str) -> Outcome<(Verdict, String)> {
        let pod = reviews::pod("app", image);
        let mutated = self.review("/mutate", &reviews::create("payments", &pod))?;
        let pod = reviews::patched(&pod, &mutated.patch)?;
        let verdict = self.review("/validate", &reviews::create("payments", &pod))?;
        let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        Ok((verdict, image.to_owned()))
    }

    /// What keeps it from being ready; empty where it is.
    pub fn held(&self) -> Outcome<String> {
        let answer = self.client.get(format!("{}/readyz", self.probes)).send()?;
        let ready = answer.status().is_success();
        Ok(if ready { String::new() } else { answer.text()? })
    }

    /// The body of a path of its probe listener, as `/metrics`; fails where the status says so.
    pub fn probe(&self, path: &str) -> Outcome<String> {
        let answer = self.client.get(format!("{}{path}", self.probes)).send()?;
        Ok(answer.error_for_status()?.text()?)
    }

    /// The value of a metric, named as it is told, with its labels.
    pub fn metric(&self, name: &str) -> Outcome<f64> {
        let metrics = self.probe("/metrics")?;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.context(format!("no metric {name}"))?.parse()?)
    }
}

/// Runs `countersign` with these arguments to its end, whatever it says.
pub fn command(arguments: &[&str]) -> Outcome<Finished> {
    run(Command::new(tools::countersign()?).args(arguments), "")
}

/// Runs `countersign verify` on these images, with a state folder where one is given.
pub fn verify(config: &Config, state: Option<&Path>, arguments: &[&str]) -> Outcome<Finished> {
    run(verify_command(config, state)?.args(arguments), "")
}

/// Runs `countersign verify` on these images behind this proxy.
pub fn verify_behind(proxy: &str, config: &Config, arguments: &[&str]) -> Outcome<Finished> {
    let mut command = verify_command(config, None)?;
    for variable in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
        command.env(variable, proxy);
    }
    command.env_remove("NO_PROXY").env_remove("no_proxy");
    run(command.args(arguments), "")
}

/// Runs `countersign scan` in the cluster of this kubeconfig.
pub fn scan(config: &Config, kubeconfig: &Path, arguments: &[&str]) -> Outcome<Finished> {
    let mut command = Command::new(tools::countersign()?);
    command.arg("scan").env("KUBECONFIG", kubeconfig);
    optional(&mut command, "--registry-certs-dir", config.registry_certs.as_deref());
    run(command.args(arguments), "")
}

fn verify_command(config: &Config, state: Option<&Path>) -> Outcome<Command> {
    let mut command = Command::new(tools::countersign()?);
    command.arg("verify").arg("--policies").arg(&config.policies);
    optional(&mut command, "--state-dir", state);
    optional(&mut command, "--registry-certs-dir", config.registry_certs.as_deref());
    optional(&mut command, "--docker-config", config.docker_config.as_deref());
    Ok(command)
}

fn optional(command: &mut Command, flag: &str, path: Option<&Path>) {
    if let Some(path) = path {
        command.arg(flag).arg(path);
    }
}
