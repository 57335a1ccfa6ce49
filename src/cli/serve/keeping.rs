//! What this replica keeps in the cluster: the lease, the certificate, the webhook configurations.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use kube::Client;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::api::is_dns_subdomain;
use crate::cluster::certificate::{CertificateChannels, CertificateKeeper, CertificateSettings};
use crate::cluster::lease::Candidate;
use crate::cluster::webhooks::{Authorities, WebhookKeeper, WebhookSettings};
use crate::server::{PairOrigin, Readiness};
use crate::telemetry::Metrics;

/// How long the lease may take to be given back.
const GIVE_BACK: Duration = Duration::from_secs(3);

/// Shortest life of a certificate, in seconds: a twelfth of it has to be a second.
const LIFETIME_LEAST: u64 = 12;

/// Longest life, in seconds: a year. Rotation is of no use where it is rarer.
const LIFETIME_MOST: u64 = 31_536_000;

/// The flags. None of them is required by itself: [`Self::checked`] says what is missing.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct KeepingArgs {
    /// The serving certificate and its chain, in PEM; read again when it changes
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The serving certificate's key, in PEM; read again when it changes
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// The Secret of Countersign's namespace in which it keeps an authority and a certificate of
    /// its own, instead of --tls-cert and --tls-key; the Secret has to be there, empty at first
    #[arg(long, value_name = "NAME")]
    tls_secret: Option<String>,
    /// The Service in front of the webhooks, for the names in the certificate of --tls-secret
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// How long certificates of --tls-secret are valid; they are renewed at two thirds of it
    #[arg(long, value_name = "SECONDS", default_value_t = 7_776_000,
          value_parser = clap::value_parser!(u64).range(LIFETIME_LEAST..=LIFETIME_MOST))]
    certificate_lifetime: u64,
    /// The webhook configurations, in YAML, without caBundle; they are applied when Countersign is
    /// ready, and kept so
    #[arg(long, value_name = "FILE")]
    webhooks: Option<PathBuf>,
    /// The ClusterRole that owns the webhook configurations: they go when it goes
    #[arg(long, value_name = "NAME")]
    webhooks_owner: Option<String>,
    /// The authorities that the webhook configurations are to name, in PEM, where the certificate
    /// is given by --tls-cert; read again when it changes
    #[arg(long, value_name = "FILE")]
    webhooks_ca: Option<PathBuf>,
    /// The Lease whose holder writes what the replicas share
    #[arg(long, value_name = "NAME", default_value = "countersign")]
    lease: String,
    /// This replica's name, as the holder of the lease
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    identity: Option<String>,
}

/// Where the pair comes from.
#[derive(Debug, Clone, PartialEq)]
enum PairFrom {
    Files { certificate: PathBuf, key: PathBuf },
    Secret { secret: String, service: String, lifetime: Duration },
}

/// What is kept, checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Keeping {
    pair: PairFrom,
    cluster: Option<InCluster>,
}

#[derive(Debug, Clone, PartialEq)]
struct InCluster {
    namespace: String,
    lease: String,
    identity: String,
    webhooks: Option<Webhooks>,
}

#[derive(Debug, Clone, PartialEq)]
struct Webhooks {
    file: PathBuf,
    owner: String,
    /// `None`: the authorities of the Secret.
    authorities: Option<PathBuf>,
}

impl KeepingArgs {
    /// This replica's name, which [`Self::checked`] requires in cluster mode.
    pub(super) fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    /// The flags, where they fit each other. `namespace` is Countersign's own in cluster mode.
    pub(super) fn checked(self, namespace: Option<&str>) -> Result<Keeping, Vec<String>> {
        let mut problems = Vec::new();
        let webhooks = self.webhooks(&mut problems);
        let pair = self.pair(&mut problems);
        if namespace.is_none() {
            let given =
                [("--tls-secret", self.tls_secret.is_some()), ("--webhooks", webhooks.is_some())];
            for (flag, _) in given.iter().filter(|(_, given)| *given) {
                problems.push(format!("{flag} needs --kubernetes: it is kept in the API server"));
            }
        }
        let cluster = namespace.map(|namespace| InCluster {
            namespace: namespace.to_owned(),
            lease: self.lease.clone(),
            identity: self.identity.clone().unwrap_or_default(),
            webhooks,
        });
        if let Some(InCluster { lease, identity, .. }) = &cluster {
            name("--lease", lease, &mut problems);
            if identity.is_empty() {
                problems.push(
                    "--kubernetes needs --identity (POD_NAME): a name that no other replica has"
                        .to_owned(),
                );
            }
        }
        match pair {
            Some(pair) if problems.is_empty() => Ok(Keeping { pair, cluster }),
            _ => Err(problems),
        }
    }

    fn pair(&self, problems: &mut Vec<String>) -> Option<PairFrom> {
        match (&self.tls_secret, &self.tls_cert, &self.tls_key) {
            (Some(secret), None, None) => {
                name("--tls-secret", secret, problems);
                let Some(service) = &self.service else {
                    problems.push(
                        "--tls-secret needs --service: the certificate is for its name".to_owned(),
                    );
                    return None;
                };
                name("--service", service, problems);
                let lifetime = Duration::from_secs(self.certificate_lifetime);
                Some(PairFrom::Secret {
                    secret: secret.clone(),
                    service: service.clone(),
                    lifetime,
                })
            }
            (None, Some(certificate), Some(key)) => {
                Some(PairFrom::Files { certificate: certificate.clone(), key: key.clone() })
            }
            (Some(_), ..) => {
                problems.push("--tls-secret excludes --tls-cert and --tls-key: the certificate is either kept by Countersign or given as files".to_owned());
                None
            }
            (None, ..) => {
                problems.push(
                    "give both --tls-cert and --tls-key, or, in a cluster, --tls-secret".to_owned(),
                );
                None
            }
        }
    }

    fn webhooks(&self, problems: &mut Vec<String>) -> Option<Webhooks> {
        let Some(file) = &self.webhooks else {
            let given = [
                ("--webhooks-owner", self.webhooks_owner.is_some()),
                ("--webhooks-ca", self.webhooks_ca.is_some()),
            ];
            for (flag, _) in given.iter().filter(|(_, given)| *given) {
                problems.push(format!("{flag} needs --webhooks"));
            }
            return None;
        };
        match (&self.tls_secret, &self.webhooks_ca) {
            (Some(_), Some(_)) => problems.push("--webhooks-ca excludes --tls-secret, which has the authorities in it".to_owned()),
            (None, None) => problems.push("--webhooks needs --webhooks-ca where the certificate is given by --tls-cert: the API server has to know its authority".to_owned()),
            _ => {}
        }
        let Some(owner) = &self.webhooks_owner else {
            problems.push("--webhooks needs --webhooks-owner: without an owner the configurations would outlive an uninstall, and refuse every pod".to_owned());
            return None;
        };
        name("--webhooks-owner", owner, problems);
        let authorities = self.webhooks_ca.clone();
        Some(Webhooks { file: file.clone(), owner: owner.clone(), authorities })
    }
}

fn name(flag: &str, value: &str, problems: &mut Vec<String>) {
    // The names of roles may have colons in them, too.
    if !is_dns_subdomain(&value.replace(':', "-")) {
        problems.push(format!("{flag}: {value:?} is not a name of a Kubernetes object"));
    }
}

impl Keeping {
    /// Makes everything ready to run, and does nothing yet but read the file of webhook
    /// configurations. In cluster mode there has to be a client.
    pub(super) fn prepare(
        self,
        client: Option<&Client>,
        readiness: &Readiness,
        metrics: &Metrics,
    ) -> Result<Prepared, Vec<String>> {
        let (holding, holds) = watch::channel(false);
        let (Some(cluster), Some(client)) = (self.cluster, client) else {
            return match self.pair {
                PairFrom::Files { certificate, key } => {
                    let origin = PairOrigin::Files { certificate, key };
                    Ok(Prepared { origin, holds, lease: None, keepers: Vec::new() })
                }
                PairFrom::Secret { .. } => Err(vec!["--tls-secret needs a cluster".to_owned()]),
            };
        };
        let InCluster { namespace, lease, identity, webhooks } = cluster;
        let mut keepers: Vec<BoxFuture<'static, ()>> = Vec::new();
        let (applying, applied) = watch::channel(None);
        let (bundling, bundle) = watch::channel(None);
        let origin = match self.pair {
            PairFrom::Files { certificate, key } => PairOrigin::Files { certificate, key },
            PairFrom::Secret { secret, service, lifetime } => {
                let (pairing, pair) = watch::channel(None);
                let settings =
                    CertificateSettings { namespace: namespace.clone(), secret, service, lifetime };
                let channels = CertificateChannels {
                    holds: holds.clone(),
                    applied: webhooks.is_some().then_some(applied),
                    pair: pairing,
                    bundle: bundling,
                };
                let (readiness, metrics) = (readiness.clone(), metrics.clone());
                let keeper =
                    CertificateKeeper::new(client.clone(), settings, channels, readiness, metrics);
                keepers.push(Box::pin(keeper.run()));
                PairOrigin::Kept(pair)
            }
        };
        if let Some(Webhooks { file, owner, authorities }) = webhooks {
            let authorities = authorities.map_or(Authorities::Kept(bundle), Authorities::File);
            let settings = WebhookSettings { file, owner, authorities };
            let (holds, readiness) = (holds.clone(), readiness.clone());
            let keeper = WebhookKeeper::new(client.clone(), settings, holds, readiness, applying)
                .map_err(|problem| vec![problem])?;
            keepers.push(Box::pin(keeper.run()));
        }
        let candidate = Candidate::new(client.clone(), &namespace, &lease, &identity);
        Ok(Prepared { origin, holds, lease: Some((candidate, holding)), keepers })
    }
}

/// What is going to be kept.
pub(super) struct Prepared {
    origin: PairOrigin,
    holds: watch::Receiver<bool>,
    lease: Option<(Candidate, watch::Sender<bool>)>,
    keepers: Vec<BoxFuture<'static, ()>>,
}

impl Prepared {
    /// Where the pair to serve with comes from.
    pub(super) fn origin(&self) -> PairOrigin {
        self.origin.clone()
    }

    /// Whether this replica holds the lease; never, outside of a cluster.
    pub(super) fn holds(&self) -> watch::Receiver<bool> {
        self.holds.clone()
    }

    /// Begins to keep it; the lease until `shutdown`.
    pub(super) fn start(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Running {
        let broke = Arc::new(Notify::new());
        let lease = self.lease.map(|(candidate, holding)| {
            let candidate: BoxFuture<'static, ()> = Box::pin(candidate.run(holding, shutdown));
            watched(candidate, &broke)
        });
        let keepers = self.keepers.into_iter().map(|keeper| watched(keeper, &broke)).collect();
        Running { lease, keepers, broke }
    }
}

/// Runs a keeper, and tells of its panic.
fn watched(keeper: BoxFuture<'static, ()>, broke: &Arc<Notify>) -> JoinHandle<()> {
    let broke = Arc::clone(broke);
    tokio::spawn(async move {
        if AssertUnwindSafe(keeper).catch_unwind().await.is_err() {
            broke.notify_one();
        }
    })
}

/// What is being kept.
pub(super) struct Running {
    lease: Option<JoinHandle<()>>,
    keepers: Vec<JoinHandle<()>>,
    broke: Arc<Notify>,
}

impl Running {
    /// Ready when something is kept no more, by a bug: nobody else would take over from a replica
    /// that goes on as if nothing was.
    pub(super) async fn broke(&self) {
        self.broke.notified().await;
    }

    /// Ends it; the lease was given up at the shutdown.
    pub(super) async fn end(self) {
        self.keepers.iter().for_each(JoinHandle::abort);
        if let Some(lease) = self.lease {
            let ending = lease.abort_handle();
            if tokio::time::timeout(GIVE_BACK, lease).await.is_err() {
                ending.abort();
            }
        }
    }
}

#[cfg(test)]
mod tests;
