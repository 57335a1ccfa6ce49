//! The first review of an image whose signatures and tag are a distance away, beside the least
//! that the protocol needs.

use std::path::Path;
use std::time::{Duration, Instant};

use countersign_e2e::{Context, Failure, Outcome};
use futures_util::future::{try_join, try_join_all};
use reqwest::header::{ACCEPT, AUTHORIZATION, WWW_AUTHENTICATE};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;

use crate::delay;
use crate::load::Start;
use crate::report::{Limit, Report};
use crate::world::{FILES, Signed, TAG, World};

const ROUNDS: usize = 7;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Adds the times of cold reviews.
pub(crate) fn measure(world: &World, report: &mut Report) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for (name, image, tagged) in [
        ("cold by digest", &world.far, false),
        ("cold by tag", &world.far, true),
        ("cold by digest, with a token", &world.guarded, false),
    ] {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let least = runtime.block_on(least(world.authority.certificate(), image, tagged))?;
            // A new process each time: nothing is known, and nothing is connected.
            let countersign = world.countersign("cold", image, 10)?;
            let target = if tagged {
                world.reviews(&countersign, "/mutate", &image.by_tag())?
            } else {
                world.reviews(&countersign, "/validate", &image.by_digest())?
            };
            let took = target.ask(1, 1, Start::Cold)?.took();
            rounds.push((millis(took), millis(least)));
        }
        report.ratio(name, "ms", &rounds, Limit::AtMost(1.15));
    }
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// How long the protocol's minimum takes: connecting, a token where one is asked for, then the
/// metadata files side by side, beside the tag's manifest where there is a tag.
async fn least(authority: &Path, image: &Signed, tagged: bool) -> Outcome<Duration> {
    let client = delay::client(authority)?;
    let (host, repository) = image.name.split_once('/').context("an image without a registry")?;
    let manifest = format!("https://{host}/v2/{repository}/manifests/{TAG}");
    let begun = Instant::now();
    let resolved = async {
        if tagged {
            let head = client.request(Method::HEAD, &manifest).header(ACCEPT, MANIFEST);
            head.send().await?.error_for_status()?;
        }
        Ok::<_, Failure>(())
    };
    try_join(metadata(&client, image), resolved).await?;
    Ok(begun.elapsed())
}

async fn metadata(client: &Client, image: &Signed) -> Outcome<()> {
    let get = |file: &str| {
        client.get(format!("{}/v2/{}/_trust/tuf/{file}.json", image.notary, image.name))
    };
    let authorization =
        if image.needs_token() { Some(token(client, get(FILES[0])).await?) } else { None };
    let files = FILES.map(|file| {
        let request = get(file);
        let request = match &authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        };
        async move { Ok::<_, Failure>(request.send().await?.error_for_status()?.bytes().await?) }
    });
    try_join_all(files).await.map(drop)
}

/// Follows a challenge to its token server.
async fn token(client: &Client, request: RequestBuilder) -> Outcome<String> {
    let answer = request.send().await?;
    if answer.status() != StatusCode::UNAUTHORIZED {
        return Err(Failure::new("no token was asked for"));
    }
    let challenge = answer.headers().get(WWW_AUTHENTICATE).context("no challenge")?.to_str()?;
    let field = |name: &str| {
        let rest = challenge.split_once(&format!("{name}=\""))?.1;
        Some(rest.split_once('"')?.0)
    };
    let realm = field("realm").context("no realm")?;
    let query = ["service", "scope"].map(|name| (name, field(name).unwrap_or_default()));
    let url = reqwest::Url::parse_with_params(realm, query)?;
    let answer = client.get(url).send().await?.error_for_status()?.bytes().await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    Ok(format!("Bearer {}", answer["token"].as_str().context("no token")?))
}
