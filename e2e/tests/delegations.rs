//! Who may sign what: delegated roles, made and signed with the real `notary` client.

use countersign_e2e::Outcome;
use countersign_e2e::lab::{Lab, refresh};
use countersign_e2e::notary_client::{Keeper, NotaryClient};
use countersign_e2e::pki::{Identity, self_signed};
use countersign_e2e::registry::Image;

const REPOSITORY: &str = "payments/api";

/// A signer with a home folder and keys of its own, to whom the repository's owner delegates a role.
struct Delegate {
    client: NotaryClient,
    identity: Identity,
    role: &'static str,
}

impl Delegate {
    fn new(lab: &Lab, role: &'static str) -> Outcome<Self> {
        let home = lab.folder(&role.replace('/', "-"));
        let client = NotaryClient::at(&home, lab.front.url(), lab.authority.certificate())?;
        let identity = self_signed(&home, "delegate")?;
        let gun = lab.gun(REPOSITORY);
        lab.signer.delegate(&gun, role, &[&identity])?;
        client.import(&gun, role, &identity)?;
        Ok(Self { client, identity, role })
    }

    fn sign(&self, image: &Image, tag: &str) -> Outcome<()> {
        self.client.sign_in(&image.name, tag, &image.digest, image.size, &[self.role])
    }
}

/// A lab whose repository is initialised, with the server keeping the snapshot's key, so that
/// delegates can publish.
fn lab() -> Outcome<Lab> {
    let lab = Lab::start()?;
    let gun = lab.gun(REPOSITORY);
    lab.signer.init(&gun)?;
    lab.signer.rotate(&gun, "snapshot", Keeper::Server)?;
    lab.trust(REPOSITORY)?;
    Ok(lab)
}

#[test]
fn releases_counts_before_targets_and_other_roles_do_not_count() -> Outcome<()> {
    let lab = lab()?;
    let releases = Delegate::new(&lab, "targets/releases")?;
    let laptop = Delegate::new(&lab, "targets/laptop")?;
    let countersign = lab.countersign("countersign")?;

    let released = lab.registry.push(REPOSITORY, "1.4", "release 1.4")?;
    releases.sign(&released, "1.4")?;
    countersign.deployment(&released.tagged("1.4"))?.admitted()?;

    let own = lab.registry.push(REPOSITORY, "own", "built on a laptop")?;
    laptop.sign(&own, "own")?;
    refresh();
    countersign.deployment(&own.tagged("own"))?.denied_as("UntrustedSigner")?;

    // Signed in targets, but targets/releases says that 1.4 is another image.
    let other = lab.registry.push(REPOSITORY, "1.4", "signed in targets")?;
    lab.signer.sign(&other.name, "1.4", &other.digest, other.size)?;
    refresh();
    lab.countersign("cold")?.deployment(&other.tagged("1.4"))?.denied_as("DigestMismatch")?;
    Ok(())
}

#[test]
fn t19_every_required_role_has_to_have_signed() -> Outcome<()> {
    let lab = lab()?;
    let qa = Delegate::new(&lab, "targets/qa")?;
    let security = Delegate::new(&lab, "targets/security")?;
    let mut policy = lab.policy();
    policy.require_roles = vec![qa.role.to_owned(), security.role.to_owned()];
    lab.policies.policy(&policy)?;
    let countersign = lab.countersign("countersign")?;

    let image = lab.registry.push(REPOSITORY, "1.4", "release 1.4")?;
    lab.signer.sign(&image.name, "1.4", &image.digest, image.size)?;
    qa.sign(&image, "1.4")?;
    countersign.deployment(&image.tagged("1.4"))?.denied_as("Unsigned")?;
    security.sign(&image, "1.4")?;
    refresh();
    countersign.deployment(&image.tagged("1.4"))?.admitted()?;
    countersign.pod(&image.by_digest())?.0.admitted()?;

    security.client.revoke_in(&image.name, "1.4", security.role)?;
    refresh();
    countersign.deployment(&image.tagged("1.4"))?.denied_as("Unsigned")?;
    security.sign(&image, "1.4")?;
    refresh();
    countersign.deployment(&image.tagged("1.4"))?.admitted()?;

    // t20: the role goes, and with it what it signed.
    lab.signer.undelegate(&image.name, security.role)?;
    refresh();
    let verdict = countersign.deployment(&image.tagged("1.4"))?;
    assert!(!verdict.allowed, "{verdict:?}");
    Ok(())
}

#[test]
fn a_delegate_whose_key_is_replaced_counts_again_after_its_witness() -> Outcome<()> {
    let lab = lab()?;
    let releases = Delegate::new(&lab, "targets/releases")?;
    let image = lab.registry.push(REPOSITORY, "1.4", "release 1.4")?;
    releases.sign(&image, "1.4")?;
    let countersign = lab.countersign("countersign")?;
    countersign.deployment(&image.tagged("1.4"))?.admitted()?;

    // The role passes to another key: what the old one signed no longer counts...
    let next = self_signed(&lab.folder("next"), "next")?;
    lab.signer.delegate(&image.name, releases.role, &[&next])?;
    lab.signer.remove_key(&image.name, releases.role, &releases.identity.certificate)?;
    refresh();
    let verdict = countersign.deployment(&image.tagged("1.4"))?;
    assert!(!verdict.allowed, "{verdict:?}");

    // ...until its holder signs the role's file as it is.
    releases.client.import(&image.name, releases.role, &next)?;
    releases.client.witness(&image.name, releases.role)?;
    refresh();
    countersign.deployment(&image.tagged("1.4"))?.admitted()?;
    Ok(())
}
