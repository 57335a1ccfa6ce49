//! What policies make of evidence, and what hostile requests get.

use std::fs;
use std::time::{Duration, Instant};

use countersign_e2e::Outcome;
use countersign_e2e::countersign::{Config, Countersign};
use countersign_e2e::lab::Lab;
use countersign_e2e::pki::Authority;
use countersign_e2e::policies::{Policies, Policy};
use countersign_e2e::reviews;
use serde_json::{Value, json};

const REPOSITORY: &str = "payments/api";

#[test]
fn k5_no_policy_at_all_is_not_an_allow() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    let policies = Policies::new(&folder.path().join("policies"))?;
    let config = Config::new(policies.folder());
    let started = Countersign::start(folder.path(), &authority, &config);
    let refusal = started.err().map(|failure| failure.to_string()).unwrap_or_default();
    assert!(refusal.contains("no TrustPolicy"), "{refusal}");
    Ok(())
}

#[test]
fn k5_an_edited_policy_holds_without_a_restart() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let countersign = lab.countersign("countersign")?;
    countersign.deployment(&image.tagged("1.4"))?.admitted()?;
    let edited = Policy { require_roles: vec!["targets/qa".to_owned()], ..lab.policy() };
    lab.policies.policy(&edited)?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while countersign.deployment(&image.tagged("1.4"))?.allowed {
        assert!(Instant::now() < deadline, "the old policy still holds");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[test]
fn k6_a_policy_that_warns_lifts_no_denial() -> Outcome<()> {
    let lab = Lab::start()?;
    lab.trusted(REPOSITORY, "1.4")?;
    let unsigned = lab.registry.push(REPOSITORY, "1.5", "not signed")?;
    for (name, action) in [("a-first", "Warn"), ("z-last", "Audit")] {
        lab.policies.policy(&Policy { name: name.to_owned(), action, ..lab.policy() })?;
    }
    let countersign = lab.countersign("both")?;
    countersign.deployment(&unsigned.tagged("1.5"))?.denied_as("Unsigned")?;

    fs::remove_file(lab.policies.folder().join("policy-payments.yaml"))?;
    let countersign = lab.countersign("warning")?;
    countersign.deployment(&unsigned.tagged("1.5"))?.denied_as("NoMatchingPolicy")?;
    let mut config = lab.config();
    config.unmatched = "Warn";
    let countersign = Countersign::start(&lab.folder("lenient"), &lab.authority, &config)?;
    let verdict = countersign.deployment(&unsigned.tagged("1.5"))?.admitted()?;
    assert!(verdict.warnings.iter().any(|warning| warning.contains("Unsigned")), "{verdict:?}");
    assert!(verdict.warnings.iter().all(|warning| warning.len() < 256), "{verdict:?}");
    Ok(())
}

#[test]
fn r1_what_becomes_of_tags() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    lab.policies.policy(&Policy { tags: "RequireDigest", ..lab.policy() })?;
    let strict = lab.countersign("strict")?;
    strict.pod(&image.tagged("1.4"))?.0.denied_as("NotPinned")?;
    strict.deployment(&image.tagged("1.4"))?.denied_as("NotPinned")?;
    strict.pod(&image.by_digest())?.0.admitted()?;

    lab.policies.policy(&Policy { tags: "Float", ..lab.policy() })?;
    let (verdict, stored) = lab.countersign("floating")?.pod(&image.tagged("1.4"))?;
    verdict.admitted()?;
    assert_eq!(stored, image.tagged("1.4"));

    // A later mutator that takes the digest away is seen by the validating webhook.
    lab.policies.policy(&lab.policy())?;
    let pinning = lab.countersign("pinning")?;
    let tagged = reviews::create("payments", &reviews::pod("app", &image.tagged("1.4")));
    pinning.review("/validate", &tagged)?.denied_as("NotPinned")?;
    Ok(())
}

#[test]
fn t1_a_root_that_the_pin_does_not_know_is_not_trusted() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let stranger = lab.gun("payments/stranger");
    lab.signer.init(&stranger)?;
    let other_home = lab.folder("other-signer");
    let other = countersign_e2e::notary_client::NotaryClient::at(
        &other_home,
        lab.front.url(),
        lab.authority.certificate(),
    )?;
    let taken = lab.gun("payments/taken");
    other.init(&taken)?;
    let foreign = other.pin(&taken)?;
    let mut source = lab.source(REPOSITORY)?;
    source.pins.clear();
    lab.policies.source(&source.clone().pin("wrong", &image.name, &foreign))?;
    let wrong = lab.countersign("wrong")?;
    wrong.pod(&image.by_digest())?.0.denied_as("RootNotPinned")?;
    // No pin, no trust: there is no first use.
    lab.policies.source(&source.pin("elsewhere", &taken, &foreign))?;
    let none = lab.countersign("none")?;
    none.pod(&image.by_digest())?.0.denied_as("RootNotPinned")?;
    Ok(())
}

#[test]
fn k12_hostile_requests_are_answered_and_harm_nobody() -> Outcome<()> {
    let lab = Lab::start()?;
    let image = lab.trusted(REPOSITORY, "1.4")?;
    let countersign = lab.countersign("countersign")?;
    let pod = reviews::pod("app", &image.by_digest());
    let review = |change: &dyn Fn(&mut Value)| {
        let mut review = reviews::create("payments", &pod);
        change(&mut review);
        review.to_string()
    };
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let hostile = [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "{\"apiVersion\": \"admission.k8s.io/v1\", \"kind\": \"AdmissionReview\"}".to_owned(),
        review(&|review| review["request"] = Value::Null),
        review(&|review| review["kind"] = json!("Pod")),
        review(&|review| review["apiVersion"] = json!("admission.k8s.io/v1beta1")),
        review(&|review| review["request"]["object"]["spec"]["containers"] = json!("none")),
        review(&|_| ()).replace("\"CREATE\"", &deep(10_000)),
        "{".repeat(20 << 20),
    ];
    for body in hostile {
        let start: String = body.chars().take(80).collect();
        let (status, answer) = countersign.post("/validate", body)?;
        let denied = status == 200 && !reviews::verdict(&answer)?.allowed;
        assert!((400..500).contains(&status) || denied, "{start}: {status} {answer}");
        countersign.pod(&image.by_digest())?.0.admitted()?;
    }
    // Large and unknown members are no reason to refuse.
    let large = review(&|review| {
        review["request"]["object"]["metadata"]["annotations"] = json!({"a": "a".repeat(1 << 20)});
        review["request"]["oldObject"] =
            json!({"metadata": {"annotations": {"a": "b".repeat(1 << 20)}}});
        review["request"]["object"]["spec"]["newerThanUs"] = json!([1, 2, 3]);
    });
    let (status, answer) = countersign.post("/validate", large)?;
    assert_eq!(status, 200, "{answer}");
    reviews::verdict(&answer)?.admitted()?;
    Ok(())
}
