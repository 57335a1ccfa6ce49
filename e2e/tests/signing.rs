//! The life of a signature, made and taken back with the real `notary` client, on every way in
//! which a Notary server is run.

use countersign_e2e::Outcome;
use countersign_e2e::countersign::Countersign;
use countersign_e2e::lab::{Lab, refresh};
use countersign_e2e::notary::Options;
use countersign_e2e::notary_client::Keeper;
use countersign_e2e::pki::Authority;
use countersign_e2e::process::eventually;
use countersign_e2e::registry::Image;
use countersign_e2e::reviews::Verdict;
use countersign_e2e::token::{self, TokenServer};

const REPOSITORY: &str = "payments/api";

#[test]
fn notary_alone() -> Outcome<()> {
    life(&Lab::start()?)
}

#[test]
fn notary_with_its_keys_in_a_signer() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    life(&Lab::start_in(folder, authority, Options { signer: true, ..Options::default() })?)
}

#[test]
fn notary_behind_tokens_for_anyone() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    let tokens = TokenServer::start(&folder.path().join("tokens"), &authority, true)?;
    let options = Options { tokens: Some(&tokens), ..Options::default() };
    let lab = Lab::start_in(folder, authority, options)?;
    lab.signer.init(&lab.gun(REPOSITORY))?;
    let mut source = lab.source(REPOSITORY)?;
    source.token_hosts.push(tokens.host().to_owned());
    lab.policies.source(&source)?;
    lab.policies.policy(&lab.policy())?;
    let before = tokens.scopes().len();
    life_of(&lab, &lab.push_signed(REPOSITORY, "1.4", "release 1.4")?)?;
    let pull = format!("repository:{}:pull", lab.gun(REPOSITORY));
    assert!(tokens.scopes()[before..].contains(&pull), "{:?}", tokens.scopes());
    Ok(())
}

#[test]
fn notary_with_a_signer_behind_tokens_for_a_user() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    let tokens = TokenServer::start(&folder.path().join("tokens"), &authority, false)?;
    let options = Options { signer: true, tokens: Some(&tokens), ..Options::default() };
    let lab = Lab::start_in(folder, authority, options)?;
    lab.signer.init(&lab.gun(REPOSITORY))?;
    let mut source = lab.source(REPOSITORY)?;
    source.token_hosts.push(tokens.host().to_owned());
    source.credentials = Some((token::USER.to_owned(), "wrong".to_owned()));
    lab.policies.source(&source)?;
    lab.policies.policy(&lab.policy())?;
    let image = lab.push_signed(REPOSITORY, "1.4", "release 1.4")?;
    let (verdict, _) = lab.countersign("wrong")?.pod(&image.tagged("1.4"))?;
    verdict.denied_as("SourceUnavailable")?;
    source.credentials = Some((token::USER.to_owned(), token::PASSWORD.to_owned()));
    lab.policies.source(&source)?;
    life_of(&lab, &image)
}

#[test]
fn a_token_server_that_the_source_does_not_name_is_not_asked() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    let tokens = TokenServer::start(&folder.path().join("tokens"), &authority, true)?;
    let options = Options { tokens: Some(&tokens), ..Options::default() };
    let lab = Lab::start_in(folder, authority, options)?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let before = tokens.scopes().len();
    let (verdict, _) = lab.countersign("countersign")?.pod(&image.tagged("1.4"))?;
    verdict.denied_as("SourceUnavailable")?;
    assert_eq!(tokens.scopes().len(), before);
    Ok(())
}

fn life(lab: &Lab) -> Outcome<()> {
    life_of(lab, &lab.trusted(REPOSITORY, "1.4")?)
}

/// `image` is signed as 1.4.
fn life_of(lab: &Lab, image: &Image) -> Outcome<()> {
    let countersign = lab.countersign("countersign")?;
    admitted_and_pinned(&countersign, image, "1.4")?;
    let unsigned = lab.registry.push(REPOSITORY, "unsigned", "not signed")?;
    countersign.deployment(&unsigned.tagged("unsigned"))?.denied_as("Unsigned")?;
    countersign.pod(&unsigned.by_digest())?.0.denied_as("Unsigned")?;
    every_key_is_replaced(lab, &countersign, image)?;
    // Whoever starts afresh walks all the way from the pinned root.
    admitted_and_pinned(&lab.countersign("afresh")?, image, "1.4")?;

    lab.signer.revoke(&image.name, "1.4")?;
    // On a machine that is busy with the rest of the tests an update may take longer than a review
    // waits for it.
    let is_unsigned = |verdict: &Verdict| verdict.clone().denied_as("Unsigned").is_ok();
    let by_tag = || countersign.deployment(&image.tagged("1.4"));
    eventually("the tag is revoked", by_tag, is_unsigned)?;
    eventually(
        "the digest is revoked",
        || Ok(countersign.pod(&image.by_digest())?.0),
        is_unsigned,
    )?;
    lab.signer.sign(&image.name, "1.4", &image.digest, image.size)?;
    refresh();
    admitted_and_pinned(&countersign, image, "1.4")
}

fn every_key_is_replaced(lab: &Lab, countersign: &Countersign, image: &Image) -> Outcome<()> {
    let rotations = [
        ("targets", Keeper::Client),
        ("snapshot", Keeper::Server),
        ("snapshot", Keeper::Client),
        ("timestamp", Keeper::Server),
        ("root", Keeper::Client),
        ("root", Keeper::Client),
    ];
    for (index, (role, keeper)) in rotations.into_iter().enumerate() {
        lab.signer.rotate(&image.name, role, keeper)?;
        let tag = format!("after-{role}-{index}");
        let next = lab.push_signed(REPOSITORY, &tag, &tag)?;
        refresh();
        admitted_and_pinned(countersign, image, "1.4")?;
        admitted_and_pinned(countersign, &next, &tag)?;
    }
    Ok(())
}

fn admitted_and_pinned(countersign: &Countersign, image: &Image, tag: &str) -> Outcome<()> {
    countersign.deployment(&image.tagged(tag))?.admitted()?;
    let (verdict, pinned) = countersign.pod(&image.tagged(tag))?;
    verdict.admitted()?;
    assert_eq!(pinned, format!("{}@{}", image.tagged(tag), image.digest));
    countersign.pod(&image.by_digest())?.0.admitted()?;
    Ok(())
}
