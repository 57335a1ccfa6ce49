//! One bounded request: retries, redirects, and a body read as a stream.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::redirect;
use tokio::time::Instant;
use url::Url;

use super::address::{AddressRules, GuardedResolver, is_loopback_literal};
use super::error::{chain, shown};
use super::rest::Rests;
use super::{Answer, EndpointConfig, EndpointError, FetchError, Room, roots, success};

/// Longest wait for a connection with its TLS handshake: enough for a lost packet or two, and it
/// leaves time for another attempt inside an admission review.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a peer may leave what was sent without a sign of life, while an answer is awaited: one
/// that has vanished costs an attempt, and not every request until the kernel gives it up.
const SILENCE: Duration = Duration::from_secs(4);

/// How often a sign of life is asked for, where the protocol can (HTTP/2, section 6.7).
const PING: Duration = Duration::from_secs(2);

/// Most redirects followed; registries and metadata servers use one at most.
const REDIRECTS: usize = 3;

/// Most attempts after the first: more would only keep the reviews of a broken server waiting.
const RETRIES: u32 = 2;

/// The first pause between attempts; it grows fourfold.
const BACK_OFF: Duration = Duration::from_millis(100);

/// A request, ready to be sent.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) accept: Option<&'a str>,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) max_bytes: u64,
    pub(super) room: Option<&'a Room>,
    pub(super) deadline: Instant,
}

/// What becomes of a success's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Read,
    Left,
}

/// What came back: the answer, and the response where its body is left unread.
pub(super) struct Reply {
    pub(super) answer: Answer,
    pub(super) unread: Option<reqwest::Response>,
}

impl Reply {
    /// The same, where it is a success.
    pub(super) fn success(self) -> Result<Self, FetchError> {
        Ok(Self { answer: success(self.answer)?, unread: self.unread })
    }
}

/// Sends requests under one endpoint's address rules.
pub(super) struct Transport {
    client: reqwest::Client,
    rules: AddressRules,
    rests: Rests,
}

impl Transport {
    pub(super) fn new(
        config: &EndpointConfig,
        rules: AddressRules,
        resolver: GuardedResolver,
    ) -> Result<Self, EndpointError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .https_only(config.base.scheme() == "https")
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(SILENCE)
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(SILENCE - PING)
            .tls_backend_preconfigured(roots::client_config(config.ca_pem.as_deref())?)
            .dns_resolver(resolver);
        // Another machine's loopback is not ours, and what goes over plain http must not leave.
        if config.base.host().is_some_and(|host| is_loopback_literal(&host)) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| EndpointError::Client(chain(&error)))?;
        Ok(Self { client, rules, rests: Rests::default() })
    }

    /// Sends, following redirects on the same server. Any final status is `Ok`.
    pub(super) async fn run(&self, exchange: &Exchange<'_>) -> Result<Answer, FetchError> {
        Ok(self.send(exchange, Body::Read).await?.answer)
    }

    /// The same, where a success's body may be left unread.
    pub(super) async fn send(
        &self,
        exchange: &Exchange<'_>,
        body: Body,
    ) -> Result<Reply, FetchError> {
        let mut url = exchange.url.clone();
        for _ in 0..=REDIRECTS {
            let reply = self.with_retries(&url, exchange, body).await?;
            match redirect_target(&url, &reply.answer)? {
                None => return Ok(reply),
                Some(next) => url = next,
            }
        }
        Err(FetchError::Redirect { to: shown(&url), reason: "too many redirects" })
    }

    async fn with_retries(
        &self,
        url: &Url,
        exchange: &Exchange<'_>,
        body: Body,
    ) -> Result<Reply, FetchError> {
        let left = || exchange.deadline.saturating_duration_since(Instant::now());
        if let Some((pause, status)) = self.rests.wanted(url) {
            if pause >= left() {
                return Err(FetchError::Status(status));
            }
            tokio::time::sleep(pause).await;
        }
        let mut attempt = 0;
        loop {
            let result = self.once(url, exchange, body).await;
            let wanted = match &result {
                Ok(Reply { answer, .. }) if is_transient(answer.status) => {
                    let wanted = retry_after(&answer.headers);
                    wanted.inspect(|pause| self.rests.asked_for(url, *pause, answer.status))
                }
                Err(error) if error.is_transient() => None,
                _ => return result,
            };
            let pause = wanted.unwrap_or_else(|| back_off(attempt));
            if attempt == RETRIES || pause >= left() {
                return result;
            }
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    async fn once(
        &self,
        url: &Url,
        exchange: &Exchange<'_>,
        body: Body,
    ) -> Result<Reply, FetchError> {
        self.rules.check(url)?;
        let mut request = self.client.request(exchange.method.clone(), url.clone());
        if let Some(accept) = exchange.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(authorization) = &exchange.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let mut response = request.send().await.map_err(FetchError::from_client)?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let answer = |headers, body| Answer { status: status.as_u16(), headers, body };
        // Only a success has a body that anybody reads.
        if !status.is_success() || exchange.method == Method::HEAD {
            return Ok(Reply { answer: answer(headers, Bytes::new()), unread: None });
        }
        check_length(&headers, exchange.max_bytes)?;
        if body == Body::Left {
            return Ok(Reply { answer: answer(headers, Bytes::new()), unread: Some(response) });
        }
        let body = read_body(response, exchange.max_bytes, exchange.room).await?;
        Ok(Reply { answer: answer(headers, body), unread: None })
    }
}

/// Refuses a body that says that it is longer than `limit`.
fn check_length(headers: &HeaderMap, limit: u64) -> Result<(), FetchError> {
    match number(headers.get(CONTENT_LENGTH)) {
        Some(length) if length > limit => Err(FetchError::TooLarge { limit }),
        _ => Ok(()),
    }
}

/// Reads at most `limit` bytes. Nothing decompresses, so the limit is of what is kept.
async fn read_body(
    mut response: reqwest::Response,
    limit: u64,
    room: Option<&Room>,
) -> Result<Bytes, FetchError> {
    let mut share = room.map(Room::share);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(FetchError::from_client)? {
        if body.len() as u64 + chunk.len() as u64 > limit {
            return Err(FetchError::TooLarge { limit });
        }
        if let Some(share) = &mut share {
            share.grow(chunk.len())?;
        }
        body.extend_from_slice(&chunk);
    }
    if let Some(share) = share {
        share.keep();
    }
    // Whoever keeps it keeps nothing more.
    body.shrink_to_fit();
    Ok(body.into())
}

fn number(header: Option<&HeaderValue>) -> Option<u64> {
    header?.to_str().ok()?.trim().parse().ok()
}

/// Where the answer redirects to; only the same scheme, host and port are followed, so that
/// neither the request nor its credentials get elsewhere.
fn redirect_target(from: &Url, answer: &Answer) -> Result<Option<Url>, FetchError> {
    if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = answer.headers.get(LOCATION) else {
        return Err(FetchError::Protocol("a redirect without a location".to_owned()));
    };
    let location = String::from_utf8_lossy(location.as_bytes());
    let Ok(next) = from.join(&location) else {
        return Err(FetchError::Redirect { to: "(unreadable)".to_owned(), reason: "not an URL" });
    };
    let refused = |reason| FetchError::Redirect { to: shown(&next), reason };
    if next.origin() != from.origin() {
        return Err(refused("it leads to another server"));
    }
    // The client would turn them into an authorization of the redirector's choice.
    if !next.username().is_empty() || next.password().is_some() {
        return Err(refused("it carries credentials"));
    }
    Ok(Some(next))
}

/// Statuses that may be gone at the next attempt: 429 and 5xx, but not "not implemented".
fn is_transient(status: u16) -> bool {
    status == 429 || (status >= 500 && status != 501)
}

/// `Retry-After`, as seconds or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?;
    if let Some(seconds) = number(Some(value)) {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTimeParser::new().parse_timestamp(value.to_str().ok()?).ok()?;
    // A date that is past means now.
    Some(Duration::try_from(date.duration_since(Timestamp::now())).unwrap_or_default())
}

/// The pause before the attempt after `attempt`, between half and one and a half times its size
/// so that clients do not come back all at once.
fn back_off(attempt: u32) -> Duration {
    // A freshly keyed hash is random enough to spread pauses.
    let random = RandomState::new().hash_one(attempt) % 1024;
    let base = BACK_OFF * 4_u32.pow(attempt);
    base / 2 + base.mul_f64(random as f64 / 1024.0)
}
