//! `countersign serve`: the webhooks.

mod keeping;
mod pulls;
mod traces;

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use clap::ArgGroup;
use futures_util::future::BoxFuture;
use kube::Client;
use prometheus_client::registry::Registry;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{Exit, complain};
use crate::admission::{self, Admission, CustomKind, Kinds, Settings, Templates};
use crate::cluster::events::Events;
use crate::cluster::{self, Cluster};
use crate::config::ReviewArgs;
use crate::http;
use crate::metadata::MemoryStore;
use crate::review::Reviewer;
use crate::server::{Readiness, ServeConfig, ServeError, Server};
use crate::snapshot::Snapshot;
use crate::telemetry::{self, DecisionLog, Format, Lines, Metrics, Traces};
use crate::watch::Watch;
use keeping::{KeepingArgs, Running};

/// How long the last lines of the log may take to be written.
const FLUSH: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("from").required(true).args(["policies", "kubernetes"]))]
pub(super) struct Args {
    /// A file or folder of TrustPolicy and TrustSource resources, and of the ConfigMaps and
    /// Secrets that they name, in YAML or JSON; may repeat; read again when it changes
    #[arg(long, value_name = "FILE|DIR", env = "COUNTERSIGN_POLICIES")]
    policies: Vec<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    review: ReviewArgs,
    #[command(flatten)]
    pulls: pulls::PullArgs,
    /// Where the API server reaches the webhooks, at /validate and /mutate, and in a cluster at
    /// /resources
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Where /livez, /readyz and /metrics answer, without TLS
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8080")]
    probe_listen: SocketAddr,
    #[command(flatten)]
    keeping: KeepingArgs,
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
    #[command(flatten)]
    traces: traces::TraceArgs,
}

#[derive(Debug, clap::Args)]
struct ClusterArgs {
    /// Read TrustPolicies and TrustSources, and the namespaces' labels, from the API server that
    /// KUBECONFIG or the pod's service account names
    #[arg(long, requires = "system_namespace", conflicts_with = "state_dir")]
    kubernetes: bool,
    /// Countersign's own namespace: TrustSources name ConfigMaps and Secrets in it
    #[arg(long, value_name = "NS", env = "POD_NAMESPACE")]
    system_namespace: Option<String>,
    /// Where nothing was heard from the API server for so many seconds, nothing is admitted
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(3..=3600))]
    watch_stale_after: u64,
}

pub(super) async fn run(args: Args) -> Exit {
    let lines = match Lines::stderr() {
        Ok(lines) => lines,
        Err(error) => return complain(&format!("the log cannot be written: {error}")),
    };
    let served = match args.traces.start(args.keeping.identity()) {
        Ok(traces) => {
            let served = serve(args, &lines, traces.as_ref()).await;
            if let Some(traces) = traces {
                traces.end().await;
            }
            served
        }
        Err(problems) => Err(problems),
    };
    lines.flush(FLUSH);
    match served {
        Ok(()) => Exit::Done,
        Err(problems) => problems.iter().fold(Exit::Usage, |_, problem| complain(problem)),
    }
}

async fn serve(args: Args, lines: &Lines, traces: Option<&Traces>) -> Result<(), Vec<String>> {
    telemetry::init_with(args.log_format, &args.log, lines, traces).map_err(one)?;
    raise_file_limit();
    let (mut registry, metrics) = measured(lines, traces);
    let namespace = args.cluster.system_namespace.as_deref().filter(|_| args.cluster.kubernetes);
    let keeping = args.keeping.clone().checked(namespace)?;
    let kinds = Kinds::new(&args.custom_kind).map_err(one)?;
    let readiness = Readiness::new();
    let client = match args.cluster.kubernetes || args.pulls.wanted() {
        true => Some(Client::try_default().await.map_err(one)?),
        false => None,
    };
    let keeping = keeping.prepare(client.as_ref(), &readiness, &metrics)?;
    let (events, telling) = client
        .as_ref()
        .zip(args.keeping.identity())
        .filter(|_| args.cluster.kubernetes)
        .map(|(client, identity)| Events::new(client.clone(), identity, &metrics))
        .unzip();
    let Source { reviewer, latest, following } = match &client {
        Some(client) if args.cluster.kubernetes => {
            let cluster = cluster(&args, client, &metrics).with_events(events.clone());
            let checkpoints = cluster.checkpoints();
            Metrics::watch_remembered(&mut registry, move || checkpoints.counts());
            from_cluster(&args, client, cluster, keeping.holds(), &readiness)
        }
        _ => from_files(&args, client.as_ref())?,
    };
    Metrics::watch_repositories(&mut registry, reviewer.repositories());
    Metrics::watch_state(&mut registry, &readiness, &keeping.holds(), &reviewer);
    let deadline = Duration::from_secs(args.deadline);
    let settings = Settings { templates: args.templates, deadline, ..Settings::new(kinds) };
    let log = DecisionLog::new(lines.clone());
    let admission = Admission::new(reviewer, settings, metrics.clone(), log).with_events(events);
    let admission = Arc::new(admission);
    let resources = latest.map(|latest| admission::resources_router(admission.clone(), latest));
    let router = admission::router(admission).merge(resources.unwrap_or_else(Router::new));

    let config = ServeConfig {
        client_ca: args.client_ca,
        ..ServeConfig::new(args.listen, args.probe_listen, keeping.origin())
    };
    let server = Server::bind(config, metrics).map_err(one)?;
    let listening = (server.webhook_address(), server.probe_address());
    if let (Ok(webhooks), Ok(probes)) = listening {
        tracing::info!(%webhooks, %probes, "listening");
    }
    let _telling = telling.map(tokio::spawn);
    http::read_system_certificates();
    let shutdown = self::shutdown().map_err(one)?;
    let kept = keeping.start(self::shutdown().map_err(one)?);
    let serving = server.run(router, readiness, Arc::new(registry), shutdown);
    let served = until_one_ends(serving, following, &kept).await;
    kept.end().await;
    served
}

/// What is measured of every replica.
fn measured(lines: &Lines, traces: Option<&Traces>) -> (Registry, Metrics) {
    let mut registry = Registry::with_prefix("countersign");
    let metrics = Metrics::register(&mut registry);
    Metrics::watch_lines(&mut registry, lines);
    if let Some(traces) = traces {
        traces.register(&mut registry);
    }
    (registry, metrics)
}

/// Serves until it was asked to stop, or what has to go on for ever has ended.
async fn until_one_ends(
    serving: impl Future<Output = Result<(), ServeError>>,
    following: BoxFuture<'static, ()>,
    kept: &Running,
) -> Result<(), Vec<String>> {
    let mut following = tokio::spawn(following);
    tokio::select! {
        served = serving => {
            following.abort();
            served.map_err(one)
        }
        // Policies that are followed no more would answer for ever.
        ended = &mut following => {
            let how = ended.err().map_or_else(String::new, |error| format!(": {error}"));
            Err(vec![format!("following the policies ended, which is a bug{how}")])
        }
        () = kept.broke() => {
            following.abort();
            Err(vec!["what is kept in the cluster is kept no more, which is a bug".to_owned()])
        }
    }
}

/// Where policies come from.
struct Source {
    reviewer: Arc<Reviewer>,
    /// What resources are checked against at admission; files are not admitted.
    latest: Option<Arc<cluster::Latest>>,
    /// Puts every change in place, for ever.
    following: BoxFuture<'static, ()>,
}

fn from_files(args: &Args, client: Option<&Client>) -> Result<Source, Vec<String>> {
    let (watch, snapshot) = Watch::start(args.policies.clone(), args.review.registries())?;
    let pull_secrets = client.and_then(|client| args.pulls.pull_secrets(client));
    let reviewer = args.review.reviewer(snapshot).map_err(one)?;
    let reviewer = Arc::new(reviewer.with_pull_secrets(pull_secrets));
    let following = Box::pin(watch.follow(Arc::clone(&reviewer)));
    Ok(Source { reviewer, latest: None, following })
}

fn cluster(args: &Args, client: &Client, metrics: &Metrics) -> Cluster {
    let settings = cluster::Settings {
        system_namespace: args.cluster.system_namespace.clone().unwrap_or_default(),
        stale_after: Duration::from_secs(args.cluster.watch_stale_after),
        registries: args.review.registries(),
    };
    Cluster::new(client.clone(), settings, metrics)
}

fn from_cluster(
    args: &Args,
    client: &Client,
    cluster: Cluster,
    leads: watch::Receiver<bool>,
    readiness: &Readiness,
) -> Source {
    let memory = MemoryStore::in_cluster(cluster.checkpoints());
    let reviewer = args.review.reviewer_with(Snapshot::default(), memory);
    let reviewer = reviewer.with_pull_secrets(args.pulls.pull_secrets(client));
    let reviewer = Arc::new(reviewer.in_cluster(cluster.view()));
    let latest = Some(cluster.latest());
    for what in ["policies", "checkpoints"] {
        readiness.hold(what, "they have not been listed yet");
    }
    let following = cluster.follow(Arc::clone(&reviewer), readiness.clone(), leads);
    Source { reviewer, latest, following: Box::pin(following) }
}

fn one(error: impl Display) -> Vec<String> {
    vec![error.to_string()]
}

/// Opens as many files as the machine allows: every connection is one, and where none is left nobody
/// is answered. The limit that processes begin with is for programs that use select(2).
fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
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
