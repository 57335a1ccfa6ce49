//! The command line: verdicts without a cluster, their exit status and their JSON.

use countersign_e2e::Outcome;
use countersign_e2e::countersign::{command, verify};
use countersign_e2e::front::Mode;
use countersign_e2e::lab::{Lab, SOURCE};
use countersign_e2e::policies::{Policies, Policy, Source};
use serde_json::Value;

const REPOSITORY: &str = "payments/api";

#[test]
fn verify_s_exit_status_tells_admitted_denied_misused_and_unavailable_apart() -> Outcome<()> {
    let lab = Lab::start()?;
    let signed = lab.trusted(REPOSITORY, "1.4")?;
    let unsigned = lab.registry.push(REPOSITORY, "1.5", "not signed")?;
    let config = lab.config();
    let code =
        |arguments: &[&str]| -> Outcome<Option<i32>> { Ok(verify(&config, None, arguments)?.code) };
    assert_eq!(code(&[&signed.tagged("1.4")])?, Some(0));
    assert_eq!(code(&[&signed.by_digest()])?, Some(0));
    assert_eq!(code(&[&unsigned.tagged("1.5")])?, Some(1));
    assert_eq!(code(&[&signed.tagged("1.4"), &unsigned.tagged("1.5")])?, Some(1));
    assert_eq!(code(&["registry.example.com/of/nobody:1"])?, Some(1));
    // Nobody signed it, whether or not the registry has it.
    assert_eq!(code(&[&signed.tagged("never-pushed")])?, Some(1));
    assert_eq!(code(&[])?, Some(2));
    assert_eq!(code(&["--output", "xml", &signed.tagged("1.4")])?, Some(2));
    lab.front.set(Mode::Down);
    assert_eq!(code(&[&signed.by_digest()])?, Some(3));
    // Denied on evidence counts before denied for the want of it.
    assert_eq!(code(&[&signed.by_digest(), "registry.example.com/of/nobody:1"])?, Some(1));

    lab.policies
        .write("policy-broken", "kind: TrustPolicy\nmetadata: {name: broken}\nspec: 1\n")?;
    let broken = verify(&config, None, &[&signed.by_digest()])?;
    assert_eq!(broken.code, Some(2));
    assert!(broken.stderr.contains("broken"), "{broken}");
    Ok(())
}

#[test]
fn verify_prints_the_whole_verdict_as_json() -> Outcome<()> {
    let lab = Lab::start()?;
    let signed = lab.trusted(REPOSITORY, "1.4")?;
    let unsigned = lab.registry.push(REPOSITORY, "1.5", "not signed")?;
    let images = [signed.tagged("1.4"), unsigned.tagged("1.5")];
    let finished = verify(&lab.config(), None, &["--output", "json", &images[0], &images[1]])?;
    let json: Value = serde_json::from_str(&finished.stdout)?;
    let [good, bad] = [&json["images"][0], &json["images"][1]];
    assert_eq!(
        (good["image"].as_str(), bad["image"].as_str()),
        (Some(&*images[0]), Some(&*images[1]))
    );
    assert_eq!(good["admitted"], true, "{json}");
    assert_eq!(good["digest"], signed.digest.as_str(), "{json}");
    assert_eq!(bad["admitted"], false, "{json}");
    assert_eq!(bad["policies"][0]["code"], "Unsigned", "{json}");
    Ok(())
}

#[test]
fn verify_gives_the_webhook_s_verdict() -> Outcome<()> {
    let lab = Lab::start()?;
    let signed = lab.trusted(REPOSITORY, "1.4")?;
    let moved = lab.push_signed(REPOSITORY, "1.5", "release 1.5")?;
    let moved_to = lab.registry.push(REPOSITORY, "1.5", "something else")?;
    let unsigned = lab.registry.push(REPOSITORY, "1.6", "not signed")?;
    let countersign = lab.countersign("countersign")?;
    let images = [
        signed.tagged("1.4"),
        signed.by_digest(),
        moved.by_digest(),
        moved_to.tagged("1.5"),
        moved_to.by_digest(),
        unsigned.tagged("1.6"),
        "registry.example.com/of/nobody:1".to_owned(),
    ];
    for image in images {
        let webhook = countersign.deployment(&image)?;
        let finished = verify(&lab.config(), None, &["-o", "json", &image])?;
        let json: Value = serde_json::from_str(&finished.stdout)?;
        assert_eq!(
            json["images"][0]["admitted"], webhook.allowed,
            "{image}: {webhook:?}\n{finished}"
        );
        if let Some(code) = json["images"][0]["policies"][0]["code"].as_str() {
            webhook.denied_as(code)?;
        }
    }
    Ok(())
}

#[test]
fn t8_verify_remembers_in_its_state_folder() -> Outcome<()> {
    let lab = Lab::start()?;
    let signed = lab.trusted(REPOSITORY, "1.4")?;
    let (config, state, image) = (lab.config(), lab.folder("state"), signed.by_digest());
    let code = |state| -> Outcome<Option<i32>> { Ok(verify(&config, state, &[&image])?.code) };
    assert_eq!(code(Some(&state))?, Some(0));
    let recorded = lab.front.recorded(&signed.name);
    lab.signer.revoke(&signed.name, "1.4")?;
    assert_eq!(code(Some(&state))?, Some(1));
    for (path, bytes) in recorded {
        lab.front.answer_with(&path, bytes);
    }
    // Without memory the replay cannot be told from the present; with it, it can.
    assert_eq!(code(None)?, Some(0));
    let finished = verify(&config, Some(&state), &[&image])?;
    assert_eq!(finished.code, Some(1), "{finished}");
    assert!(finished.stdout.contains("Rollback"), "{finished}");
    Ok(())
}

#[test]
fn a_policy_that_only_warns_lets_in_and_says_so() -> Outcome<()> {
    let lab = Lab::start()?;
    lab.trusted(REPOSITORY, "1.4")?;
    lab.policies.policy(&Policy { action: "Warn", ..lab.policy() })?;
    let unsigned = lab.registry.push(REPOSITORY, "1.5", "not signed")?;
    // k6: a warning policy does not lift the installation's own denial.
    let denied = verify(&lab.config(), None, &[&unsigned.tagged("1.5")])?;
    assert_eq!(denied.code, Some(1), "{denied}");
    let admitted = verify(&lab.config(), None, &["--unmatched", "Warn", &unsigned.tagged("1.5")])?;
    assert_eq!(admitted.code, Some(0), "{admitted}");
    assert!(admitted.stdout.contains("Unsigned"), "{admitted}");
    Ok(())
}

#[test]
fn pin_prints_resources_that_verify_the_image() -> Outcome<()> {
    let lab = Lab::start()?;
    let signed = lab.trusted(REPOSITORY, "1.4")?;
    let key = lab.signer.pin(&signed.name)?;
    let first = Source::new(SOURCE, lab.front.url(), &lab.authority.pem());
    let another = first.clone().pin("elsewhere", "registry.example.com/elsewhere", &key);
    for (name, source) in [("first", first), ("another", another)] {
        let drafts = Policies::new(&lab.folder(&format!("{name}-draft")))?;
        drafts.source(&source)?;
        let file = drafts.folder().join("source-corp-notary.yaml").display().to_string();
        let image = signed.tagged("1.4");
        let printed = command(&["pin", &image, "--source", &file])?.success()?.stdout;

        let policies = Policies::new(&lab.folder(name))?;
        policies.write("printed", &printed)?;
        policies.write("authority", &source.config_map())?;
        let mut config = lab.config();
        config.policies = policies.folder().to_owned();
        let verified = verify(&config, None, &[&image])?;
        assert_eq!(verified.code, Some(0), "{printed}\n{verified}");
    }
    Ok(())
}

#[test]
fn serve_s_custom_kinds_are_read_and_wrong_ones_say_what_to_write() -> Outcome<()> {
    let serve = |kind: &str| {
        command(&[
            "serve",
            "--policies",
            "nowhere",
            "--tls-cert",
            "x",
            "--tls-key",
            "x",
            "--templates",
            "Warn",
            "--custom-kind",
            kind,
        ])
    };
    for (kind, says) in [
        ("Rollout=spec.template", "GROUP/KIND=PATH"),
        ("apps/Deployment=spec.template", "built in"),
        ("argoproj.io/Rollout=spec..template", "path of the pod template"),
        ("argoproj.io/Rollout=spec.template", "nowhere"),
    ] {
        let finished = serve(kind)?;
        assert_eq!(finished.code, Some(2), "{finished}");
        assert!(finished.stderr.contains(says), "{finished}");
    }
    Ok(())
}
