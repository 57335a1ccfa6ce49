//! Notary and the registry down, lying, frozen or replaying; replicas killed and restarted.

use std::time::{Duration, Instant};

use countersign_e2e::front::{Mode, path};
use countersign_e2e::lab::{Lab, refresh};
use countersign_e2e::process::wait_until;
use countersign_e2e::{Context as _, Outcome, reviews};

const REPOSITORY: &str = "payments/api";
/// `refuseAfterSeconds` of the sources that outages are survived with.
const REFUSE: Duration = Duration::from_secs(6);
const ROLES: [&str; 4] = ["timestamp", "snapshot", "targets", "root"];

#[test]
fn o1_a_server_that_is_down_or_lies_admits_nothing_new_and_recovery_is_seen() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    for mode in [Mode::Down, Mode::Garbage] {
        lab.front.set(mode);
        let cold = lab.countersign(&format!("cold-{mode:?}"))?;
        let (verdict, _) = cold.pod(&image.by_digest())?;
        assert!(!verdict.allowed, "{mode:?}: {verdict:?}");
        lab.front.set(Mode::Forward);
        wait_until("the recovery", Duration::from_secs(15), || {
            Ok(cold.pod(&image.by_digest())?.0.allowed)
        })?;
    }
    Ok(())
}

#[test]
fn o1_an_outage_is_survived_until_its_bound_and_not_longer() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let mut source = lab.source(REPOSITORY)?;
    source.refuse_after = REFUSE.as_secs() as u32;
    lab.policies.source(&source)?;
    let countersign = lab.countersign("countersign")?;
    let pod = reviews::create("payments", &reviews::pod("app", &image.by_digest()));
    for mode in [Mode::Down, Mode::Garbage, Mode::Silent] {
        countersign.review("/validate", &pod)?.admitted()?;
        lab.front.set(mode);
        let begun = Instant::now();
        // The set may have been a second old, or as old as the time between two refreshes.
        while begun.elapsed() < REFUSE - Duration::from_secs(2) {
            let asked = Instant::now();
            countersign.review("/validate", &pod)?.admitted()?;
            let took = asked.elapsed();
            assert!(took < Duration::from_secs(3), "{mode:?}: {took:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        std::thread::sleep((begun + REFUSE).saturating_duration_since(Instant::now()));
        countersign.review("/validate", &pod)?.denied_as("SourceStale")?;
        lab.front.set(Mode::Forward);
        // What was asked of the silent server hangs for ten seconds.
        wait_until("the recovery", Duration::from_secs(15), || {
            Ok(countersign.review("/validate", &pod)?.allowed)
        })?;
    }
    Ok(())
}

#[test]
fn t5_a_frozen_mirror_is_believed_and_one_that_goes_back_is_not() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let mut source = lab.source(REPOSITORY)?;
    source.refuse_after = REFUSE.as_secs() as u32;
    lab.policies.source(&source)?;
    let countersign = lab.countersign("countersign")?;
    countersign.pod(&image.by_digest())?.0.admitted()?;
    let recorded = lab.front.recorded(&image.name);
    // Its timestamp is good for days: the mirror is as good as the server until then.
    lab.front.set(Mode::Frozen);
    std::thread::sleep(REFUSE + Duration::from_secs(1));
    countersign.pod(&image.by_digest())?.0.admitted()?;

    lab.front.set(Mode::Forward);
    lab.push_signed(REPOSITORY, "1.5", "1.5")?;
    refresh();
    let newer = lab.registry.push(REPOSITORY, "1.5", "1.5")?;
    countersign.pod(&newer.by_digest())?.0.admitted()?;
    for (path, bytes) in recorded {
        lab.front.answer_with(&path, bytes);
    }
    refresh();
    countersign.pod(&newer.by_digest())?.0.admitted()?;
    std::thread::sleep(REFUSE);
    countersign.pod(&newer.by_digest())?.0.denied_as("SourceStale")?;
    Ok(())
}

#[test]
fn t9_a_server_that_never_answers_is_cut_off_before_the_api_server_gives_up() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let countersign = lab.countersign("countersign")?;
    lab.front.set(Mode::Silent);
    let pod = reviews::create("payments", &reviews::pod("app", &image.by_digest()));
    let start = Instant::now();
    let verdict = countersign.review("/validate?timeout=5s", &pod)?;
    let took = start.elapsed();
    assert!(!verdict.allowed, "{verdict:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    // The update that hangs ends by itself, and the next one gets through.
    lab.front.set(Mode::Forward);
    wait_until("the recovery", Duration::from_secs(30), || {
        Ok(countersign.pod(&image.by_digest())?.0.allowed)
    })
}

#[test]
fn o1_a_tag_needs_its_registry_and_a_digest_does_not() -> Outcome<()> {
    let mut lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let countersign = lab.countersign("countersign")?;
    lab.registry.stop()?;
    countersign.pod(&image.tagged("1.4"))?.0.denied_as("RegistryUnavailable")?;
    countersign.pod(&image.by_digest())?.0.admitted()?;
    Ok(())
}

#[test]
fn t8_replayed_metadata_is_not_believed_even_after_a_crash() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let (gun, by_digest) = (&image.name, image.by_digest());
    let countersign = lab.countersign("replica")?;
    countersign.pod(&by_digest)?.0.admitted()?;
    let recorded = lab.front.recorded(gun);

    lab.signer.revoke(gun, "1.4")?;
    refresh();
    countersign.pod(&by_digest)?.0.denied_as("Unsigned")?;
    for (path, bytes) in recorded {
        lab.front.answer_with(&path, bytes);
    }
    refresh();
    let (verdict, _) = countersign.pod(&by_digest)?;
    assert!(!verdict.allowed, "{verdict:?}");
    // o5: memory survives a crash.
    countersign.kill()?;
    let restarted = lab.countersign("replica")?;
    restarted.pod(&by_digest)?.0.denied_as("Rollback")?;
    Ok(())
}

#[test]
fn k5_a_review_under_way_keeps_the_policies_that_it_began_with() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?.by_digest();
    let countersign = lab.countersign("countersign")?;
    lab.front.set(Mode::Silent);
    let pod = reviews::create("payments", &reviews::pod("app", &image));
    let open = "apiVersion: countersign.dev/v1alpha1\nkind: TrustPolicy\nmetadata:\n  name: payments\n\
                spec:\n  match:\n    images:\n      include: [\"**\"]\n      exclude: []\n    \
                namespaceSelector: {matchLabels: {}}\n  allowUnverified:\n    reason: open\n";
    let begun = std::thread::scope(|scope| {
        let begun = scope.spawn(|| countersign.review("/validate?timeout=9s", &pod).ok());
        wait_until("a request", Duration::from_secs(3), || Ok(!lab.front.reads().is_empty()))?;
        lab.policies.write("policy-payments", open)?;
        // Who asks now is answered by the new policy, while the other still waits.
        wait_until("the new policy", Duration::from_secs(5), || {
            let review = countersign.review("/validate?timeout=2s", &pod)?;
            Ok(review.allowed)
        })?;
        assert!(!begun.is_finished(), "it was to be overtaken");
        Outcome::Ok(begun.join().ok().flatten())
    })?;
    let verdict = begun.context("no verdict")?;
    assert!(!verdict.allowed && verdict.message.contains("payments"), "{verdict:?}");
    Ok(())
}

#[test]
fn t18_another_repository_s_files_are_not_believed() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    // The same signer, so the same root key.
    let other = lab.gun("payments/other");
    lab.signer.init(&other)?;
    lab.signer.sign(&other, "1.4", &image.digest, image.size)?;
    lab.signer.revoke(&image.name, "1.4")?;
    let countersign = lab.countersign("countersign")?;
    countersign.pod(&image.by_digest())?.0.denied_as("Unsigned")?;
    for role in ROLES {
        let bytes = lab.notary.metadata_bytes(&other, role)?;
        lab.front.answer_with(&path(&image.name, role), bytes.into());
    }
    let (verdict, _) = lab.countersign("cold")?.pod(&image.by_digest())?;
    assert!(!verdict.allowed, "{verdict:?}");
    refresh();
    let (verdict, _) = countersign.pod(&image.by_digest())?;
    assert!(!verdict.allowed, "{verdict:?}");
    Ok(())
}

#[test]
fn two_replicas_come_to_the_same_verdicts() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let replicas = [lab.countersign("one")?, lab.countersign("two")?];
    for replica in &replicas {
        replica.pod(&image.tagged("1.4"))?.0.admitted()?;
    }
    lab.signer.revoke(&image.name, "1.4")?;
    refresh();
    for replica in &replicas {
        replica.deployment(&image.tagged("1.4"))?.denied_as("Unsigned")?;
    }
    Ok(())
}
