//! What the registry says, and what was signed.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_e2e::countersign::{Countersign, verify};
use countersign_e2e::lab::{Lab, SOURCE};
use countersign_e2e::policies::{Policy, Source};
use countersign_e2e::registry::{Auth, PASSWORD, Registry, USER, sha256};
use countersign_e2e::serve::Served;
use countersign_e2e::{Outcome, reviews};
use serde_json::{Value, json};

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

/// A registry whose tags are another of these manifests at every request.
fn fickle(lab: &Lab, manifests: [String; 2]) -> Outcome<Served> {
    let asked = Arc::new(AtomicUsize::new(0));
    let answer = move || {
        let body = manifests[asked.fetch_add(1, Ordering::Relaxed) % manifests.len()].clone();
        let digest = sha256(body.as_bytes());
        let media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
        async move { ([("content-type", media_type), ("docker-content-digest", digest)], body) }
    };
    Served::start(Router::new().fallback(answer), &lab.authority.server("fickle")?)
}

#[test]
fn r3_of_a_registry_that_answers_differently_each_time_only_what_is_signed_gets_in() -> Outcome<()>
{
    let lab = Lab::start()?;
    let manifest = |content: &str| {
        let config = json!({"digest": sha256(content.as_bytes()), "size": 7});
        json!({"schemaVersion": 2, "config": config, "layers": []}).to_string()
    };
    let [good, bad] = [manifest("signed"), manifest("something else")];
    let (signed, size) = (sha256(good.as_bytes()), good.len() as u64);
    let registry = fickle(&lab, [good, bad])?;
    let name = format!("{}/{REPOSITORY}", registry.host());
    let image = format!("{name}:1.4");
    lab.signer.init(&name)?;
    lab.signer.sign(&name, "1.4", &signed, size)?;
    let pin = lab.signer.pin(&name)?;
    let source = Source::new(SOURCE, lab.front.url(), &lab.authority.pem());
    lab.policies.source(&source.pin("fickle", &name, &pin))?;
    let include = vec![format!("{}/**", registry.host())];
    lab.policies.policy(&Policy { include, ..lab.policy() })?;
    let certs = lab.folder("fickle-certs");
    fs::create_dir_all(certs.join(registry.host()))?;
    fs::copy(lab.authority.certificate(), certs.join(registry.host()).join("ca.crt"))?;
    let mut config = lab.config();
    config.registry_certs = Some(certs);

    let mut admitted = 0;
    for _ in 0..4 {
        let finished = verify(&config, None, &["--output", "json", &image])?;
        let json: Value = serde_json::from_str(&finished.stdout)?;
        let verdict = &json["images"][0];
        let is_signed = verdict["digest"] == signed.as_str();
        assert_eq!(verdict["admitted"], is_signed, "{finished}");
        admitted += usize::from(is_signed);
    }
    assert_eq!(admitted, 2, "every other answer is signed");

    // What /mutate pins is what it verified, whatever the registry says afterwards.
    let countersign = Countersign::start(&lab.folder("pinning"), &lab.authority, &config)?;
    let (verdict, pinned) = countersign.pod(&image)?;
    verdict.admitted()?;
    assert_eq!(pinned, format!("{image}@{signed}"));
    Ok(())
}
