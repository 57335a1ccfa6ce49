//! Asks registries what a tag stands for.
//!
//! Two requests of the distribution API are all that is needed, HEAD and GET of a manifest. They
//! go through [`crate::http`], so a registry can neither send us elsewhere nor keep us reading.

mod credentials;
mod manifest;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_verify::image::{Digest, Reference};
use countersign_verify::outcome::Unavailable;
use moka::Expiry;
use moka::sync::Cache;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};
use url::Url;

use crate::http::{Basic, Endpoint, EndpointConfig};
use crate::singleflight::SingleFlight;
use crate::telemetry::{Asker, Cached, Measures, SPANS, Server};
pub(crate) use credentials::{DockerAuth, DockerConfig};
use credentials::{DockerConfigs, read_bounded};

/// Most answers remembered.
const ANSWERS: u64 = 10_000;

/// Most registries, each with one set of credentials, to which connections are kept.
const ENDPOINTS: u64 = 1_000;

/// How long an unused registry's connections and tokens are kept.
const ENDPOINT_IDLE: Duration = Duration::from_secs(600);

/// The least time that a question gets, also where who asked first has less: others may have
/// joined, and the answer is remembered.
const LEAST_TIME: Duration = Duration::from_secs(10);

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
    answers: Cache<Question, Answer>,
    flights: SingleFlight<Question, Answer>,
}

type Answer = Result<Resolved, Unavailable>;

/// What is asked, and as whom: an answer is for those with the same credentials only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    image: Reference,
    credentials: Option<Basic>,
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
        let expiry = AnswerExpiry { resolved: config.tag_ttl, refused: config.refused_ttl };
        let inner = Inner {
            credentials: DockerConfigs::new(config.docker_configs.clone()),
            endpoints: Cache::builder().max_capacity(ENDPOINTS).time_to_idle(ENDPOINT_IDLE).build(),
            answers: Cache::builder().max_capacity(ANSWERS).expire_after(expiry).build(),
            flights: SingleFlight::default(),
            config,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The digest that the image's tag stands for; an image named by digest contacts nobody.
    ///
    /// `allowed` holds the registries, as `host[:port]`, that policies or the configuration name
    /// literally; no other is contacted. The credentials are those of the asker where it has some
    /// for the registry, else the installation's. Concurrent questions for one image as the same
    /// user are one request.
    pub async fn resolve(
        &self,
        image: &Reference,
        own: Option<Basic>,
        allowed: &BTreeSet<String>,
        deadline: Instant,
    ) -> Result<Resolved, Unavailable> {
        if let Some(known) = without_contact(image, allowed) {
            return known;
        }
        tokio::time::timeout_at(deadline, self.ask(image, own, deadline))
            .await
            .unwrap_or(Err(Unavailable::DeadlineExceeded))
    }

    /// What is known without asking anybody; `None` where it takes a [`Registry::resolve`].
    pub fn cached(
        &self,
        image: &Reference,
        own: Option<Basic>,
        allowed: &BTreeSet<String>,
    ) -> Option<Result<Resolved, Unavailable>> {
        without_contact(image, allowed).or_else(|| {
            let credentials = match own {
                Some(own) => Some(own),
                None => self.inner.credentials.lookup(image.registry())?.ok()?,
            };
            let answer = self.inner.answers.get(&Question { image: image.clone(), credentials });
            self.inner.config.measures.looked_up(Cached::Tag, answer.is_some());
            answer
        })
    }

    async fn ask(&self, image: &Reference, own: Option<Basic>, deadline: Instant) -> Answer {
        let credentials = match own {
            Some(own) => Some(own),
            None => self.inner.installations(image.registry()).await?,
        };
        let question = Question { image: image.clone(), credentials };
        if let Some(answer) = self.inner.answers.get(&question) {
            return answer;
        }
        let inner = self.inner.clone();
        let deadline = deadline.max(Instant::now() + LEAST_TIME);
        let (asked, asker) = (question.clone(), Asker::current());
        let answer = self.inner.flights.run(question, move || async move {
            // It may have been answered between the look above and now.
            if let Some(answer) = inner.answers.get(&asked) {
                return answer;
            }
            let span = asker.asks(span(&asked.image));
            let answer = inner.fetch(&asked, deadline).instrument(span.clone()).await;
            let code = answer.as_ref().err().map_or("", Unavailable::code);
            span.record("code", code);
            inner.answers.insert(asked, answer.clone());
            answer
        });
        answer.await.unwrap_or_else(|aborted| Err(unavailable(image.registry(), &aborted)))
    }
}

impl Inner {
    async fn installations(&self, registry: &str) -> Result<Option<Basic>, Unavailable> {
        self.credentials.refresh().await;
        self.credentials.lookup(registry).transpose().map(Option::flatten)
    }

    async fn fetch(&self, question: &Question, deadline: Instant) -> Answer {
        let registry = question.image.registry();
        let endpoint = self.endpoint(registry, question.credentials.clone()).await;
        let endpoint = endpoint.map_err(|cause| unavailable(registry, &cause))?;
        manifest::resolve(&endpoint, &question.image, deadline)
            .await
            .map_err(|cause| unavailable(registry, &cause))
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
fn span(image: &Reference) -> Span {
    tracing::info_span!(
        target: SPANS,
        parent: None,
        "resolve",
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
    let registry = image.registry();
    if allowed.contains(registry) {
        return None;
    }
    Some(Err(Unavailable::RegistryNotAllowed { registry: registry.to_owned() }))
}

fn unavailable(registry: &str, cause: &dyn std::fmt::Display) -> Unavailable {
    Unavailable::RegistryUnavailable { registry: registry.to_owned(), cause: cause.to_string() }
}

/// Lets refusals expire sooner than digests.
struct AnswerExpiry {
    resolved: Duration,
    refused: Duration,
}

impl AnswerExpiry {
    fn of(&self, answer: &Answer) -> Option<Duration> {
        Some(if answer.is_ok() { self.resolved } else { self.refused })
    }
}

impl Expiry<Question, Answer> for AnswerExpiry {
    fn expire_after_create(
        &self,
        _: &Question,
        answer: &Answer,
        _: std::time::Instant,
    ) -> Option<Duration> {
        self.of(answer)
    }

    fn expire_after_update(
        &self,
        _: &Question,
        answer: &Answer,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.of(answer)
    }
}
