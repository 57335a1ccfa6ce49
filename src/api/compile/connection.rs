//! How to connect to a source: its authority's certificates, credentials and token hosts.

use std::collections::BTreeMap;

use serde::Deserialize;
use url::Url;

use super::{Connection, Credentials, Wrong, certificates, check_count, wrong};
use crate::api::{ConfigMapKey, Resources, SecretData, TrustSourceSpec, bounds};
use crate::http::Basic;
use crate::registry::DockerAuth;

/// The key under which Kubernetes keeps a `kubernetes.io/dockerconfigjson`.
const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// The keys of Secrets with credentials that are read.
const SECRET_KEYS: [&str; 4] = [DOCKER_CONFIG, "username", "password", "host"];

/// The end of a Secret's key that holds an initial root.
pub(super) const ROOT_KEY_END: &str = ".json";

/// Whether this key of a Secret may be read.
pub(in crate::api) fn is_of_use(key: &str) -> bool {
    SECRET_KEYS.contains(&key) || key.ends_with(ROOT_KEY_END)
}

/// How to connect to servers, of which each gets what is for its host.
pub(super) fn compile(
    source: &TrustSourceSpec,
    urls: &[&Url],
    resources: &Resources,
) -> Result<Connection, Wrong> {
    let mut connection = Connection::default();
    if let Some(spec) = &source.connection {
        connection.token_hosts = token_hosts(&spec.token_hosts)?;
    }
    let mut unread =
        source.named().filter_map(|(kind, name)| resources.unread.get(&(kind, name.to_owned())));
    if let Some(why) = unread.next() {
        return Ok(Connection { unread: Some(why.clone()), ..connection });
    }
    let Some(spec) = &source.connection else { return Ok(connection) };
    let ca_pem = match &spec.ca_config_map_ref {
        Some(reference) => Some(ca(reference, resources).map_err(Wrong::elsewhere)?),
        None => None,
    };
    let credentials = match &spec.credentials_secret_ref {
        Some(reference) => {
            credentials(&reference.name, urls, resources).map_err(Wrong::elsewhere)?
        }
        None => Vec::new(),
    };
    Ok(Connection { ca_pem, credentials, ..connection })
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

fn credentials(
    name: &str,
    urls: &[&Url],
    resources: &Resources,
) -> Result<Vec<Credentials>, Wrong> {
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
    let hosts: Vec<String> = urls.iter().map(|url| authority(url)).collect();
    let ours: Vec<_> =
        credentials.into_iter().filter(|found| hosts.contains(&found.host)).collect();
    if ours.is_empty() {
        // Who may write a source need not know what is in the Secret.
        let hosts = hosts.join(" or ");
        return wrong(field, format!("Secret \"{name}\" holds no credentials for {hosts}"));
    }
    Ok(ours)
}

/// A URL's host with its port, where that is not the scheme's.
pub(super) fn authority(url: &Url) -> String {
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
