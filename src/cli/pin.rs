//! `countersign pin`: the resources for an image that is signed already.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_verify::image::Reference;
use countersign_verify::limits;
use countersign_verify::notary::{UntrustedRoot, UntrustedRootKey, untrusted_root};
use kube::Resource as _;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use super::{Exit, complain};
use crate::api::{self, Connection, TrustPolicy, TrustSource};
use crate::http::{Ask, FetchError};
use crate::metadata::endpoint;

/// How long reading the root may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Characters of base64 on a line of PEM. Source: RFC 7468, section 2.
const PEM_LINE: usize = 64;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file or folder with one TrustSource, and the ConfigMap and Secret that it names; may
    /// repeat. The pin is added to it; `pins: []` is enough
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "server")]
    source: Vec<PathBuf>,
    /// The Notary server, where there is no TrustSource yet; without both, docker's own choice:
    /// notary.docker.io for docker.io, else the registry's host
    #[arg(long, value_name = "URL", env = "DOCKER_CONTENT_TRUST_SERVER")]
    server: Option<Url>,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,
}

pub(super) async fn run(args: Args) -> Exit {
    match pin(&args).await {
        Ok(text) => {
            print!("{text}");
            Exit::Done
        }
        Err((exit, problem)) => {
            complain(&problem);
            exit
        }
    }
}

type Failed = (Exit, String);

fn usage(problem: impl ToString) -> Failed {
    (Exit::Usage, problem.to_string())
}

async fn pin(args: &Args) -> Result<String, Failed> {
    let image = Reference::parse(&args.image)
        .map_err(|error| usage(format!("\"{}\" is not an image reference: {error}", args.image)))?;
    let place = match args.source.as_slice() {
        [] => Place::of_server(args.server.as_ref(), &image)?,
        files => Place::of_source(files)?,
    };
    let root = fetch_root(&place, &image).await?;
    Ok(resources(&place, &image, &root))
}

/// Where the root is read, and the TrustSource that it is for.
struct Place {
    url: Url,
    connection: Connection,
    /// The resource's name and spec, without the new pin.
    name: String,
    spec: Value,
}

impl Place {
    fn of_server(server: Option<&Url>, image: &Reference) -> Result<Self, Failed> {
        let url = match (server, image.registry()) {
            (Some(url), _) => url.clone(),
            (None, "docker.io") => Url::parse("https://notary.docker.io").map_err(usage)?,
            (None, registry) => Url::parse(&format!("https://{registry}")).map_err(usage)?,
        };
        let name = resource_name(url.host_str().unwrap_or_default());
        let spec = json!({"notary": {"url": url.as_str().trim_end_matches('/'), "pins": []}});
        Ok(Self { url, connection: Connection::default(), name, spec })
    }

    fn of_source(files: &[PathBuf]) -> Result<Self, Failed> {
        let all = |problems: Vec<String>| usage(problems.join("\n"));
        let resources = api::read(files)
            .map_err(|problems| all(problems.iter().map(ToString::to_string).collect()))?;
        let [document] = resources.sources.as_slice() else {
            return Err(usage(format!(
                "--source: {} TrustSources were found; it has to be exactly one",
                resources.sources.len()
            )));
        };
        let (url, connection) = api::connect(document, &resources).map_err(usage)?;
        let spec = serde_json::to_value(document.spec.as_ref().ok()).unwrap_or_default();
        Ok(Self { url, connection, name: document.name.clone(), spec })
    }
}

async fn fetch_root(place: &Place, image: &Reference) -> Result<UntrustedRoot, Failed> {
    let endpoint = endpoint(&place.url, &place.connection).map_err(usage)?;
    let prefix = place.url.path().trim_end_matches('/');
    let path = format!("{prefix}/v2/{}/_trust/tuf/root.json", image.name());
    let scope = format!("repository:{}:pull", image.name());
    let ask = Ask {
        accept: None,
        scope: Some(&scope),
        max_bytes: limits::ROOT_BYTES,
        room: None,
        deadline: Instant::now() + TIMEOUT,
    };
    let answer = endpoint.get(&path, &ask).await.map_err(|error| match error {
        FetchError::NotFound => {
            (Exit::Denied, format!("{} is not signed at {}", image.name(), place.url))
        }
        error => (Exit::Unavailable, format!("{}: root.json: {error}", place.url)),
    })?;
    untrusted_root(&answer.body).map_err(|denial| (Exit::Denied, denial.to_string()))
}

fn resources(place: &Place, image: &Reference, root: &UntrustedRoot) -> String {
    let name = resource_name(image.repository());
    let keys: Vec<String> = root.keys.iter().map(|key| pem(&key.public_key)).collect();
    let mut new_pin = json!({"name": name, "repositories": [image.name()], "publicKeys": keys});
    if keys.len() > 1 {
        new_pin["threshold"] = json!(root.threshold);
    }
    let mut spec = place.spec.clone();
    if let Some(pins) = spec["notary"]["pins"].as_array_mut() {
        pins.retain(|pin| pin["name"] != new_pin["name"]);
        pins.push(new_pin);
    }
    let source = json!({
        "apiVersion": TrustSource::api_version(&()),
        "kind": TrustSource::kind(&()),
        "metadata": {"name": place.name},
        "spec": spec,
    });
    let policy = json!({
        "apiVersion": TrustPolicy::api_version(&()),
        "kind": TrustPolicy::kind(&()),
        "metadata": {"name": name},
        "spec": {
            "match": {"images": {"include": [image.name()]}},
            "action": "Deny",
            "verify": {"authorities": [{
                "name": "signers",
                "sourceRef": {"name": place.name},
                "notary": {"lookup": "Docker"},
            }]},
        },
    });
    let yaml = |value: &Value| serde_saphyr::to_string(value).unwrap_or_default();
    format!("{}---\n{}---\n{}", caution(place, image, root), yaml(&source), yaml(&policy))
}

fn caution(place: &Place, image: &Reference, root: &UntrustedRoot) -> String {
    let mut text = format!(
        "# Root {} of {}, as {} serves it now; it expires {}.\n\
         # Nothing vouches for it yet. Before you apply this, compare every fingerprint with the\n\
         # owner of the root key, in a way that this server has no part in: in person, by phone,\n\
         # in a signed mail. {} of these keys must sign the next root:\n",
        root.version,
        image.name(),
        place.url,
        root.expires,
        root.threshold,
    );
    for UntrustedRootKey { fingerprint, not_after, .. } in &root.keys {
        text.push_str(&format!("#   {fingerprint}  (certificate until {not_after})\n"));
    }
    text.push_str(
        "# The owner finds it with the root key's certificate:\n\
         #   openssl x509 -in root.crt -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum\n",
    );
    text
}

/// Lower-case letters, digits and dashes, as Kubernetes wants names.
fn resource_name(text: &str) -> String {
    let name: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(63)
        .collect();
    name.trim_matches('-').to_owned()
}

fn pem(der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut pem = "-----BEGIN PUBLIC KEY-----\n".to_owned();
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(PEM_LINE.min(rest.len()));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem + "-----END PUBLIC KEY-----\n"
}
