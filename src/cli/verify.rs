//! `countersign verify`: the webhook's verdict without a cluster.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::progress::side_by_side;
use super::{Exit, Output, complain, namespace, one, print, print_json, story};
use crate::api;
use crate::config::ReviewArgs;
use crate::review::ImageReview;
use crate::snapshot::Snapshot;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file or folder of TrustPolicy and TrustSource resources, and of the ConfigMaps and
    /// Secrets that they name, in YAML or JSON; may repeat
    #[arg(long, value_name = "FILE|DIR", env = "COUNTERSIGN_POLICIES", required = true)]
    policies: Vec<PathBuf>,
    #[command(flatten)]
    review: ReviewArgs,
    /// The namespace that the images are meant for
    #[arg(long, short, value_name = "NS", default_value = "default", value_parser = namespace)]
    namespace: String,
    /// How the verdicts are printed
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: Output,
    /// Seconds that one image may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Tell the whole story: policies, names looked up, roles, keys, versions, expiries
    #[arg(long, short)]
    verbose: bool,
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub(super) async fn run(args: Args) -> Exit {
    let compiled = match api::load(&args.policies, Timestamp::now()) {
        Ok(compiled) => compiled,
        Err(problems) => return problems.iter().fold(Exit::Usage, |_, problem| complain(problem)),
    };
    let reviewer = match args.review.reviewer(Snapshot::new(compiled, &args.review.registries())) {
        Ok(reviewer) => Arc::new(reviewer),
        Err(error) => return complain(&error),
    };
    let timeout = Duration::from_secs(args.timeout);
    let review = |image| one::review(&reviewer, &args.namespace, image, timeout);
    let work = args.images.iter().map(|image| review(image));
    let reviews = side_by_side("verified", work).await;
    let reviews: Vec<ImageReview> = reviews.into_iter().flatten().collect();
    match args.output {
        Output::Json => print_json(&story::json(&reviews)),
        Output::Text => {
            let told = reviews.iter().map(|review| {
                let mut text = story::verdict(review);
                if args.verbose {
                    text.push_str(&story::evidence(&reviewer, review));
                }
                text
            });
            print(&told.collect::<Vec<_>>().join("\n"));
        }
    }
    Exit::of(reviews.iter().map(|review| &review.decision))
}
