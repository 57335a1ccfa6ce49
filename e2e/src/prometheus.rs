//! Debian's Prometheus, for as long as a test lasts.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::Url;
use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::process::{Server, free_port};
use crate::{Context, Failure, Outcome, http};

/// It reads its rules and opens its store.
const START: Duration = Duration::from_secs(30);

/// A running Prometheus that scrapes each second.
pub struct Prometheus {
    server: Server,
    url: String,
    client: Client,
}

impl Prometheus {
    /// Scrapes `host:port` over plain HTTP and goes by these rules, with its files in `folder`.
    pub fn start(folder: &Path, target: &str, rules: &str) -> Outcome<Self> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("rules.yaml"), rules)?;
        // JSON is YAML, too.
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [
                {"job_name": "countersign", "static_configs": [{"targets": [target]}]},
            ],
        });
        let file = folder.join("prometheus.yaml");
        fs::write(&file, config.to_string())?;
        let port = free_port()?;
        let url = format!("http://127.0.0.1:{port}");
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        http::install_crypto();
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        let ready = format!("{url}/-/ready");
        let server = Server::start("prometheus", &mut command, folder, START, || {
            client.get(&ready).send().is_ok_and(|answer| answer.status().is_success())
        })?;
        Ok(Self { server, url, client })
    }

    /// The data of a path of its API, as `targets`.
    pub fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Outcome<Value> {
        let url = Url::parse_with_params(&format!("{}/api/v1/{path}", self.url), parameters)?;
        let answer: Value = serde_json::from_str(&self.client.get(url).send()?.text()?)?;
        if answer["status"] == "success" {
            return Ok(answer["data"].clone());
        }
        Err(Failure::new(format!("{path}: {answer}")))
    }

    /// The series that an expression gives at the moment.
    pub fn query(&self, expression: &str) -> Outcome<Vec<Value>> {
        let data = self.ask("query", &[("query", expression)])?;
        Ok(data["result"].as_array().context("no result")?.clone())
    }

    /// What it has logged so far.
    pub fn log(&self) -> Outcome<String> {
        self.server.log()
    }
}
