//! A TrustCheckpoint that is deleted, and one that is set back as a restored backup of etcd sets it
//! back, under replicas that run.

use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::flood::ADMITTED;
use countersign_e2e::process::wait_until;
use countersign_e2e::{Context, Outcome, backup};
use serde_json::Value;

use crate::events::{SEEN, follow, holds};
use crate::tally::Tally;
use crate::trouble::Trouble;
use crate::world::World;

/// For how long the source shows what was there before: for some refreshes.
const BACK: Duration = Duration::from_secs(6);

/// What is told of an image that is not signed any more: by what is at hand, and where what that rests
/// on was deleted in the middle of an update, by whoever has to read it anew.
const DELETED: [&str; 2] = ["Unsigned", "SourceUnavailable"];
const SET_BACK: [&str; 1] = ["Unsigned"];

/// The source is as new as ever: it is read anew, and remembered anew.
pub(crate) fn deleted(world: &World, tally: &Tally, round: usize) -> Outcome<()> {
    let tag = format!("d{round}");
    let image = world.signed("changing/api", &tag)?;
    let digest = image.by_digest();
    follow(world, tally, "a signature is seen", &digest, ADMITTED)?;
    world.signer.revoke(&image.name, &tag)?;
    follow(world, tally, "a revocation is seen", &digest, "Unsigned")?;
    let before = checkpoint(world, &image.name)?.context("no checkpoint")?;
    world.api_server().kubectl(&["delete", "tcp", name(&before)])?.success()?;
    wait_until("a deleted checkpoint to be written anew", SEEN, || {
        holds(world, tally, "its checkpoint is deleted", &digest, &DELETED)?;
        let anew = checkpoint(world, &image.name)?;
        Ok(anew.is_some_and(|anew| uid(&anew) != uid(&before) && is_as_new(&anew, &before)))
    })?;
    follow(world, tally, "what is newer is seen again", &digest, "Unsigned")
}

/// Meanwhile the source shows what the checkpoint says, too: nobody who runs believes either of them.
pub(crate) fn set_back(world: &World, tally: &Tally, round: usize) -> Outcome<()> {
    let tag = format!("b{round}");
    let image = world.signed("changing/api", &tag)?;
    let digest = image.by_digest();
    follow(world, tally, "a signature is seen", &digest, ADMITTED)?;
    let backup = checkpoint(world, &image.name)?.context("no checkpoint")?;
    let old = world.notary_front().recorded(&image.name);
    world.signer.revoke(&image.name, &tag)?;
    follow(world, tally, "a revocation is seen", &digest, "Unsigned")?;
    let newest = checkpoint(world, &image.name)?.context("no checkpoint")?;
    for (path, bytes) in old {
        world.notary_front().answer_with(&path, bytes);
    }
    let restored =
        world.troubles.with(Trouble::ApiServer, || backup::restore(&world.api_server(), &backup));
    let begun = Instant::now();
    let mut kept = restored;
    while kept.is_ok() && begun.elapsed() < BACK {
        kept = holds(world, tally, "its checkpoint is set back", &digest, &SET_BACK);
        thread::sleep(Duration::from_millis(50));
    }
    world.notary_front().answer_as_before();
    kept?;
    follow(world, tally, "what is newer is seen again", &digest, "Unsigned")?;
    wait_until("a checkpoint that was set back to be raised", SEEN, || {
        Ok(checkpoint(world, &image.name)?.is_some_and(|it| is_as_new(&it, &newest)))
    })
}

/// The checkpoint of a repository, where there is one.
fn checkpoint(world: &World, repository: &str) -> Outcome<Option<Value>> {
    let all = world.api_server().get(&["tcp"])?;
    let mut items = all["items"].as_array().into_iter().flatten();
    Ok(items.find(|item| item["spec"]["repository"] == repository).cloned())
}

/// Whether no role's version is below what it was.
fn is_as_new(checkpoint: &Value, before: &Value) -> bool {
    let versions = |of: &Value| -> Vec<(String, u64)> {
        let roles = of["spec"]["roles"].as_array().into_iter().flatten();
        let version = |it: &Value| Some((it["name"].as_str()?.to_owned(), it["version"].as_u64()?));
        roles.filter_map(version).collect()
    };
    let now = versions(checkpoint);
    let is_there =
        |(name, least): &(String, u64)| now.iter().any(|(it, is)| it == name && is >= least);
    !now.is_empty() && versions(before).iter().all(is_there)
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn uid(object: &Value) -> &Value {
    &object["metadata"]["uid"]
}
