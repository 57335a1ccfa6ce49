//! Asks registries what a tag stands for.
//!
//! Two requests of the distribution API are all that is needed, HEAD and GET of a manifest. They
//! go through [`crate::http`], so a registry can neither send us elsewhere nor keep us reading.

mod answers;
mod credentials;
mod manifest;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign_verify::image::{Digest, Reference};
use countersign_verify::outcome::Unavailable;
use moka::sync::Cache;
use tokio::time::Instant;
use tracing::Span;
use url::Url;

use crate::fair::Places;
use crate::gate::{Bounds, Gate};
use crate::http::{Basic, Endpoint, EndpointConfig, FetchError, Room};
use crate::telemetry::{Cached, Measures, SPANS, Server};
use answers::{AnswerExpiry, Answers, Question};
pub(crate) use credentials::{DockerAuth, DockerConfig};
use credentials::{DockerConfigs, read_bounded};
use manifest::ManifestError;

/// Memory for the digests of tags and for refusals, in bytes: 10,000 of them with credentials of
/// a kilobyte.
const TAGS_BYTES: u64 = 16 << 20;

/// How long a manifest is remembered. What it is hangs on its digest only; who may read it may
/// change.
const MANIFEST_LIFE: Duration = Duration::from_secs(600);

/// Memory for manifests, in bytes.
const MANIFESTS_BYTES: u64 = 16 << 20;

/// Most registries, each with one set of credentials, to which connections are kept.
const ENDPOINTS: u64 = 1_000;

/// How long an unused registry's connections and tokens are kept.
const ENDPOINT_IDLE: Duration = Duration::from_secs(600);

/// Questions that run and wait at a time. Each has a connection where the registry speaks HTTP/1.1,
/// and at most a manifest of 4 MiB. A namespace that restarts alone at its registry has 32 of the
/// turns and 1024 of the places: a thousand tags that nobody asked for before take 1.6 s where an
/// answer takes 50 ms.
const QUESTIONS: Bounds = Bounds { running: 128, entered: 4096 };

/// Bytes of a manifest that each question may hold whatever the others do: hardly one has more.
const OWN_BYTES: usize = 64 << 10;

/// Bytes beyond that which all questions hold at a time; a registry alone gets half of them, which
/// is two manifests of 4 MiB.
const SHARED_BYTES: usize = 16 << 20;

/// How to reach registries.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Docker configuration files with credentials; the first that has an entry for a registry
    /// counts. Re-read when their contents change.
    pub docker_configs: Vec<PathBuf>,
    /// A folder in docker's layout: `HOST[:PORT]/ca.crt` is trusted for that registry beside the
    /// system's certificates.
    pub certs_dir: Option<PathBuf>,
    /// For each registry, the hosts that it may send us to for a token. Docker Hub's is built in.
    pub token_hosts: BTreeMap<String, Vec<String>>,
    /// How long a tag's digest is remembered: short, so that a moved tag is seen.
    pub tag_ttl: Duration,
    /// How long a refusal is remembered: short, so that "push, then retry" works.
    pub refused_ttl: Duration,
    /// Where requests, and looks into what is remembered, are counted.
    pub measures: Measures,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            docker_configs: Vec::new(),
            certs_dir: None,
            token_hosts: BTreeMap::new(),
            tag_ttl: Duration::from_secs(10),
            refused_ttl: Duration::from_secs(2),
            measures: Measures::default(),
        }
    }
}

/// What a tag stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The digest of the manifest or index.
    pub digest: Digest,
    /// Its size in bytes, where the registry told it.
    pub size: Option<u64>,
}

/// Resolves tags, with a short memory. Clones share it.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    config: RegistryConfig,
    credentials: DockerConfigs,
    endpoints: Cache<EndpointKey, Endpoint>,
    tags: Arc<Answers<Resolved>>,
    manifests: Arc<Answers<Bytes>>,
    /// Of manifests that are being read.
    bytes: Arc<Places<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct EndpointKey {
    registry: String,
    credentials: Option<Basic>,
    ca_pem: Option<Vec<u8>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl Registry {
    /// Contacts nobody and reads nothing yet.
    pub fn new(config: RegistryConfig) -> Self {
        let refused = config.refused_ttl;
        let tags = AnswerExpiry { good: config.tag_ttl, refused };
        let manifests = AnswerExpiry { good: MANIFEST_LIFE, refused };
        let (gate, digest) =
            (Arc::new(Gate::new(QUESTIONS)), |it: &Resolved| it.digest.hex().len());
        let inner = Inner {
            credentials: DockerConfigs::new(config.docker_configs.clone()),
            endpoints: Cache::builder().max_capacity(ENDPOINTS).time_to_idle(ENDPOINT_IDLE).build(),
            tags: Arc::new(Answers::new(tags, &gate, TAGS_BYTES, digest, resolving)),
            manifests: Arc::new(Answers::new(
                manifests,
                &gate,
                MANIFESTS_BYTES,
                Bytes::len,
                fetching,
            )),
            bytes: Places::new(SHARED_BYTES),
            config,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The digest that the image's tag stands for; an image named by digest contacts nobody.
    ///
    /// `allowed` holds the registries, as `host[:port]`, that policies or the configuration name
    /// literally; no other is contacted. The credentials are those of the asker where it has some
    /// for the registry, else the installation's. Concurrent questions for one image as the same
    /// user are one request, and `namespace` is on whose behalf one waits for its turn where the
    /// registry has been asked much: `Overloaded` where too many wait.
    pub async fn resolve(
        &self,
        image: &Reference,
        namespace: &str,
        own: Option<Basic>,
        allowed: &BTreeSet<String>,
        deadline: Instant,
    ) -> Result<Resolved, Unavailable> {
        if let Some(known) = without_contact(image, allowed) {
            return known;
        }
        let asking = self.ask(image, namespace, own.clone(), deadline);
        tokio::time::timeout_at(deadline, asking).await.unwrap_or_else(|_| {
            // Another may have had its turn, and an answer.
            let known = self.cached(image, own, allowed);
            known.unwrap_or(Err(Unavailable::DeadlineExceeded))
        })
    }

    /// What is known without asking anybody; `None` where it takes a [`Registry::resolve`].
    pub fn cached(
        &self,
        image: &Reference,
        own: Option<Basic>,
        allowed: &BTreeSet<String>,
    ) -> Option<Result<Resolved, Unavailable>> {
        without_contact(image, allowed).or_else(|| {
            let answer = self.inner.tags.known(&self.known_question(image, own)?);
            self.inner.config.measures.looked_up(Cached::Tag, answer.is_some());
            answer
        })
    }

    /// The manifest that an image's digest names, of at most 4 MiB, checked against it. Who asks
    /// for what, and as whom, is as for [`Registry::resolve`].
    pub async fn manifest(
        &self,
        image: &Reference,
        namespace: &str,
        own: Option<Basic>,
        allowed: &BTreeSet<String>,
        deadline: Instant,
    ) -> Result<Bytes, Unavailable> {
        check_allowed(image, allowed)?;
        let asking = async {
            let question = self.question(image, own).await?;
            let inner = Arc::clone(&self.inner);
            let ask = move |question: Question, deadline| async move {
                let endpoint = inner.endpoint_for(&question).await?;
                let room = inner.room(&question);
                let fetched = manifest::fetch(&endpoint, &question.image, &room, deadline).await;
                fetched.map_err(|cause| not_had(&question, &cause))
            };
            self.inner.manifests.answer(question, namespace, deadline, ask).await
        };
        tokio::time::timeout_at(deadline, asking)
            .await
            .unwrap_or(Err(Unavailable::DeadlineExceeded))
    }

    /// The manifest where it is known without asking anybody; `None` where it takes a
    /// [`Registry::manifest`].
    pub fn cached_manifest(
        &self,
        image: &Reference,
        own: Option<Basic>,
        allowed: &BTreeSet<String>,
    ) -> Option<Result<Bytes, Unavailable>> {
        if let Err(refused) = check_allowed(image, allowed) {
            return Some(Err(refused));
        }
        self.inner.manifests.known(&self.known_question(image, own)?)
    }

    async fn ask(
        &self,
        image: &Reference,
        namespace: &str,
        own: Option<Basic>,
        deadline: Instant,
    ) -> Result<Resolved, Unavailable> {
        let question = self.question(image, own).await?;
        let inner = Arc::clone(&self.inner);
        let ask = move |question: Question, deadline| async move {
            let endpoint = inner.endpoint_for(&question).await?;
            let room = inner.room(&question);
            let resolved = manifest::resolve(&endpoint, &question.image, &room, deadline).await;
            resolved.map_err(|cause| not_had(&question, &cause))
        };
        self.inner.tags.answer(question, namespace, deadline, ask).await
    }

    async fn question(
        &self,
        image: &Reference,
        own: Option<Basic>,
    ) -> Result<Question, Unavailable> {
        let credentials = match own {
            Some(own) => Some(own),
            None => self.inner.installations(image.registry()).await?,
        };
        Ok(Question { image: image.clone(), credentials })
    }

    /// The same without reading the installation's credentials again.
    fn known_question(&self, image: &Reference, own: Option<Basic>) -> Option<Question> {
        let credentials = match own {
            Some(own) => Some(own),
            None => self.inner.credentials.lookup(image.registry())?.ok()?,
        };
        Some(Question { image: image.clone(), credentials })
    }
}

impl Inner {
    fn room(&self, question: &Question) -> Room {
        Room::new(OWN_BYTES, [self.bytes.none(question.image.registry().to_owned())])
    }

    async fn installations(&self, registry: &str) -> Result<Option<Basic>, Unavailable> {
        self.credentials.refresh().await;
        self.credentials.lookup(registry).transpose().map(Option::flatten)
    }

    async fn endpoint_for(&self, question: &Question) -> Result<Endpoint, Unavailable> {
        let registry = question.image.registry();
        let endpoint = self.endpoint(registry, question.credentials.clone()).await;
        endpoint.map_err(|cause| unavailable(registry, &cause))
    }

    async fn endpoint(
        &self,
        registry: &str,
        credentials: Option<Basic>,
    ) -> Result<Endpoint, String> {
        let ca_pem = self.ca_pem(registry).await?;
        let key = EndpointKey { registry: registry.to_owned(), credentials, ca_pem };
        let made = self.endpoints.try_get_with_by_ref(&key, || self.connect(&key));
        made.map_err(|error: Arc<String>| error.to_string())
    }

    fn connect(&self, key: &EndpointKey) -> Result<Endpoint, String> {
        let configured = self.config.token_hosts.get(&key.registry);
        let mut token_hosts = configured.cloned().unwrap_or_default();
        // Docker Hub's API is not at the host that its references name.
        let host = if key.registry == "docker.io" {
            token_hosts.push("auth.docker.io".to_owned());
            "registry-1.docker.io"
        } else {
            &key.registry
        };
        let base = Url::parse(&format!("https://{host}")).map_err(|error| error.to_string())?;
        let config = EndpointConfig {
            base,
            ca_pem: key.ca_pem.clone(),
            credentials: key.credentials.clone(),
            token_hosts,
        };
        let endpoint = Endpoint::new(config).map_err(|error| error.to_string())?;
        Ok(endpoint.measured(&self.config.measures, Server::Registry))
    }

    async fn ca_pem(&self, registry: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(certs_dir) = &self.config.certs_dir else {
            return Ok(None);
        };
        let path = certs_dir.join(registry).join("ca.crt");
        match read_bounded(&path).await {
            Ok(pem) => Ok(Some(pem)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }
}

/// The span of a request for what a tag stands for; off where nobody takes spans.
fn resolving(image: &Reference) -> Span {
    tracing::info_span!(
        target: SPANS,
        parent: None,
        "resolve",
        image = tracing::field::display(image),
        code = tracing::field::Empty,
    )
}

/// The span of a request for a manifest; off where nobody takes spans.
fn fetching(image: &Reference) -> Span {
    tracing::info_span!(
        target: SPANS,
        parent: None,
        "manifest",
        image = tracing::field::display(image),
        code = tracing::field::Empty,
    )
}

/// What needs no registry: a digest, and the refusal to contact one that nobody named.
pub(crate) fn without_contact(
    image: &Reference,
    allowed: &BTreeSet<String>,
) -> Option<Result<Resolved, Unavailable>> {
    if let Some(digest) = image.digest() {
        return Some(Ok(Resolved { digest: digest.clone(), size: None }));
    }
    check_allowed(image, allowed).err().map(Err)
}

/// Refuses to contact a registry that nobody named.
fn check_allowed(image: &Reference, allowed: &BTreeSet<String>) -> Result<(), Unavailable> {
    let registry = image.registry();
    if allowed.contains(registry) {
        return Ok(());
    }
    Err(Unavailable::RegistryNotAllowed { registry: registry.to_owned() })
}

/// With no room for what a registry answers, it says nothing of the registry.
fn not_had(question: &Question, cause: &ManifestError) -> Unavailable {
    match cause {
        ManifestError::Fetch(FetchError::NoRoom) => Unavailable::Overloaded,
        cause => unavailable(question.image.registry(), cause),
    }
}

fn unavailable(registry: &str, cause: &dyn std::fmt::Display) -> Unavailable {
    Unavailable::RegistryUnavailable { registry: registry.to_owned(), cause: cause.to_string() }
}
