//! Bounds on what a connection may cost.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::Request;
use axum_server::accept::Accept;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::fair::{Place, Places};

/// Longest wait for a request's header on a connection that has had one: it runs while the
/// connection idles too, so it is as long as an idle connection may live.
const IDLE_OR_HEADER: Duration = Duration::from_secs(120);

/// How long the API server keeps an idle connection (the default of Kubernetes' Go client). It has
/// to be the first to close: a request that it sends just as we do is lost, and not sent again.
const API_SERVER_IDLE: Duration = Duration::from_secs(90);

const _: () = assert!(IDLE_OR_HEADER.as_secs() > API_SERVER_IDLE.as_secs());

/// How often an HTTP/2 client has to show that it is there...
const PING_EVERY: Duration = Duration::from_secs(30);

/// ...and how fast.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Most requests at one time on one HTTP/2 connection, as in Go's server. The API server itself speaks
/// HTTP/1.1 to webhooks.
const STREAMS: u32 = 250;

/// Largest header of a request on HTTP/2, in bytes, where a connection has many; the API server's is
/// some hundred.
const HEADER_BYTES: u32 = 4 << 10;

/// The same on HTTP/1, and most that is read of a connection at one time.
const READ_BYTES: usize = 16 << 10;

/// Sets the bounds of HTTP/1 and HTTP/2.
pub(super) fn limit(builder: &mut Builder<TokioExecutor>) {
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_OR_HEADER)
        .max_buf_size(READ_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES);
}

/// Whose request it is, by the address of the connection: an extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// How many connections there may be; half of them are the most from one address.
#[derive(Debug, Clone)]
pub(super) struct Connections(Arc<Places<IpAddr>>);

impl Connections {
    pub(super) fn new(most: usize) -> Self {
        Self(Places::new(most))
    }
}

/// Accepts connections while there are not too many.
#[derive(Debug, Clone)]
pub(super) struct Capped<A> {
    inner: A,
    connections: Connections,
}

impl<A> Capped<A> {
    pub(super) fn new(inner: A, connections: Connections) -> Self {
        Self { inner, connections }
    }
}

type Accepting<I, S> = Pin<Box<dyn Future<Output = io::Result<(I, S)>> + Send>>;

impl<A, S> Accept<TcpStream, S> for Capped<A>
where
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
{
    type Stream = A::Stream;
    type Service = Counted<A::Service>;
    type Future = Accepting<Self::Stream, Self::Service>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let peer = stream.peer_addr().map(|address| address.ip().to_canonical());
        let place = peer.map(|peer| (peer, self.connections.0.try_take(peer)));
        let accepting = self.inner.accept(stream, service);
        Box::pin(async move {
            let (peer, place) = place?;
            let place = place.ok_or_else(|| io::Error::other("too many connections"))?;
            let (stream, inner) = accepting.await?;
            Ok((stream, Counted { inner, peer: Peer(peer), _place: Arc::new(place) }))
        })
    }
}

/// A connection's service: the connection counts while this lives.
#[derive(Debug, Clone)]
pub(super) struct Counted<S> {
    inner: S,
    peer: Peer,
    _place: Arc<Place<IpAddr>>,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        self.inner.call(request)
    }
}
