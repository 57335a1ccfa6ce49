//! A real notary-server, alone or with a notary-signer that holds its keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::pki::Authority;
use crate::place::Place;
use crate::process::Server;
use crate::token::TokenServer;
use crate::{Context, Outcome, http};

const START: Duration = Duration::from_secs(20);

/// How a [`Notary`] is set up.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Where notary-server listens.
    pub place: Place,
    /// Keep the server's keys in a notary-signer of its own, as real installations do.
    pub signer: bool,
    /// Ask for this server's tokens.
    pub tokens: Option<&'a TokenServer>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { place: Place::LOOPBACK, signer: false, tokens: None }
    }
}

/// A running notary-server with its storage in memory.
pub struct Notary {
    server: Server,
    signer: Option<Server>,
    url: String,
    authority: PathBuf,
    client: Client,
}

/// A request that notary-server has answered, from its own log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// The method: `GET`.
    pub method: String,
    /// The path: `/v2/GUN/_trust/tuf/timestamp.json`.
    pub path: String,
    /// The status it was answered with.
    pub status: u16,
}

impl Notary {
    /// Starts a notary-server that signs timestamps and snapshots itself and asks for no token.
    pub fn start(folder: &Path, authority: &Authority) -> Outcome<Self> {
        Self::start_with(folder, authority, Options::default())
    }

    /// Starts a notary-server whose files go to `folder`.
    pub fn start_with(folder: &Path, authority: &Authority, options: Options<'_>) -> Outcome<Self> {
        fs::create_dir_all(folder)?;
        let signer = match options.signer {
            true => Some(Signer::start(options.place, folder, authority)?),
            false => None,
        };
        let trust_service = match &signer {
            Some(signer) => signer.trust_service.clone(),
            None => json!({"type": "local", "key_algorithm": "ecdsa"}),
        };
        let place = options.place;
        let identity = authority.server_as("notary-server", &[place.name()])?;
        let port = place.free_port()?;
        let mut config = json!({
            "server": {
                "http_addr": format!("{}:{port}", place.address()),
                "tls_cert_file": identity.certificate,
                "tls_key_file": identity.key,
            },
            "trust_service": trust_service,
            // The access log is at this level.
            "logging": {"level": "info"},
            "storage": {"backend": "memory"},
        });
        if let Some(tokens) = options.tokens {
            config["auth"] = json!({"type": "token", "options": tokens.options()});
        }
        let url = format!("https://{}:{port}", place.name());
        let client = http::client(authority.certificate())?;
        let health = format!("{url}/_notary_server/health");
        let server = launch(place, "notary-server", &config, folder, || {
            client.get(&health).send().is_ok_and(|answer| answer.status().is_success())
        })?;
        Ok(Self {
            server,
            signer: signer.map(|signer| signer.server),
            url,
            authority: authority.certificate().to_owned(),
            client,
        })
    }

    /// Its address: `https://localhost:PORT`, or the place's name and the port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Lets it, and its signer, run on, even after this program.
    pub fn leave(self) {
        self.server.leave();
        if let Some(signer) = self.signer {
            signer.leave();
        }
    }

    /// The PEM file of the authority that its certificate is from.
    pub fn authority(&self) -> &Path {
        &self.authority
    }

    /// The current file of a role, as `root` or `targets/releases`. Only without tokens.
    pub fn metadata_bytes(&self, gun: &str, role: &str) -> Outcome<Vec<u8>> {
        let url = format!("{}/v2/{gun}/_trust/tuf/{role}.json", self.url);
        let answer = self.client.get(&url).send()?.error_for_status().context(&url)?;
        Ok(answer.bytes()?.to_vec())
    }

    /// As [`Self::metadata_bytes`], parsed.
    pub fn metadata(&self, gun: &str, role: &str) -> Outcome<Value> {
        Ok(serde_json::from_slice(&self.metadata_bytes(gun, role)?)?)
    }

    /// Every request for metadata answered so far, in order.
    pub fn requests(&self) -> Outcome<Vec<Request>> {
        let log = self.server.log()?;
        Ok(log.lines().filter_map(access).filter(|line| line.path.contains("/_trust/")).collect())
    }
}

/// Reads one line of the log, if it says that a request was answered.
fn access(line: &str) -> Option<Request> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["msg"] != "response completed" {
        return None;
    }
    let status = line["http.response.status"].as_u64()?;
    Some(Request {
        method: line["http.request.method"].as_str()?.to_owned(),
        path: line["http.request.uri"].as_str()?.to_owned(),
        // 0 where the handler wrote no status itself, which is a 200.
        status: if status == 0 { 200 } else { u16::try_from(status).ok()? },
    })
}

struct Signer {
    server: Server,
    trust_service: Value,
}

impl Signer {
    fn start(place: Place, folder: &Path, authority: &Authority) -> Outcome<Self> {
        let identity = authority.server_as("notary-signer", &[place.name()])?;
        let client = authority.client("notary-server-as-client")?;
        let port = place.free_port()?;
        let config = json!({
            "server": {
                "grpc_addr": format!("{}:{port}", place.address()),
                "tls_cert_file": identity.certificate,
                "tls_key_file": identity.key,
                "client_ca_file": authority.certificate(),
            },
            "logging": {"level": "error"},
            "storage": {"backend": "memory"},
        });
        let server = launch(place, "notary-signer", &config, folder, || place.listens(port))?;
        let trust_service = json!({
            "type": "remote",
            "hostname": place.name(),
            "port": port.to_string(),
            "tls_ca_file": authority.certificate(),
            "tls_client_cert": client.certificate,
            "tls_client_key": client.key,
            "key_algorithm": "ecdsa",
        });
        Ok(Self { server, trust_service })
    }
}

fn launch(
    place: Place,
    program: &str,
    config: &Value,
    folder: &Path,
    ready: impl FnMut() -> bool,
) -> Outcome<Server> {
    let file = folder.join(format!("{program}.json"));
    fs::write(&file, config.to_string())?;
    let mut command = place.command(program);
    command.arg("-config").arg(&file).current_dir(folder);
    Server::start(program, &mut command, folder, START, ready)
}
