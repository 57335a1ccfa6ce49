//! `countersign verify`: the webhook's verdict without a cluster.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use countersign_verify::outcome::Effect;
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{Exit, complain, story};
use crate::admission::Decide as _;
use crate::api;
use crate::config::ReviewArgs;
use crate::review::{ImageReview, ImageUse, Puller, Request, Review, Reviewer, Subject};
use crate::snapshot::Snapshot;

/// Images verified at the same time.
const SIDE_BY_SIDE: usize = 8;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file or folder of TrustPolicy and TrustSource resources, and of the ConfigMaps and
    /// Secrets that they name, in YAML or JSON; may repeat
    #[arg(long, value_name = "FILE|DIR", env = "COUNTERSIGN_POLICIES", required = true)]
    policies: Vec<PathBuf>,
    #[command(flatten)]
    review: ReviewArgs,
    /// The namespace that the images are meant for
    #[arg(long, short, value_name = "NS", default_value = "default")]
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
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
    let reviews = review_all(&reviewer, &args).await;
    let printed = match args.output {
        Output::Json => serde_json::to_string_pretty(&story::json(&reviews))
            .unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}")),
        Output::Text => {
            let told = reviews.iter().map(|review| {
                let mut text = story::verdict(review);
                if args.verbose {
                    text.push_str(&story::evidence(&reviewer, review));
                }
                text
            });
            told.collect::<Vec<_>>().join("\n")
        }
    };
    // A reader that went away is no error of ours, and the exit status still tells.
    let _ = writeln!(std::io::stdout(), "{}", printed.trim_end());
    exit(&reviews)
}

async fn review_all(reviewer: &Arc<Reviewer>, args: &Args) -> Vec<ImageReview> {
    let total = args.images.len();
    let progress = std::io::stderr().is_terminal();
    let mut done = Vec::new();
    let mut reviews = stream::iter(&args.images)
        .map(|image| review(reviewer, args, image))
        .buffered(SIDE_BY_SIDE);
    loop {
        if progress {
            eprint!("\r\x1b[Kverified {} of {total} images", done.len());
        }
        match reviews.next().await {
            Some(review) => done.extend(review.images),
            None => break,
        }
    }
    if progress {
        eprint!("\r\x1b[K");
    }
    done
}

async fn review(reviewer: &Arc<Reviewer>, args: &Args, image: &str) -> Review {
    let usage = ImageUse { path: "image".to_owned(), image: image.to_owned() };
    let request = Request {
        namespace: Some(&args.namespace),
        subject: Subject::Template,
        uses: std::slice::from_ref(&usage),
        puller: Puller::default(),
        deadline: Instant::now() + Duration::from_secs(args.timeout),
    };
    reviewer.review(&request).await
}

/// Denied on evidence counts before denied for the want of it.
fn exit(reviews: &[ImageReview]) -> Exit {
    let denied = |review: &&ImageReview| review.decision.effect() == Effect::Deny;
    let mut denied = reviews.iter().filter(denied).peekable();
    if denied.peek().is_none() {
        Exit::Done
    } else if denied.all(|review| review.decision.denied_for_want_of_evidence()) {
        Exit::Unavailable
    } else {
        Exit::Denied
    }
}
