//! What the registry says, and what was signed.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_e2e::countersign::Countersign;
use countersign_e2e::lab::Lab;
use countersign_e2e::policies::Policy;
use countersign_e2e::registry::{Auth, PASSWORD, Registry, USER};
use countersign_e2e::{Outcome, reviews};
use serde_json::json;

const REPOSITORY: &str = "payments/api";

#[test]
fn r1_a_moved_tag_is_refused_and_the_signed_digest_still_gets_in() -> Outcome<()> {
    let lab = Lab::start()?;
    let signed = lab.trusted(REPOSITORY, "1.4")?;
    let other = lab.registry.push(REPOSITORY, "1.4", "something else")?;
    let countersign = lab.countersign("countersign")?;
    let verdict = countersign.deployment(&other.tagged("1.4"))?.denied_as("DigestMismatch")?;
    assert!(!verdict.message.contains(&signed.digest), "not to be disclosed: {}", verdict.message);
    countersign.pod(&other.by_digest())?.0.denied_as("Unsigned")?;
    countersign.pod(&signed.by_digest())?.0.admitted()?;
    Ok(())
}

#[test]
fn r3_a_registry_that_changes_its_answer_between_the_webhooks_changes_nothing() -> Outcome<()> {
    let lab = Lab::start()?;
    let signed = lab.trusted(REPOSITORY, "1.4")?;
    let countersign = lab.countersign("countersign")?;
    let pod = reviews::pod("app", &signed.tagged("1.4"));
    let mutated = countersign.review("/mutate", &reviews::create("payments", &pod))?;
    let other = lab.registry.push(REPOSITORY, "1.4", "something else")?;
    assert_ne!(other.digest, signed.digest);
    let pinned = reviews::patched(&pod, &mutated.patch)?;
    let image = pinned["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
    assert_eq!(image, format!("{}@{}", signed.tagged("1.4"), signed.digest));
    countersign.review("/validate", &reviews::create("payments", &pinned))?.admitted()?;
    // What was not pinned is not let in, whatever the registry says this time.
    let tagged = reviews::create("payments", &pod);
    countersign.review("/validate", &tagged)?.denied_as("NotPinned")?;
    lab.countersign("afresh")?.review("/validate", &tagged)?.denied_as("DigestMismatch")?;
    Ok(())
}

#[test]
fn r7_an_index_is_signed_as_itself_and_its_children_need_their_own() -> Outcome<()> {
    let lab = Lab::start()?;
    let child = lab.trusted(REPOSITORY, "amd64")?;
    let other = lab.registry.push(REPOSITORY, "arm64", "arm64")?;
    let index = lab.registry.push_index(REPOSITORY, "1.4", &[&child, &other])?;
    let countersign = lab.countersign("countersign")?;
    // A signed child signs no index.
    countersign.deployment(&index.tagged("1.4"))?.denied_as("Unsigned")?;
    lab.signer.sign(&index.name, "1.4", &index.digest, index.size)?;
    let countersign = lab.countersign("afresh")?;
    let (verdict, pinned) = countersign.pod(&index.tagged("1.4"))?;
    verdict.admitted()?;
    assert!(pinned.ends_with(&index.digest), "{pinned}");
    countersign.pod(&other.by_digest())?.0.denied_as("Unsigned")?;
    Ok(())
}

#[test]
fn a_signed_size_that_is_not_the_manifest_s_is_refused() -> Outcome<()> {
    let lab = Lab::start()?;
    lab.trusted(REPOSITORY, "1.3")?;
    let image = lab.registry.push(REPOSITORY, "1.4", "release 1.4")?;
    lab.signer.sign(&image.name, "1.4", &image.digest, image.size + 1)?;
    lab.countersign("countersign")?
        .deployment(&image.tagged("1.4"))?
        .denied_as("DigestMismatch")?;
    Ok(())
}

#[test]
fn r5_a_registry_that_no_policy_names_is_not_contacted() -> Outcome<()> {
    let lab = Lab::start()?;
    lab.trusted(REPOSITORY, "1.4")?;
    let stranger = Registry::start(&lab.folder("stranger"), &lab.authority)?;
    let image = stranger.push(REPOSITORY, "1.4", "release 1.4")?;
    lab.signer.init(&image.name)?;
    lab.signer.sign(&image.name, "1.4", &image.digest, image.size)?;
    let pin = lab.signer.pin(&image.name)?;
    lab.policies.source(&lab.source(REPOSITORY)?.pin("stranger", &image.name, &pin))?;
    lab.policies.policy(&Policy { include: vec!["**".to_owned()], ..lab.policy() })?;
    let countersign = lab.countersign("countersign")?;
    let before = stranger.requests()?.len();
    countersign.pod(&image.tagged("1.4"))?.0.denied_as("RegistryNotAllowed")?;
    countersign.pod(&image.by_digest())?.0.admitted()?;
    assert_eq!(stranger.requests()?.len(), before);
    Ok(())
}

#[test]
fn credentials_of_the_docker_configuration_are_used() -> Outcome<()> {
    let mut lab = Lab::start()?;
    lab.registry = Registry::start_with(&lab.folder("private"), &lab.authority, Auth::Basic)?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let countersign = lab.countersign("anonymous")?;
    countersign.pod(&image.tagged("1.4"))?.0.denied_as("RegistryUnavailable")?;

    let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let file = lab.folder("config.json");
    let auths = json!({lab.registry.host(): {"auth": auth}});
    fs::write(&file, json!({"auths": auths}).to_string())?;
    let mut config = lab.config();
    config.docker_config = Some(file);
    let countersign = Countersign::start(&lab.folder("known"), &lab.authority, &config)?;
    countersign.pod(&image.tagged("1.4"))?.0.admitted()?;
    Ok(())
}
