//! Bounded fetching: size, time, redirects, addresses, the scope of credentials.
//!
//! Everything that Countersign reads from registries and metadata servers passes here. An
//! [`Endpoint`] is one configured server; whatever that server answers, it cannot make us read
//! without end, wait past the deadline, connect elsewhere or hand its credentials on.

mod address;
mod auth;
mod challenge;
mod error;
mod exchange;
mod rest;
mod room;
mod roots;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use countersign_verify::outcome::shortened;
use http::{HeaderMap, Method};
use reqwest::dns::Resolve;
use tokio::time::Instant;
use tracing::{Instrument as _, Span, field};
use url::{Host, Url};

pub(crate) use address::is_loopback_literal;
use address::{AddressRules, GuardedResolver, SystemResolver};
use auth::Authorizer;
pub(crate) use error::shown;
pub use error::{EndpointError, FetchError};
use exchange::{Body, Exchange, Reply, Transport};
pub use room::Room;
pub(crate) use roots::client_config as tls_client_config;
pub use roots::read_system_certificates;
pub use stream::Stream;

use crate::telemetry::{Measures, SPANS, Server, attribute, outcome};

/// A server and what may be used to speak to it.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Scheme, host and port. `https`, or `http` where the host is a loopback literal.
    pub base: Url,
    /// Certificates in PEM, trusted for this endpoint (and its token hosts) beside the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Sent to `base` and to the token hosts when they ask, nowhere else.
    pub credentials: Option<Basic>,
    /// Where a bearer challenge may send us beside `base`: `host` (the scheme's port) or
    /// `host:port`.
    pub token_hosts: Vec<String>,
}

/// A user name and password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Basic {
    /// The user name; cannot contain a colon (RFC 7617, section 2).
    pub username: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the password: debug output ends up in logs.
        f.debug_struct("Basic").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What is wanted of one request, and its bounds.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The `Accept` header.
    pub accept: Option<&'a str>,
    /// The scope to ask a token for, as `repository:library/nginx:pull`.
    pub scope: Option<&'a str>,
    /// The longest body accepted, in bytes.
    pub max_bytes: u64,
    /// What bodies take room of as they arrive, where it is bounded for many together.
    pub room: Option<&'a Room>,
    /// When everything (connections, redirects, tokens, retries, the body) is over.
    pub deadline: Instant,
}

/// A response with a status from 200 to 299.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, the last response's where redirects were followed.
    pub headers: HeaderMap,
    /// The body, at most [`Ask::max_bytes`] long; empty for HEAD.
    pub body: Bytes,
}

/// One configured server. Clones share connections and tokens.
#[derive(Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
    measured: Option<(Measures, Server)>,
}

struct Inner {
    base: Url,
    transport: Transport,
    authorizer: Authorizer,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("base", &self.inner.base.as_str()).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Checks the configuration. Contacts nobody; reads the system's certificates where nobody has
    /// called [`read_system_certificates`] yet.
    pub fn new(config: EndpointConfig) -> Result<Self, EndpointError> {
        check_base(&config.base, is_loopback)?;
        Self::with_resolver(config, SystemResolver::shared())
    }

    /// The same, where `base` may be plain `http` at any host: for a client whose user names the
    /// URL, of files that are signed. What goes over it can be read and withheld on the way.
    pub fn also_plain(config: EndpointConfig) -> Result<Self, EndpointError> {
        check_base(&config.base, |_| true)?;
        Self::with_resolver(config, SystemResolver::shared())
    }

    fn with_resolver(
        config: EndpointConfig,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, EndpointError> {
        let authorizer = Authorizer::new(&config)?;
        let rules = AddressRules::new(configured_hosts(&config.base, &authorizer));
        let resolver = GuardedResolver::new(rules.clone(), resolver);
        let transport = Transport::new(&config, rules, resolver)?;
        let inner = Arc::new(Inner { base: config.base, transport, authorizer });
        Ok(Self { inner, measured: None })
    }

    /// The same, whose requests count in `measures` as those to a `server`.
    #[must_use]
    pub fn measured(self, measures: &Measures, server: Server) -> Self {
        Self { measured: Some((measures.clone(), server)), ..self }
    }

    /// GET. `path_and_query` begins with `/` and is already percent-encoded; a path that URL
    /// parsing would change (`..`, `%2e%2e`) is refused.
    ///
    /// Fails with [`FetchError`] for every status but 200 to 299.
    pub async fn get(&self, path_and_query: &str, ask: &Ask<'_>) -> Result<Answer, FetchError> {
        self.fetch(Method::GET, path_and_query, ask).await
    }

    /// HEAD, otherwise like [`Endpoint::get`].
    pub async fn head(&self, path_and_query: &str, ask: &Ask<'_>) -> Result<Answer, FetchError> {
        self.fetch(Method::HEAD, path_and_query, ask).await
    }

    async fn fetch(
        &self,
        method: Method,
        path_and_query: &str,
        ask: &Ask<'_>,
    ) -> Result<Answer, FetchError> {
        let url = self.url(path_and_query)?;
        let (begun, span) = (Instant::now(), span(&method, &url));
        let fetching = self.authorized(method, url, ask, Body::Read).instrument(span.clone());
        let fetched = tokio::time::timeout_at(ask.deadline, fetching)
            .await
            .unwrap_or(Err(FetchError::Deadline))
            .map(|reply| reply.answer);
        span.record("outcome", outcome(&fetched));
        if let Ok(answer) = &fetched {
            span.record("http.response.status_code", answer.status);
            span.record("http.response.body.size", answer.body.len());
        }
        if let Some((measures, server)) = &self.measured {
            measures.fetched(*server, &fetched, begun.elapsed());
        }
        fetched
    }

    /// Sends with what authorization is known; where that is refused, with a new one, once.
    async fn authorized(
        &self,
        method: Method,
        url: Url,
        ask: &Ask<'_>,
        body: Body,
    ) -> Result<Reply, FetchError> {
        let Inner { transport, authorizer, .. } = &*self.inner;
        let mut exchange = Exchange {
            method,
            url,
            accept: ask.accept,
            authorization: authorizer.remembered(ask.scope),
            max_bytes: ask.max_bytes,
            room: ask.room,
            deadline: ask.deadline,
        };
        let reply = transport.send(&exchange, body).await?;
        if reply.answer.status != 401 {
            return reply.success();
        }
        authorizer.forget(ask.scope);
        let authorization = authorizer.answer(transport, &reply.answer.headers, ask).await?;
        exchange.authorization = Some(authorization);
        let reply = transport.send(&exchange, body).await?;
        if reply.answer.status == 401 {
            authorizer.forget(ask.scope);
        }
        reply.success()
    }

    fn url(&self, path_and_query: &str) -> Result<Url, FetchError> {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        let mut url = self.inner.base.clone();
        url.set_path(path);
        url.set_query(query);
        // Normalising could leave the repository's own space on the server.
        if url.path() == path && url.query() == query {
            Ok(url)
        } else {
            Err(FetchError::InvalidPath(shortened(path_and_query).into_owned()))
        }
    }
}

/// The span of a request, with its redirects, token and retries; off where nobody takes spans. No
/// query, no header: those may hold secrets.
fn span(method: &Method, url: &Url) -> Span {
    tracing::info_span!(
        target: SPANS,
        "fetch",
        otel.kind = "client",
        http.request.method = method.as_str(),
        server.address = url.host_str(),
        server.port = url.port_or_known_default(),
        url.path = attribute(url.path()),
        outcome = field::Empty,
        http.response.status_code = field::Empty,
        http.response.body.size = field::Empty,
    )
}

/// Only a status from 200 to 299 is an answer.
fn success(answer: Answer) -> Result<Answer, FetchError> {
    match answer.status {
        200..=299 => Ok(answer),
        401 => Err(FetchError::Unauthorized),
        404 => Err(FetchError::NotFound),
        status => Err(FetchError::Status(status)),
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    address::is_loopback_literal(host)
}

fn check_base(base: &Url, may_be_plain: fn(&Host<&str>) -> bool) -> Result<(), EndpointError> {
    let invalid =
        |reason: &str| Err(EndpointError::Base { url: shown(base), reason: reason.to_owned() });
    let Some(host) = base.host() else {
        return invalid("it names no host");
    };
    match base.scheme() {
        "https" => {}
        "http" if may_be_plain(&host) => {}
        "http" => return invalid("http is for loopback only; use https"),
        _ => return invalid("only https is supported"),
    }
    if !base.username().is_empty() || base.password().is_some() {
        return invalid("credentials do not belong in an URL");
    }
    if base.path() != "/" || base.query().is_some() || base.fragment().is_some() {
        return invalid("only scheme, host and port are wanted here");
    }
    Ok(())
}

/// The hosts that the configuration itself names: these may be loopback or link-local.
fn configured_hosts(base: &Url, authorizer: &Authorizer) -> Vec<Host> {
    base.host().map(|host| host.to_owned()).into_iter().chain(authorizer.hosts()).collect()
}
