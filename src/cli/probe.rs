//! `countersign probe`: asks a running Countersign whether it is ready, as the chart's test does.

use std::error::Error as _;
use std::time::Duration;

use reqwest::{Client, redirect};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::Instant;
use url::Url;

use super::{Exit, complain};

/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(5);

/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to ask, as http://countersign.countersign.svc:8080/readyz
    #[arg(value_parser = plain)]
    url: Url,
    /// How long to go on asking, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
}

fn plain(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if url.scheme() == "http" => Ok(url),
        Ok(_) => Err("the probes answer http:// only".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) async fn run(args: Args) -> Exit {
    // Plain HTTP: nobody's certificate is asked for, so none need be installed.
    let tls = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(ANSWER)
        .build();
    let client = match client {
        Ok(client) => client,
        Err(error) => return complain(&error),
    };
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    loop {
        match ask(&client, &args.url).await {
            Ok(()) => {
                println!("{} is ready", args.url);
                return Exit::Done;
            }
            Err(reason) if Instant::now() >= deadline => {
                complain(&format!("{} is not ready: {reason}", args.url));
                return Exit::Unavailable;
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// The error says why it is not ready.
async fn ask(client: &Client, url: &Url) -> Result<(), String> {
    let told = |error: reqwest::Error| match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    let answer = client.get(url.clone()).send().await.map_err(told)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let reasons = answer.text().await.map_err(told)?;
    Err(format!("{status}: {}", reasons.trim_end()))
}
