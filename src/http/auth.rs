//! Answers challenges: bearer tokens and Basic credentials.

use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method};
use moka::sync::Cache;
use serde::Deserialize;
use url::{Host, Url};

use super::address::is_loopback_literal;
use super::challenge::{Challenge, challenges};
use super::error::shown;
use super::exchange::{Exchange, Transport};
use super::{Ask, Basic, EndpointConfig, EndpointError, FetchError, success};
use crate::expiry::After;

/// Largest answer of a token server read, in bytes: it may hold a token under both names, and others
/// that are of no use here.
const ANSWER_BYTES: u64 = 64 << 10;

/// Longest token, in bytes. It is sent in a header, of which servers take 8 to 16 KiB.
const TOKEN_BYTES: usize = 16 << 10;

/// How long a token lasts that does not say so. Source: distribution's token specification.
const DEFAULT_LIFETIME: u64 = 60;

/// Longest that any token is kept, in seconds; also keeps the arithmetic on time in bounds.
const MAX_LIFETIME: u64 = 3600;

/// A token is not used in its last seconds: it could end on the way.
const MARGIN: Duration = Duration::from_secs(10);

/// Memory for the authorizations of all endpoints, in bytes: those of 2,500 scopes, at the three KiB
/// of Docker Hub's tokens, and of 500 at the longest.
const KNOWN_BYTES: u64 = 8 << 20;

/// What an authorization and its place in the memory take beside their texts, in bytes.
const ENTRY_BYTES: usize = 256;

/// Of the whole process: there are many endpoints, and a server chooses how long its tokens are.
static KNOWN: LazyLock<Authorizations> = LazyLock::new(Authorizations::new);

/// No two endpoints share an authorization.
static ENDPOINTS: AtomicU64 = AtomicU64::new(0);

/// One endpoint's credentials, and where they may go.
pub(super) struct Authorizer {
    base: Url,
    basic: Option<HeaderValue>,
    token_hosts: Vec<TokenHost>,
    endpoint: u64,
}

/// The authorizations that endpoints got, by their numbers and by scope.
struct Authorizations(Cache<(u64, String), Known>);

#[derive(Clone)]
struct Known {
    authorization: HeaderValue,
    lifetime: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct TokenHost {
    host: Host,
    /// `None`: the scheme's own.
    port: Option<u16>,
}

/// What a token server answers; distribution's specification has both names.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    // Any JSON: an odd lifetime must not cost the token.
    expires_in: Option<serde_json::Value>,
}

impl Authorizations {
    fn new() -> Self {
        let known = Cache::builder()
            .max_capacity(KNOWN_BYTES)
            .weigher(|(_, scope): &(u64, String), known: &Known| {
                let bytes = ENTRY_BYTES + scope.len() + known.authorization.len();
                u32::try_from(bytes).unwrap_or(u32::MAX)
            })
            // None is used any more when it ends.
            .expire_after(After(|known: &Known| known.lifetime))
            .build();
        Self(known)
    }
}

impl Authorizer {
    pub(super) fn new(config: &EndpointConfig) -> Result<Self, EndpointError> {
        let hosts = config.token_hosts.iter().map(|entry| TokenHost::parse(entry));
        Ok(Self {
            base: config.base.clone(),
            basic: config.credentials.as_ref().map(basic_header).transpose()?,
            token_hosts: hosts.collect::<Result<_, _>>()?,
            endpoint: ENDPOINTS.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// The token hosts.
    pub(super) fn hosts(&self) -> impl Iterator<Item = Host> {
        self.token_hosts.iter().map(|token_host| token_host.host.clone())
    }

    /// The authorization that served this scope last, while it lasts.
    pub(super) fn remembered(&self, scope: Option<&str>) -> Option<HeaderValue> {
        KNOWN.0.get(&self.key(scope)).map(|known| known.authorization)
    }

    /// Forgets it: the server refused it.
    pub(super) fn forget(&self, scope: Option<&str>) {
        KNOWN.0.invalidate(&self.key(scope));
    }

    fn key(&self, scope: Option<&str>) -> (u64, String) {
        (self.endpoint, scope.unwrap_or_default().to_owned())
    }

    /// An authorization for the server that sent `headers` with a 401.
    pub(super) async fn answer(
        &self,
        transport: &Transport,
        headers: &HeaderMap,
        ask: &Ask<'_>,
    ) -> Result<HeaderValue, FetchError> {
        let challenges = challenges(headers);
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let (authorization, lifetime) = if let Some(bearer) = of("bearer") {
            self.token(transport, bearer, ask).await?
        } else if let (Some(_), Some(basic)) = (of("basic"), &self.basic) {
            (basic.clone(), Duration::from_secs(MAX_LIFETIME))
        } else {
            return Err(FetchError::Unauthorized);
        };
        let lifetime = lifetime.saturating_sub(MARGIN);
        let known = Known { authorization: authorization.clone(), lifetime };
        KNOWN.0.insert(self.key(ask.scope), known);
        Ok(authorization)
    }

    /// Fetches a token, and tells how long it lasts.
    async fn token(
        &self,
        transport: &Transport,
        challenge: &Challenge,
        ask: &Ask<'_>,
    ) -> Result<(HeaderValue, Duration), FetchError> {
        let mut url = self.realm(challenge)?;
        let realm = shown(&url);
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = challenge.param("service") {
                query.append_pair("service", service);
            }
            // What we want, not what the challenge says: a server must not choose what our
            // credentials are used for.
            if let Some(scope) = ask.scope {
                query.append_pair("scope", scope);
            }
        }
        let exchange = Exchange {
            method: Method::GET,
            url,
            accept: Some("application/json"),
            authorization: self.basic.clone(),
            max_bytes: ANSWER_BYTES,
            room: None,
            deadline: ask.deadline,
        };
        let answer = transport.run(&exchange).await.and_then(success);
        let token = answer.and_then(|answer| read_token(&answer.body));
        token.map_err(|cause| FetchError::Token { realm, cause: Box::new(cause) })
    }

    /// The challenge's realm, if it may be contacted with our credentials.
    fn realm(&self, challenge: &Challenge) -> Result<Url, FetchError> {
        let realm = challenge.param("realm").unwrap_or_default();
        let refused = |realm, reason| FetchError::ForbiddenRealm { realm, reason };
        let mut url =
            Url::parse(realm).map_err(|_| refused("(unreadable)".into(), "not an URL"))?;
        let refused = |reason| refused(shown(&url), reason);
        let Some(host) = url.host() else {
            return Err(refused("it names no host"));
        };
        match url.scheme() {
            "https" => {}
            "http" if self.base.scheme() == "http" && is_loopback_literal(&host) => {}
            _ => return Err(refused("only https is used")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("it carries credentials"));
        }
        // Token servers take several scopes: with one of its own, the server that challenges would
        // get a token for what it chooses, by our credentials.
        if url.query().is_some() {
            return Err(refused("it carries a query"));
        }
        let own = url.origin() == self.base.origin();
        if !own && !self.token_hosts.iter().any(|token_host| token_host.covers(&url)) {
            return Err(refused("neither the server itself nor one of its token hosts"));
        }
        url.set_fragment(None);
        Ok(url)
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").field("token_hosts", &self.token_hosts).finish_non_exhaustive()
    }
}

impl TokenHost {
    fn parse(entry: &str) -> Result<Self, EndpointError> {
        let invalid = || EndpointError::TokenHost(entry.to_owned());
        if entry.is_empty() || entry.contains(['/', '@', '?', '#', '\\']) {
            return Err(invalid());
        }
        let url = Url::parse(&format!("https://{entry}")).map_err(|_| invalid())?;
        let host = url.host().ok_or_else(invalid)?.to_owned();
        Ok(Self { host, port: url.port() })
    }

    fn covers(&self, url: &Url) -> bool {
        url.host().is_some_and(|host| host.to_owned() == self.host) && url.port() == self.port
    }
}

fn basic_header(credentials: &Basic) -> Result<HeaderValue, EndpointError> {
    if credentials.username.contains(':') {
        return Err(EndpointError::Username);
    }
    let pair = format!("{}:{}", credentials.username, credentials.password);
    secret_header(&format!("Basic {}", STANDARD.encode(pair))).ok_or(EndpointError::Username)
}

fn read_token(body: &[u8]) -> Result<(HeaderValue, Duration), FetchError> {
    let malformed = |reason: &str| FetchError::Protocol(format!("the token answer {reason}"));
    let answer: TokenAnswer =
        serde_json::from_slice(body).map_err(|_| malformed("is not the expected JSON"))?;
    let token = [answer.token, answer.access_token].into_iter().flatten().find(|t| !t.is_empty());
    let token = token.ok_or_else(|| malformed("holds no token"))?;
    if token.len() > TOKEN_BYTES {
        return Err(malformed(&format!("holds a token of more than {TOKEN_BYTES} bytes")));
    }
    let header = secret_header(&format!("Bearer {token}"))
        .ok_or_else(|| malformed("holds a token that no header can carry"))?;
    let seconds = answer.expires_in.and_then(|value| value.as_u64()).unwrap_or(DEFAULT_LIFETIME);
    Ok((header, Duration::from_secs(seconds.min(MAX_LIFETIME))))
}

/// A header value that is kept out of debug output.
fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o8_the_authorizations_of_all_endpoints_are_bounded_in_bytes() {
        let known = Authorizations::new();
        let lifetime = Duration::from_secs(MAX_LIFETIME);
        let authorization = HeaderValue::from_str(&"t".repeat(TOKEN_BYTES)).expect("a token");
        for number in 0..2_500 {
            let key = (number % 100, format!("repository:{number}:pull"));
            known.0.insert(key, Known { authorization: authorization.clone(), lifetime });
        }
        known.0.run_pending_tasks();
        let kept = known.0.entry_count();
        assert!(0 < kept && kept <= KNOWN_BYTES / TOKEN_BYTES as u64, "{kept}");
    }
}
