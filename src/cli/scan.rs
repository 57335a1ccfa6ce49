//! `countersign scan`: what would be denied of what runs.

mod by_tag;
mod change;
mod forecast;
mod pods;
mod policies;
mod report;
mod table;
mod trouble;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;

use super::progress::side_by_side;
use super::{Exit, Output, complain, namespace, one, print, print_json};
use crate::cluster::present::Present;
use crate::config::ReviewArgs;
use crate::review::{ImageReview, Reviewer};
use forecast::Lapse;
use pods::{Image, Running};
use report::{Finding, Report};

/// No installation reviews its pods: without them the cluster does not start.
const NEVER_REVIEWED: &str = "kube-system";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Every namespace, but those that the webhooks leave out: kube-system, Countersign's own, and
    /// what --exclude-namespace names
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
    /// The namespace; without it, the kubeconfig's
    #[arg(long, short, value_name = "NS", value_parser = namespace)]
    namespace: Option<String>,
    /// A namespace to leave out with -A, as webhooks.excludeNamespaces does; may repeat
    #[arg(long, value_name = "NS", value_parser = namespace, requires = "all_namespaces")]
    exclude_namespace: Vec<String>,
    /// Countersign's own namespace: TrustSources name ConfigMaps and Secrets in it
    #[arg(long, value_name = "NS", default_value = "countersign", value_parser = namespace)]
    system_namespace: String,
    /// Candidates: a file or folder of TrustPolicy and TrustSource resources, and of the ConfigMaps
    /// and Secrets that they name; may repeat. They replace what has the same kind and name and
    /// are added to the rest, and what they would change is told
    #[arg(long, value_name = "FILE|DIR")]
    policies: Vec<PathBuf>,
    #[command(flatten)]
    review: ReviewArgs,
    /// How the verdicts are printed
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: Output,
    /// Seconds that one image may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

pub(super) async fn run(args: Args) -> Exit {
    let report = match scan(&args).await {
        Ok(report) => report,
        Err(problems) => return problems.iter().fold(Exit::Usage, |_, problem| complain(problem)),
    };
    match args.output {
        Output::Json => print_json(&report.json()),
        Output::Text => print(&report.text()),
    }
    report.exit()
}

async fn scan(args: &Args) -> Result<Report, Vec<String>> {
    let candidates = policies::candidates(&args.policies)?;
    let compared = candidates.is_some();
    let (client, url) = connect().await.map_err(|problem| vec![problem])?;
    let current = client.default_namespace().to_owned();
    let namespace = (!args.all_namespaces).then(|| args.namespace.clone().unwrap_or(current));
    let place = match &namespace {
        Some(name) => format!("in namespace \"{name}\""),
        None => "in any namespace".to_owned(),
    };
    let left_out = args.left_out();
    let present = Present::new(client.clone(), &args.system_namespace);
    let policies = policies::read(&present, candidates, &args.review.registries(), &url).await?;
    let running = pods::running(&client, namespace.as_deref(), &left_out)
        .await
        .map_err(|error| vec![trouble::pods(namespace.as_deref(), &error, &url)])?;
    let view = Arc::new(present.view(namespace.as_deref()).await);
    let reviewer = args.review.reviewer(policies.present).map_err(|it| vec![it.to_string()])?;
    let reviewer = reviewer.in_cluster(view);
    let for_digests = by_tag::for_digests(&reviewer.snapshot());
    let candidate = policies.candidate.map(|snapshot| Arc::new(reviewer.beside(snapshot)));
    let present = Arc::new(reviewer);
    let scan = Scan { present, candidate, timeout: Duration::from_secs(args.timeout) };
    let pods = running.pods;
    let findings = by_tag::settle(scan.findings(running).await, &for_digests);
    Ok(Report { place, left_out, pods, findings, compared })
}

impl Args {
    /// The namespaces whose pods no webhook reviews.
    fn left_out(&self) -> BTreeSet<String> {
        if !self.all_namespaces {
            return BTreeSet::new();
        }
        let always = [NEVER_REVIEWED.to_owned(), self.system_namespace.clone()];
        always.into_iter().chain(self.exclude_namespace.iter().cloned()).collect()
    }
}

/// The API server of the current context, and its address.
async fn connect() -> Result<(Client, String), String> {
    let config = kube::Config::infer().await.map_err(|error| trouble::no_kubeconfig(&error))?;
    let url = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|error| {
        format!("the kubeconfig cannot be used: {}", crate::cluster::because(&error))
    })?;
    Ok((client, url))
}

struct Scan {
    present: Arc<Reviewer>,
    /// By the candidates, where there are any.
    candidate: Option<Arc<Reviewer>>,
    timeout: Duration,
}

impl Scan {
    /// Every image's verdict, in their order.
    async fn findings(&self, running: Running) -> Vec<Finding> {
        let work = running.images.keys().map(|image| self.review(image));
        let reviews = side_by_side("reviewed", work).await;
        let finding = |((image, workloads), judged): (_, Option<Judged>)| {
            let Judged { review, before, lapses } = judged?;
            Some(Finding { image, workloads, review, before, lapses })
        };
        running.images.into_iter().zip(reviews).filter_map(finding).collect()
    }

    /// The verdict that counts, and the one before it, of one moment as far as that can be: what
    /// changes meanwhile is not the candidates' doing.
    async fn review(&self, image: &Image) -> Option<Judged> {
        let review = async |reviewer| {
            one::review(reviewer, &image.namespace, &image.image, self.timeout).await.pop()
        };
        let present = review(&self.present).await;
        let (counts, review, before) = match &self.candidate {
            None => (&self.present, present, None),
            Some(candidate) => (candidate, review(candidate).await, present),
        };
        let review = review?;
        // At once, while its evidence is at hand.
        let lapses = forecast::lapses(counts, &review);
        Some(Judged { review, before, lapses })
    }
}

struct Judged {
    review: ImageReview,
    before: Option<ImageReview>,
    lapses: BTreeSet<Lapse>,
}

#[cfg(test)]
mod tests;
