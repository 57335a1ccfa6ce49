//! A collector of traces: what is sent to it by OTLP over HTTP, read as the protocol has it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use axum_server::Handle;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message as _;

use crate::Outcome;

/// A span as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// What was done.
    pub name: String,
    /// The trace that it is part of.
    pub trace: Vec<u8>,
    /// Itself.
    pub id: Vec<u8>,
    /// The span that asked for it; empty where none did.
    pub parent: Vec<u8>,
    /// Its attributes, as text, in their order.
    pub attributes: Vec<(String, String)>,
    /// The attributes of who sent it, in the same way.
    pub resource: Vec<(String, String)>,
}

impl Span {
    /// An attribute; empty where there is none.
    pub fn attribute(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }
}

#[derive(Debug, Default)]
struct Taken {
    spans: Vec<Span>,
    refused: usize,
    headers: Vec<HeaderMap>,
}

/// A collector on a free loopback port. Dropping it ends it.
pub struct Collector {
    url: String,
    taken: Arc<Mutex<Taken>>,
    handle: Handle<SocketAddr>,
}

impl Collector {
    /// Starts it, on a thread of its own.
    pub fn start() -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let url = format!("http://{}", listener.local_addr()?);
        let taken = Arc::new(Mutex::default());
        let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&taken));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = Handle::new();
        let ending = handle.clone();
        thread::spawn(move || {
            runtime.block_on(async move {
                if let Ok(server) = axum_server::from_tcp(listener) {
                    // It ends when the handle says so; a failure shows in its clients.
                    let _ = server.handle(ending).serve(router.into_make_service()).await;
                }
            });
        });
        Ok(Self { url, taken, handle })
    }

    /// Its address: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Every span that has arrived.
    pub fn spans(&self) -> Vec<Span> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).spans.clone()
    }

    /// How many requests were none of the protocol.
    pub fn refused(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).refused
    }

    /// The headers of every request.
    pub fn headers(&self) -> Vec<HeaderMap> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).headers.clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

async fn take(
    State(taken): State<Arc<Mutex<Taken>>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    let is_protobuf =
        headers.get(header::CONTENT_TYPE).is_some_and(|it| it == "application/x-protobuf");
    taken.headers.push(headers);
    match ExportTraceServiceRequest::decode(body) {
        Ok(request) if is_protobuf => {
            taken.spans.extend(spans(request));
            StatusCode::OK
        }
        _ => {
            taken.refused += 1;
            StatusCode::BAD_REQUEST
        }
    }
}

fn spans(request: ExportTraceServiceRequest) -> impl Iterator<Item = Span> {
    request.resource_spans.into_iter().flat_map(|of_one| {
        let resource = of_one.resource.map(|it| texts(&it.attributes)).unwrap_or_default();
        let spans = of_one.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.map(move |span| Span {
            name: span.name,
            trace: span.trace_id,
            id: span.span_id,
            parent: span.parent_span_id,
            attributes: texts(&span.attributes),
            resource: resource.clone(),
        })
    })
}

fn texts(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|it| it.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|it| (it.key.clone(), text(&it.value))).collect()
}
