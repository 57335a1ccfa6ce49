//! What can go wrong. The texts are for logs, not for users.

use std::error::Error;
use std::io;

use countersign_verify::outcome::shortened;
use url::Url;

use super::address::Forbidden;

/// Why an [`Endpoint`](super::Endpoint) could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The base URL cannot be used.
    #[error("{url}: {reason}")]
    Base {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The private certificates cannot be read.
    #[error("the CA certificates cannot be read: {0}; expected certificates in PEM")]
    CaCertificates(String),
    /// A token host is not `host` or `host:port`.
    #[error("token host \"{0}\" is not host or host:port")]
    TokenHost(String),
    /// The user name contains a colon, which Basic authentication cannot carry.
    #[error("the user name contains a colon")]
    Username,
    /// The HTTP client could not be made, for instance because there are no certificates at all.
    #[error("the HTTP client could not be made: {0}")]
    Client(String),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The deadline passed.
    #[error("not answered within the deadline")]
    Deadline,
    /// The body is longer than was asked for.
    #[error("the body is longer than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The body is longer than there is room for at the moment.
    #[error("there is no room for the body at the moment")]
    NoRoom,
    /// Status 404.
    #[error("not found (404)")]
    NotFound,
    /// Status 401, also with whatever credentials there are.
    #[error("not authorized (401)")]
    Unauthorized,
    /// Any other status that is no success.
    #[error("status {0}")]
    Status(u16),
    /// The path is not one that may be asked for.
    #[error("\"{0}\" is not a plain absolute path")]
    InvalidPath(String),
    /// The host is, or resolves to, an address that is contacted only where configured.
    #[error("{host} is at {address}, which is contacted only where it is configured literally")]
    ForbiddenAddress {
        /// The host.
        host: String,
        /// Its address.
        address: String,
    },
    /// A redirect that is not followed.
    #[error("redirect to {to} refused: {reason}")]
    Redirect {
        /// Where it led: scheme, host and path.
        to: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// The bearer challenge's realm is not contacted.
    #[error("token realm {realm} refused: {reason}")]
    ForbiddenRealm {
        /// The realm's scheme, host and path.
        realm: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// The token server gave no token.
    #[error("no token from {realm}: {cause}")]
    Token {
        /// The realm's scheme, host and path.
        realm: String,
        /// What happened.
        cause: Box<FetchError>,
    },
    /// There is no connection, or it broke.
    #[error("no connection: {0}")]
    Connect(String),
    /// The server's certificate or its TLS is not acceptable.
    #[error("TLS: {0}")]
    Tls(String),
    /// A file that cannot be read.
    #[error("the file cannot be read: {0}")]
    File(String),
    /// The server does not speak the protocol.
    #[error("protocol: {0}")]
    Protocol(String),
}

impl FetchError {
    /// Tells what an error of the HTTP client is.
    pub(super) fn from_client(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if let Some(Forbidden { host, address }) = find::<Forbidden>(&error) {
            return Self::ForbiddenAddress { host: host.clone(), address: address.to_string() };
        }
        if let Some(tls) = find::<rustls::Error>(&error) {
            return Self::Tls(shortened(&tls.to_string()).into_owned());
        }
        if error.is_connect() || error.is_timeout() || find::<io::Error>(&error).is_some() {
            return Self::Connect(chain(&error));
        }
        Self::Protocol(chain(&error))
    }

    /// Whether it is the server that failed, or the way to it, and not this one request.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Deadline | Self::Connect(_) | Self::Tls(_) | Self::Protocol(_) => true,
            Self::Status(status) => *status == 429 || *status >= 500,
            Self::Token { cause, .. } => cause.is_outage(),
            _ => false,
        }
    }

    /// Whether the same request may do better at once. A connection that breaks between requests
    /// surfaces as `Protocol` too, and every request here is idempotent.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Protocol(_))
    }
}

/// An URL as logs may hold it, shortened: its query could be a presigned signature, its user a
/// password.
pub(crate) fn shown(url: &Url) -> String {
    let shown = match url.host() {
        Some(host) => {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{}://{host}{port}{}", url.scheme(), url.path())
        }
        None if url.scheme() == "file" => format!("file://{}", url.path()),
        None => format!("{}:...", url.scheme()),
    };
    shortened(&shown).into_owned()
}

/// The first error of type `T` among an error and its sources.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        // `io::Error::source` skips the error that it wraps.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The error and its sources, joined by `: ` and shortened: certificates and farewells of HTTP/2 are
/// quoted in them.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    shortened(&text).into_owned()
}
