//! Spans, sent to a collector by OTLP over HTTP where one is configured.
//!
//! They are telemetry. No review waits for the collector: spans go into a queue of 2048 (the
//! specification's `OTEL_BSP_MAX_QUEUE_SIZE`) that a thread empties, and those that find it full are
//! dropped. Where no collector is configured spans are off where they would be made.

mod client;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanData, SpanExporter, SpanProcessor,
};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tracing::Span;
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
use tracing_subscriber::registry::LookupSpan;
use url::Url;

use client::Client;

/// The target of all spans, by which they are told from what is logged.
pub(crate) const SPANS: &str = "countersign::span";

/// Where a collector takes spans, below its URL. Source: the OTLP specification, "OTLP/HTTP Request".
const PATH: &str = "v1/traces";

/// Longest time for one request to the collector. Only other spans wait for it.
const EXPORT: Duration = Duration::from_secs(10);

/// How long the last spans may take to be sent at the end.
const FLUSH: Duration = Duration::from_secs(2);

/// Most bytes of an attribute that users or servers chose; a longer one is cut.
const TEXT_BYTES: usize = 512;

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The collector's URL cannot be used.
    #[error(
        "--otlp-endpoint {url}: {reason}; give the collector's URL, as http://collector.observability:4318"
    )]
    Endpoint {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The exporter could not be made.
    #[error("spans cannot be sent: {0}")]
    Exporter(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SentLabel {
    outcome: &'static str,
}

/// Sends spans for as long as it lives.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    ended: Counter,
    sent: Sent,
}

impl Traces {
    /// Sends spans to the collector at `endpoint`, whose certificate is from an authority of the
    /// system or of `ca_pem`; contacts nobody yet. `instance` is this replica's name. What else the
    /// specification lets the environment say holds too: `OTEL_EXPORTER_OTLP_HEADERS`,
    /// `OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_*`. Needs a Tokio runtime.
    pub fn start(
        endpoint: &Url,
        ca_pem: Option<&[u8]>,
        instance: Option<&str>,
    ) -> Result<Self, TracesError> {
        let client = Client::new(endpoint, ca_pem, EXPORT)?;
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(signals(endpoint))
            .with_timeout(EXPORT)
            .build()
            .map_err(|error| TracesError::Exporter(error.to_string()))?;
        let sent = Sent::default();
        let exporter = Counted { exporter, sent: sent.clone() };
        let (queue, ended) = (BatchSpanProcessor::builder(exporter).build(), Counter::default());
        let queue = Queue { queue, ended: ended.clone() };
        let instance = instance.filter(|name| !name.is_empty());
        let instance = instance.map(|name| KeyValue::new("service.instance.id", name.to_owned()));
        let resource = Resource::builder()
            .with_service_name("countersign")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attributes(instance)
            .build();
        let provider =
            SdkTracerProvider::builder().with_resource(resource).with_span_processor(queue).build();
        Ok(Self { provider, ended, sent })
    }

    /// Counts what there was to send, and what is sent of it.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("spans", "Spans that ended", self.ended.clone());
        registry.register(
            "spans_exported",
            "Spans that were to be sent to the collector, by what became of them",
            self.sent.spans.clone(),
        );
    }

    pub(super) fn layer<S>(&self) -> OpenTelemetryLayer<S, SdkTracer>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("countersign"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
    }

    /// Sends what is left, for two seconds at most.
    pub async fn end(self) {
        // It waits for a thread, which waits for this runtime.
        let ending =
            tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(FLUSH));
        if let Ok(Err(error)) = ending.await {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

/// The collector's URL for spans.
fn signals(endpoint: &Url) -> String {
    format!("{}/{PATH}", endpoint.as_str().trim_end_matches('/'))
}

/// How spans fared.
#[derive(Debug, Clone)]
struct Sent {
    spans: Family<SentLabel, Counter>,
    fails: Arc<AtomicBool>,
}

impl Default for Sent {
    fn default() -> Self {
        let spans = Family::default();
        for outcome in ["sent", "failed"] {
            drop(spans.get_or_create(&SentLabel { outcome }));
        }
        Self { spans, fails: Arc::default() }
    }
}

/// Counts what an exporter sends, and tells when it begins to fail and when it no longer does.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    sent: Sent,
}

impl Sent {
    fn count(&self, spans: u64, ended: &OTelSdkResult) {
        let outcome = if ended.is_ok() { "sent" } else { "failed" };
        self.spans.get_or_create(&SentLabel { outcome }).inc_by(spans);
        let failed = self.fails.swap(ended.is_err(), Ordering::Relaxed);
        match ended {
            Err(error) if !failed => tracing::warn!(%error, "spans cannot be sent"),
            Ok(()) if failed => tracing::info!("spans are sent again"),
            _ => {}
        }
    }
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let ended = self.exporter.export(batch).await;
        self.sent.count(spans, &ended);
        ended
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Counts what ends, also what the queue has no room for: that, no exporter sees.
#[derive(Debug)]
struct Queue {
    queue: BatchSpanProcessor,
    ended: Counter,
}

impl SpanProcessor for Queue {
    fn on_start(&self, span: &mut opentelemetry_sdk::trace::Span, context: &Context) {
        self.queue.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        self.ended.inc();
        self.queue.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}

/// Who asked for work that goes on without them: it is part of their trace, and does not keep their
/// span open.
#[derive(Debug, Clone)]
pub(crate) struct Asker(Option<Arc<Context>>);

impl Asker {
    /// The span of the moment; nobody, where spans are off.
    pub(crate) fn current() -> Self {
        let span = Span::current();
        Self((!span.is_disabled()).then(|| Arc::new(span.context())))
    }

    /// A span, which has to be one without a parent, as their child.
    pub(crate) fn asks(&self, span: Span) -> Span {
        if let Some(context) = &self.0 {
            // It fails where the span is off or has begun; then it is its own trace.
            let _ = span.set_parent(Context::clone(context));
        }
        span
    }
}

/// A text of users' or servers' as an attribute, within its bound.
pub(crate) fn attribute(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES)]
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Span as _, Tracer as _};
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn the_collector_s_url_may_have_a_path_and_needs_a_host() {
        let url = |text: &str| Url::parse(text).expect("a URL");
        assert_eq!(signals(&url("http://c:4318")), "http://c:4318/v1/traces");
        assert_eq!(signals(&url("https://c/otlp/")), "https://c/otlp/v1/traces");
        for refused in ["ftp://c", "http://user:password@c:4318", "http://c/?a=b", "http://c/#a"] {
            let error = Client::new(&url(refused), None, EXPORT).expect_err(refused).to_string();
            assert!(error.starts_with("--otlp-endpoint "), "{error}");
            assert!(!error.contains("password"), "{error}");
        }
    }

    #[tokio::test]
    async fn spans_that_find_the_queue_full_are_seen_to_be_lost() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = silent.local_addr().expect("an address");
        let url = Url::parse(&format!("http://{address}")).expect("a URL");
        let traces = Traces::start(&url, None, None).expect("an exporter");
        let mut registry = Registry::default();
        traces.register(&mut registry);
        let tracer = traces.provider.tracer("test");
        for _ in 0..5000 {
            tracer.start("one of more than there is room for").end();
        }
        let mut text = String::new();
        encode(&mut text, &registry).expect("text");
        for line in [
            "spans_total 5000\n",
            "spans_exported_total{outcome=\"sent\"} 0\n",
            "spans_exported_total{outcome=\"failed\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        drop(silent);
        traces.end().await;
    }

    #[test]
    fn attributes_are_cut_between_characters() {
        assert_eq!(attribute("short"), "short");
        assert_eq!(attribute(&"€".repeat(1000)).len(), 510);
    }
}
