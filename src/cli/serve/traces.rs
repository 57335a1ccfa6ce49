//! Where spans go.

use std::path::PathBuf;

use url::Url;

use crate::telemetry::Traces;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct TraceArgs {
    /// The collector that traces are sent to, by OTLP over HTTP, as
    /// http://collector.observability:4318; without it none are made
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
    /// Authorities of the collector's certificate, in PEM, beside the system's; read once
    #[arg(long, value_name = "FILE", env = "OTEL_EXPORTER_OTLP_CERTIFICATE")]
    otlp_ca: Option<PathBuf>,
}

impl TraceArgs {
    /// Begins to send, where that is wanted. `instance` is this replica's name.
    pub(super) fn start(&self, instance: Option<&str>) -> Result<Option<Traces>, Vec<String>> {
        // The specification takes an empty variable for none.
        let Some(url) = self.otlp_endpoint.as_deref().filter(|url| !url.is_empty()) else {
            return Ok(None);
        };
        let endpoint =
            Url::parse(url).map_err(|error| vec![format!("--otlp-endpoint: {error}")])?;
        let ca = self.otlp_ca.as_deref().filter(|path| !path.as_os_str().is_empty());
        let ca = ca.map(std::fs::read).transpose();
        let ca = ca.map_err(|error| vec![format!("--otlp-ca cannot be read: {error}")])?;
        let traces = Traces::start(&endpoint, ca.as_deref(), instance);
        traces.map(Some).map_err(|error| vec![error.to_string()])
    }
}
