//! How to connect to a source: its authority's certificates, credentials and token hosts.

use std::collections::BTreeMap;

use serde::Deserialize;
use url::Url;

use super::{Connection, Credentials, Wrong, certificates, check_count, wrong};
use crate::api::{ConfigMapKey, ConnectionSpec, Resources, SecretData, bounds};
use crate::http::Basic;
use crate::registry::DockerAuth;

/// The key under which Kubernetes keeps a `kubernetes.io/dockerconfigjson`.
const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// The keys of Secrets that are read.
pub(in crate::api) const SECRET_KEYS: [&str; 4] = [DOCKER_CONFIG, "username", "password", "host"];

pub(super) fn compile(
    spec: Option<&ConnectionSpec>,
    url: &Url,
    resources: &Resources,
) -> Result<Connection, Wrong> {
    let Some(spec) = spec else { return Ok(Connection::default()) };
    let token_hosts = token_hosts(&spec.token_hosts)?;
    let mut unread =
        spec.named().filter_map(|(kind, name)| resources.unread.get(&(kind, name.to_owned())));
    if let Some(why) = unread.next() {
        let unread = Some(why.clone());
        return Ok(Connection { token_hosts, unread, ..Connection::default() });
    }
    let ca_pem = match &spec.ca_config_map_ref {
        Some(reference) => Some(ca(reference, resources).map_err(Wrong::elsewhere)?),
        None => None,
    };
    let credentials = match &spec.credentials_secret_ref {
        Some(reference) => {
            Some(credentials(&reference.name, url, resources).map_err(Wrong::elsewhere)?)
        }
        None => None,
    };
    Ok(Connection { ca_pem, credentials, token_hosts, unread: None })
}

fn ca(reference: &ConfigMapKey, resources: &Resources) -> Result<Vec<u8>, Wrong> {
    let field = "spec.connection.caConfigMapRef";
    let ConfigMapKey { name, key } = reference;
    let Some(data) = resources.config_maps.get(name) else {
        return wrong(
            field,
            format!(
                "ConfigMap \"{name}\" does not exist; it has to be in Countersign's namespace, or among the files"
            ),
        );
    };
    let Some(pem) = data.get(key) else {
        return wrong(field, format!("ConfigMap \"{name}\" has no key \"{key}\""));
    };
    certificates::check_bundle(pem).map_err(|reason| {
        Wrong::new(field, format!("key \"{key}\" of ConfigMap \"{name}\": {reason}"))
    })?;
    Ok(pem.clone())
}

fn credentials(name: &str, url: &Url, resources: &Resources) -> Result<Credentials, Wrong> {
    let field = "spec.connection.credentialsSecretRef";
    let Some(secret) = resources.secrets.get(name) else {
        return wrong(
            field,
            format!(
                "Secret \"{name}\" does not exist; it has to be in Countersign's namespace, or among the files"
            ),
        );
    };
    let read = match secret.0.get(DOCKER_CONFIG) {
        Some(config) => docker_config(config),
        None => basic_auth(secret).map(|credentials| vec![credentials]),
    };
    let credentials =
        read.map_err(|reason| Wrong::new(field, format!("Secret \"{name}\": {reason}")))?;
    // The Secret, not the source, says where its credentials may go: a source that is pointed at
    // another server must not take them there.
    let host = authority(url);
    match credentials.into_iter().find(|found| found.host == host) {
        Some(found) => Ok(found),
        // Who may write a source need not know what is in the Secret.
        None => wrong(field, format!("Secret \"{name}\" holds no credentials for {host}")),
    }
}

/// A URL's host with its port, where that is not the scheme's.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// `host[:port]`, as [`authority`] writes it, also out of the URLs that Docker's files have.
fn host(text: &str) -> Option<String> {
    let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = Url::parse(&text).ok().filter(|url| ["http", "https"].contains(&url.scheme()))?;
    let plain = url.username().is_empty() && url.password().is_none() && url.has_host();
    plain.then(|| authority(&url))
}

fn basic_auth(secret: &SecretData) -> Result<Credentials, String> {
    let text = |key: &str| match secret.0.get(key) {
        None => Err(format!("key \"{key}\" is missing; username, password and host are needed")),
        Some(value) => match std::str::from_utf8(value) {
            Ok(text) if !text.is_empty() => Ok(text),
            Ok(_) => Err(format!("key \"{key}\" is empty")),
            Err(_) => Err(format!("key \"{key}\" is not UTF-8 text")),
        },
    };
    let (username, password) = (text("username")?.to_owned(), text("password")?.to_owned());
    let written = text("host")?.trim();
    let host = host(written).ok_or("key \"host\" is not a host as notary.example.com")?;
    Ok(Credentials { username, password, host })
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

fn docker_config(bytes: &[u8]) -> Result<Vec<Credentials>, String> {
    // The parser's own text could quote a password.
    let config: DockerConfig = serde_json::from_slice(bytes)
        .map_err(|_| format!("key \"{DOCKER_CONFIG}\" is not JSON of the form {{\"auths\": {{HOST: {{\"auth\": ...}}}}}}"))?;
    let entries = config.auths.into_iter().map(|(key, entry)| {
        let host = host(&key).ok_or("a key in auths is not a host")?;
        let login = entry.basic().map_err(|error| format!("an entry in auths: {error}"))?;
        let Basic { username, password } = login;
        Ok(Credentials { username, password, host })
    });
    entries.collect()
}

fn token_hosts(texts: &[String]) -> Result<Vec<String>, Wrong> {
    let field = "spec.connection.tokenHosts";
    if texts.len() > bounds::TOKEN_HOSTS {
        check_count(field, texts.len(), bounds::TOKEN_HOSTS)?;
    }
    let token_host = |(index, text): (usize, &String)| {
        let plain = !text.contains(['/', '?', '#', '@', '*', ' ']);
        host(text).filter(|_| plain).ok_or_else(|| {
            let text = text.escape_debug();
            let reason = format!("\"{text}\" is not a host with its port, as auth.example.com");
            Wrong::new(format!("{field}[{index}]"), reason)
        })
    };
    texts.iter().enumerate().map(token_host).collect()
}
