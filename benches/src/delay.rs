//! A distance that can be chosen: a proxy over TLS that keeps every request for a while.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use countersign_e2e::Outcome;
use countersign_e2e::pki::Authority;
use countersign_e2e::process::free_port;

/// Longest time for one request to the server behind.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A running proxy.
pub(crate) struct Delay {
    host: String,
    handle: Handle<std::net::SocketAddr>,
}

struct Forward {
    upstream: String,
    delay: Duration,
    /// A text in challenges, and what stands there instead.
    realm: Option<(String, String)>,
    client: reqwest::Client,
}

impl Delay {
    /// Starts a proxy for the server at `upstream` (`https://localhost:PORT`). `realm` is the
    /// address of a token server that its challenges name, and that of the proxy before it.
    pub(crate) fn start(
        authority: &Authority,
        upstream: &str,
        delay: Duration,
        realm: Option<(String, String)>,
    ) -> Outcome<Self> {
        let port = free_port()?;
        let identity = authority.server(&format!("proxy-{port}"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let client = client(authority.certificate())?;
        let forward = Arc::new(Forward { upstream: upstream.to_owned(), delay, realm, client });
        let app = Router::new().fallback(forward_later).with_state(forward);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let config =
            runtime.block_on(RustlsConfig::from_pem_file(&identity.certificate, &identity.key))?;
        let handle = Handle::new();
        let ended = handle.clone();
        thread::spawn(move || {
            runtime.block_on(async move {
                // Waiting to fill a segment would add a delay of its own.
                let tls = RustlsAcceptor::new(config).acceptor(NoDelayAcceptor::new());
                if let Ok(server) = axum_server::from_tcp(listener) {
                    // A failure shows in the client that gets no answer.
                    let _ = server.acceptor(tls).handle(ended).serve(app.into_make_service()).await;
                }
            });
        });
        Ok(Self { host: format!("localhost:{port}"), handle })
    }

    /// `localhost:PORT`.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// `https://localhost:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.host)
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

/// An asynchronous client that trusts the authority in this PEM file and nothing else.
pub(crate) fn client(authority: &Path) -> Outcome<reqwest::Client> {
    let authority = reqwest::Certificate::from_pem(&std::fs::read(authority)?)?;
    Ok(reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([authority])
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .build()?)
}

async fn forward_later(
    State(forward): State<Arc<Forward>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    tokio::time::sleep(forward.delay).await;
    match forward.send(method, &uri, headers, body).await {
        Ok(answer) => answer,
        Err(failure) => (StatusCode::BAD_GATEWAY, failure.to_string()).into_response(),
    }
}

impl Forward {
    async fn send(
        &self,
        method: Method,
        uri: &Uri,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Outcome<Response> {
        let url =
            format!("{}{}", self.upstream, uri.path_and_query().map_or("/", |path| path.as_str()));
        headers.remove(header::HOST);
        let answer = self.client.request(method, url).headers(headers).body(body).send().await?;
        let mut forwarded = Response::new(Body::empty());
        *forwarded.status_mut() = answer.status();
        *forwarded.headers_mut() = answer.headers().clone();
        if let Some((from, to)) = &self.realm
            && let Some(challenge) = forwarded.headers_mut().get_mut(header::WWW_AUTHENTICATE)
        {
            *challenge = challenge.to_str()?.replace(from, to).parse()?;
        }
        // The server behind spoke of a connection of its own.
        forwarded.headers_mut().remove(header::TRANSFER_ENCODING);
        forwarded.headers_mut().remove(header::CONNECTION);
        *forwarded.body_mut() = Body::from(answer.bytes().await?);
        Ok(forwarded)
    }
}
