use super::*;
use crate::policy::Action;

const TIME: Timestamp = Timestamp::UNIX_EPOCH;

fn denied() -> Refusal {
    Denial::NotPinned.into()
}

fn unavailable() -> Refusal {
    Unavailable::Overloaded.into()
}

fn verdict(action: Action, finding: Finding) -> PolicyVerdict {
    PolicyVerdict { finding, ..PolicyVerdict::by_installation(action, denied()) }
}

fn decision(verdicts: Vec<PolicyVerdict>) -> Decision {
    Decision { reference: None, digest: None, verdicts }
}

#[test]
fn only_refusals_of_deny_policies_deny() {
    let excepted = Finding::Excepted { exception: "e".into(), expires: TIME, refusal: denied() };
    let decision = decision(vec![
        verdict(Action::Warn, Finding::Refused(denied())),
        verdict(Action::Deny, Finding::Verified),
        verdict(Action::Deny, excepted),
        verdict(Action::Deny, Finding::Refused(unavailable())),
        verdict(Action::Audit, Finding::Refused(denied())),
    ]);
    let denying: Vec<_> = decision.denying().collect();
    assert_eq!(denying, [(&decision.verdicts[3], &unavailable())]);
}

#[test]
fn an_effect_is_made_by_the_verdicts_that_come_to_it() {
    let excepted = Finding::Excepted { exception: "e".into(), expires: TIME, refusal: denied() };
    let verdicts = vec![
        verdict(Action::Warn, Finding::Refused(unavailable())),
        verdict(Action::Deny, excepted),
        verdict(Action::Audit, Finding::Refused(denied())),
        verdict(Action::Deny, Finding::Verified),
    ];
    let decision = decision(verdicts);
    assert_eq!(decision.effect(), Effect::Warn);
    let [warned, excepted, ..] = decision.verdicts.as_slice() else { panic!("four verdicts") };
    let (unavailable, denied) = (unavailable(), denied());
    let making: Vec<_> = decision.making(Effect::Warn).collect();
    assert_eq!(making, [(warned, &unavailable), (excepted, &denied)]);
    assert_eq!(decision.making(Effect::Deny).count(), 0);
    assert_eq!(decision.making(Effect::Allow).count(), 0);
}

#[test]
fn evidence_is_wanting_only_where_no_denying_verdict_has_any() {
    let refused = |action, refusal| verdict(action, Finding::Refused(refusal));
    for (verdicts, wanting) in [
        (vec![], false),
        (vec![verdict(Action::Deny, Finding::Verified)], false),
        (vec![refused(Action::Warn, unavailable())], false),
        (vec![refused(Action::Deny, unavailable())], true),
        (vec![refused(Action::Deny, denied())], false),
        (vec![refused(Action::Deny, unavailable()), refused(Action::Deny, denied())], false),
        (vec![refused(Action::Deny, denied()), refused(Action::Deny, unavailable())], false),
        (vec![refused(Action::Warn, denied()), refused(Action::Deny, unavailable())], true),
    ] {
        let decision = decision(verdicts);
        assert_eq!(decision.denied_for_want_of_evidence(), wanting, "{decision:?}");
    }
}

#[test]
fn a_proof_tells_what_it_was_made_of() {
    let digest = Digest::sha256(b"image");
    let keys = BTreeSet::from([KeyFingerprint([7; 32])]);
    let expires = Timestamp::from_second(60).expect("a time");
    let proof = Proof::new(digest.clone(), "targets".into(), "1.4".into(), keys.clone(), expires)
        .expect("a proof by somebody");
    assert_eq!(proof.digest(), &digest);
    assert_eq!((proof.role(), proof.name()), ("targets", "1.4"));
    assert_eq!((proof.keys(), proof.expires()), (&keys, expires));
}

#[test]
fn a_root_that_is_not_pinned_says_by_which_pin() {
    let text = |pin: Option<&str>| {
        let (repository, pin) = ("r.example/app".to_owned(), pin.map(str::to_owned));
        Denial::RootNotPinned { repository, pin, found: Vec::new(), more: 0 }.to_string()
    };
    assert_eq!(text(None), "no pin covers r.example/app");
    assert_eq!(
        text(Some("team")),
        "the root of r.example/app is not signed as pin \"team\" demands"
    );
}

#[test]
fn a_fingerprint_is_written_as_a_digest() {
    let mut bytes = [0xab; 32];
    bytes[0] = 1;
    let text = KeyFingerprint(bytes).to_string();
    assert_eq!(text, format!("sha256:01{}", "ab".repeat(31)));
}
