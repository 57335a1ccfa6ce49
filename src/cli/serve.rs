//! `countersign serve`: the webhooks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, complain};
use crate::admission::{self, Admission, CustomKind, Kinds, Settings, Templates};
use crate::config::ReviewArgs;
use crate::http;
use crate::server::{Readiness, ServeConfig, Server};
use crate::telemetry::{self, DecisionLog, Format, Lines, Metrics};
use crate::watch::Watch;

/// How long the last lines of the log may take to be written.
const FLUSH: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file or folder of TrustPolicy and TrustSource resources, and of the ConfigMaps and
    /// Secrets that they name, in YAML or JSON; may repeat; read again when it changes
    #[arg(long, value_name = "FILE|DIR", env = "COUNTERSIGN_POLICIES", required = true)]
    policies: Vec<PathBuf>,
    #[command(flatten)]
    review: ReviewArgs,
    /// Where the API server reaches the webhooks, at /validate and /mutate
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Where /livez, /readyz and /metrics answer, without TLS
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8080")]
    probe_listen: SocketAddr,
    /// The serving certificate and its chain, in PEM; read again when it changes
    #[arg(long, value_name = "FILE")]
    tls_cert: PathBuf,
    /// The serving certificate's key, in PEM; read again when it changes
    #[arg(long, value_name = "FILE")]
    tls_key: PathBuf,
    /// Authorities of client certificates, in PEM; where set, the API server has to show one
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// Longest time for a review, in seconds; keep it below the webhooks' timeoutSeconds
    #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=29))]
    deadline: u64,
    /// A kind that is not built in and carries a pod template, with the template's path, as
    /// argoproj.io/Rollout=spec.template; may repeat
    #[arg(long, value_name = "GROUP/KIND=PATH")]
    custom_kind: Vec<CustomKind>,
    /// What happens to workloads whose pods will be refused: Deny, or Warn. Their pods are refused
    /// either way
    #[arg(long, value_name = "ACTION", default_value = "Deny")]
    templates: Templates,
    /// How the log is written, to standard error
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    log_format: Format,
    /// What is logged: info, debug, or target=level, joined by commas
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

pub(super) async fn run(args: Args) -> Exit {
    let lines = match Lines::stderr() {
        Ok(lines) => lines,
        Err(error) => return complain(&format!("the log cannot be written: {error}")),
    };
    let served = serve(args, &lines).await;
    lines.flush(FLUSH);
    match served {
        Ok(()) => Exit::Done,
        Err(problems) => problems.iter().fold(Exit::Usage, |_, problem| complain(problem)),
    }
}

async fn serve(args: Args, lines: &Lines) -> Result<(), Vec<String>> {
    let one = |error: &dyn std::fmt::Display| vec![error.to_string()];
    telemetry::init(args.log_format, &args.log, lines).map_err(|error| one(&error))?;
    let mut registry = Registry::with_prefix("countersign");
    let metrics = Metrics::register(&mut registry);
    Metrics::watch_lines(&mut registry, lines);

    let kinds = Kinds::new(&args.custom_kind).map_err(|error| one(&error))?;
    let (watch, snapshot) = Watch::start(args.policies.clone(), args.review.registries())?;
    let reviewer = Arc::new(args.review.reviewer(snapshot).map_err(|error| one(&error))?);
    let deadline = Duration::from_secs(args.deadline);
    let settings = Settings { templates: args.templates, deadline, ..Settings::new(kinds) };
    let log = DecisionLog::new(lines.clone());
    let admission = Admission::new(Arc::clone(&reviewer), settings, metrics.clone(), log);

    let config = ServeConfig {
        client_ca: args.client_ca,
        ..ServeConfig::new(args.listen, args.probe_listen, args.tls_cert, args.tls_key)
    };
    let server = Server::bind(config, metrics).map_err(|error| one(&error))?;
    let listening = (server.webhook_address(), server.probe_address());
    if let (Ok(webhooks), Ok(probes)) = listening {
        tracing::info!(%webhooks, %probes, "listening");
    }
    http::read_system_certificates();
    let shutdown = shutdown().map_err(|error| one(&error))?;
    let following = tokio::spawn(watch.follow(reviewer));
    let router = admission::router(Arc::new(admission));
    let served = server.run(router, Readiness::new(), Arc::new(registry), shutdown).await;
    following.abort();
    served.map_err(|error| one(&error))
}

/// Ready when the process is asked to stop.
fn shutdown() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
