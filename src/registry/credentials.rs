//! Credentials from docker's configuration files.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_verify::outcome::Unavailable;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::http::Basic;

/// Largest file read, in bytes. Source: a Kubernetes Secret is at most 1 MiB.
const FILE_BYTES: u64 = 1 << 20;

/// The files are looked at this often at most.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The files, as last read.
pub(super) struct DockerConfigs {
    paths: Vec<PathBuf>,
    files: ArcSwap<Vec<Arc<File>>>,
    checked: Mutex<Option<Instant>>,
}

struct File {
    path: PathBuf,
    contents: Result<Vec<u8>, String>,
    config: Result<DockerConfig, String>,
}

/// A docker configuration, as far as it is about credentials.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DockerConfig {
    auths: Option<BTreeMap<String, DockerAuth>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

/// An entry of `auths`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct DockerAuth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl std::fmt::Debug for DockerAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // All of it is secret.
        f.write_str("DockerAuth(..)")
    }
}

impl DockerConfigs {
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, files: ArcSwap::default(), checked: Mutex::default() }
    }

    /// Reads the files again, if that is due. Contents are compared, not times: the kubelet
    /// swaps symlinks.
    pub(super) async fn refresh(&self) {
        let mut checked = self.checked.lock().await;
        if checked.is_some_and(|checked| checked.elapsed() < CHECK_EVERY) {
            return;
        }
        let old = self.files.load_full();
        let mut files = Vec::with_capacity(self.paths.len());
        for (index, path) in self.paths.iter().enumerate() {
            let contents = read_bounded(path).await.map_err(|error| error.to_string());
            files.push(match old.get(index) {
                Some(old) if old.contents == contents => old.clone(),
                _ => Arc::new(File::new(path.clone(), contents)),
            });
        }
        self.files.store(Arc::new(files));
        *checked = Some(Instant::now());
    }

    /// The credentials for `registry`, from the first file that has some; `None` before the
    /// first [`DockerConfigs::refresh`].
    ///
    /// A file that cannot be read is an error, since it could hold them.
    pub(super) fn lookup(&self, registry: &str) -> Option<Result<Option<Basic>, Unavailable>> {
        let files = self.files.load();
        if files.len() != self.paths.len() {
            return None;
        }
        Some(files.iter().find_map(|file| file.lookup(registry).transpose()).transpose())
    }
}

/// Reads a file of at most [`FILE_BYTES`].
pub(super) async fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    let file = tokio::fs::File::open(path).await?;
    file.take(FILE_BYTES + 1).read_to_end(&mut contents).await?;
    if contents.len() as u64 > FILE_BYTES {
        let message = format!("it is larger than {FILE_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(contents)
}

impl File {
    fn new(path: PathBuf, contents: Result<Vec<u8>, String>) -> Self {
        let config = contents.as_ref().map_err(Clone::clone);
        let config = config.and_then(|contents| DockerConfig::parse(contents));
        Self { path, contents, config }
    }

    fn lookup(&self, registry: &str) -> Result<Option<Basic>, Unavailable> {
        let found = match &self.config {
            Ok(config) => config.lookup(registry),
            Err(error) => Err(error.clone()),
        };
        found.map_err(|error| Unavailable::CredentialsUnavailable {
            what: format!("{}: {error}", self.path.display()),
        })
    }
}

impl DockerConfig {
    /// Reads a `config.json`.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| no_config(&error))
    }

    /// Reads a `.dockercfg`, the format before that: the entries of `auths` alone.
    pub(crate) fn parse_legacy(json: &[u8]) -> Result<Self, String> {
        let auths = serde_json::from_slice(json).map_err(|error| no_config(&error))?;
        Ok(Self { auths: Some(auths), ..Self::default() })
    }

    /// The credentials for `registry`; an entry that cannot be used is an error.
    pub(crate) fn lookup(&self, registry: &str) -> Result<Option<Basic>, String> {
        let mut entries: Vec<_> =
            self.auths.iter().flatten().filter(|(key, _)| names(key, registry)).collect();
        // The key as the reference names it comes before its other spellings.
        entries.sort_by_key(|(key, _)| key.as_str() != registry);
        if let Some((key, entry)) = entries.iter().find(|(_, entry)| !entry.is_empty()) {
            return entry.basic().map(Some).map_err(|error| format!("auths[\"{key}\"]: {error}"));
        }
        let mut helpers = self.cred_helpers.iter().flatten();
        let helper = helpers.find(|(key, _)| names(key, registry)).map(|(_, helper)| helper);
        // `docker login` leaves an empty entry for what it put into the store.
        let store = self.creds_store.as_ref().filter(|_| !entries.is_empty());
        match helper.or(store) {
            Some(helper) => Err(format!(
                "{registry} is left to the credential helper \"{helper}\", which is not \
                 supported; put a user name and password under \"auths\""
            )),
            None => Ok(None),
        }
    }
}

/// The parser's own message could quote a password.
fn no_config(error: &serde_json::Error) -> String {
    format!("not a docker configuration (line {}, column {})", error.line(), error.column())
}

/// Whether a key of the file speaks for the registry: `host`, `https://host`, and with docker's
/// old paths `/v1/` and `/v2/`.
fn names(key: &str, registry: &str) -> bool {
    let host = key.strip_prefix("https://").unwrap_or(key);
    let host = host.strip_suffix('/').unwrap_or(host);
    let host = host.strip_suffix("/v1").or(host.strip_suffix("/v2")).unwrap_or(host);
    match registry {
        "docker.io" => matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io"),
        registry => host == registry,
    }
}

impl DockerAuth {
    fn is_empty(&self) -> bool {
        [&self.auth, &self.username, &self.password, &self.identitytoken, &self.registrytoken]
            .into_iter()
            .all(|field| given(field).is_none())
    }

    /// The user name and password; fails where there are none that can be used.
    pub(crate) fn basic(&self) -> Result<Basic, &'static str> {
        if given(&self.identitytoken).or(given(&self.registrytoken)).is_some() {
            return Err("identity tokens are not supported; use a user name and password");
        }
        if let Some(auth) = given(&self.auth) {
            return decode(auth).ok_or("\"auth\" is not the base64 of user:password");
        }
        match (given(&self.username), given(&self.password)) {
            (Some(username), Some(password)) => {
                Ok(Basic { username: username.to_owned(), password: password.to_owned() })
            }
            _ => Err("it needs both a user name and a password"),
        }
    }
}

/// Docker writes empty strings for what is not there.
fn given(field: &Option<String>) -> Option<&str> {
    field.as_deref().filter(|text| !text.is_empty())
}

fn decode(auth: &str) -> Option<Basic> {
    let pair = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (username, password) = pair.split_once(':')?;
    // As docker does: some of its versions padded the password.
    let password = password.trim_end_matches('\0');
    Some(Basic { username: username.to_owned(), password: password.to_owned() })
}
