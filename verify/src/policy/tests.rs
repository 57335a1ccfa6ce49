//! Selection, scope and combination, as tables.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::image::Digest;
use crate::outcome::{
    AuthorityOutcome, Decision, Effect, Finding, KeyFingerprint, PolicyVerdict, Proof, Refusal,
    Unavailable,
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

fn image(text: &str) -> Reference {
    Reference::parse(text).expect("a reference")
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).expect("a pattern")
}

fn policy(name: &str, include: &[&str]) -> Policy {
    Policy {
        name: name.to_owned(),
        include: include.iter().map(|text| pattern(text)).collect(),
        exclude: Vec::new(),
        namespaces: NamespaceSelector::default(),
        action: Action::Deny,
        tags: Tags::PinDigest,
        rule: Rule::Verify { min_authorities: 1, authorities: Vec::new() },
        exceptions: Vec::new(),
        disclose: false,
        help: None,
    }
}

fn proof(keys: &[u8]) -> Proof {
    let keys = keys.iter().map(|key| KeyFingerprint([*key; 32])).collect();
    Proof::new(Digest::sha256(b"image"), "targets".into(), "1".into(), keys, later(60))
        .expect("a proof by somebody")
}

fn signed(keys: &[u8]) -> AuthorityOutcome {
    AuthorityOutcome { authority: "a".to_owned(), outcome: Ok(proof(keys)) }
}

fn refused(refusal: impl Into<Refusal>) -> AuthorityOutcome {
    AuthorityOutcome { authority: "a".to_owned(), outcome: Err(refusal.into()) }
}

fn min(min_authorities: usize) -> Policy {
    Policy {
        rule: Rule::Verify { min_authorities, authorities: Vec::new() },
        ..policy("p", &["**"])
    }
}

fn expired() -> Denial {
    Denial::Expired { role: "root".into(), expired: NOW, now: NOW }
}

#[test]
fn a_proof_by_nobody_cannot_be_made() {
    let nobody = Proof::new(Digest::sha256(b""), String::new(), String::new(), [].into(), NOW);
    assert_eq!(nobody, None);
}

#[test]
fn t10_authorities_that_share_a_key_count_once() {
    let table: &[(&[&[u8]], usize)] = &[
        (&[], 0),
        (&[&[1]], 1),
        (&[&[1], &[1]], 1),
        (&[&[1], &[2]], 2),
        (&[&[1, 2], &[2, 3]], 1),
        // Taking the first one greedily would leave one; leaving it out leaves two.
        (&[&[1, 2], &[1], &[2]], 2),
        (&[&[1], &[1, 2], &[2, 3], &[3]], 2),
    ];
    for (keys, wanted) in table {
        let proofs: Vec<Proof> = keys.iter().map(|keys| proof(keys)).collect();
        assert_eq!(independent(&proofs.iter().collect::<Vec<_>>()), *wanted, "{keys:?}");
    }
}

#[test]
fn enough_independent_signatures_verify() {
    let finding = |policy: &Policy, outcomes| policy.judge(outcomes, false, None, NOW).finding;
    assert_eq!(finding(&min(1), vec![signed(&[1])]), Finding::Verified);
    assert_eq!(finding(&min(2), vec![signed(&[1]), signed(&[2])]), Finding::Verified);
    assert_eq!(finding(&min(1), vec![refused(expired()), signed(&[2])]), Finding::Verified);
    let one_key = finding(&min(2), vec![signed(&[1]), signed(&[1])]);
    let wanted = Denial::ThresholdNotMet { role: "the policy".into(), found: 1, wanted: 2 };
    assert_eq!(one_key, Finding::Refused(wanted.into()));
}

#[test]
fn no_success_over_an_empty_set() {
    for min_authorities in [0, 1] {
        let verdict = min(min_authorities).judge(Vec::new(), false, None, NOW);
        assert!(verdict.refusal().is_some(), "{min_authorities}");
    }
}

#[test]
fn unavailable_only_where_the_missing_evidence_might_have_been_enough() {
    let code = |min_authorities, outcomes| {
        min(min_authorities).judge(outcomes, false, None, NOW).refusal().map(Refusal::code)
    };
    let away = || refused(Unavailable::DeadlineExceeded);
    assert_eq!(code(1, vec![refused(expired()), away()]), Some("DeadlineExceeded"));
    assert_eq!(code(2, vec![refused(expired()), away()]), Some("Expired"));
    assert_eq!(code(2, vec![signed(&[1]), refused(expired()), away()]), Some("DeadlineExceeded"));
    assert_eq!(code(1, vec![refused(expired())]), Some("Expired"));
}

#[test]
fn a_tag_that_verifies_is_still_refused_where_a_digest_is_wanted() {
    let verdict = min(1).judge(vec![signed(&[1])], true, None, NOW);
    assert_eq!(verdict.refusal().map(Refusal::code), Some("NotPinned"));
    let verdict = min(1).judge(vec![refused(expired())], true, None, NOW);
    assert_eq!(verdict.refusal().map(Refusal::code), Some("Expired"));
}

#[test]
fn an_exception_covers_until_it_ends_and_then_says_so() {
    let exception = Exception {
        name: "inc-1".into(),
        images: vec![pattern("**")],
        namespaces: ["team".to_owned()].into(),
        expires: later(10),
        reason: "r".into(),
    };
    let judge = |outcome, now| min(1).judge(vec![outcome], false, Some(&exception), now).finding;
    let refusal = Refusal::from(expired());
    let excepted = Finding::Excepted { exception: "inc-1".into(), expires: later(10), refusal };
    assert_eq!(judge(refused(expired()), later(9)), excepted);
    let over = Denial::ExceptionExpired { exception: "inc-1".into(), expired: later(10) };
    assert_eq!(judge(refused(expired()), later(10)), Finding::Refused(over.into()));
    assert_eq!(judge(signed(&[1]), later(11)), Finding::Verified);
    let away = Refusal::from(Unavailable::DeadlineExceeded);
    assert_eq!(judge(refused(away.clone()), later(10)), Finding::Refused(away));
}

#[test]
fn an_exception_covers_its_namespaces_and_images_only() {
    let digest = Digest::sha256(b"image");
    let exception = |name: &str, end| Exception {
        name: name.into(),
        images: vec![pattern(&format!("example.com/app@{digest}"))],
        namespaces: ["team".to_owned()].into(),
        expires: later(end),
        reason: "r".into(),
    };
    let policy = Policy {
        exceptions: vec![exception("short", 5), exception("long", 9)],
        ..policy("p", &["**"])
    };
    let covered = |text: &str, namespace: Option<&str>| {
        let namespace = Namespace { name: namespace, labels: None };
        policy.exception(&image(text), namespace).map(|exception| exception.name.clone())
    };
    let named = format!("example.com/app@{digest}");
    assert_eq!(covered(&named, Some("team")).as_deref(), Some("long"));
    assert_eq!(covered(&named, Some("other")), None);
    assert_eq!(covered(&named, None), None);
    assert_eq!(covered("example.com/app:1", Some("team")), None);
}

#[test]
fn allow_unverified_and_invalid_policies_ask_nobody() {
    let reason = "mirror".to_owned();
    let rule = Rule::AllowUnverified { reason: reason.clone() };
    let allowed = Policy { rule, ..policy("p", &["**"]) };
    let finding = allowed.judge(Vec::new(), true, None, NOW).finding;
    assert_eq!(finding, Finding::AllowedUnverified { reason });
    let denial = Denial::InvalidPolicy { field: "spec".into(), reason: "r".into() };
    let invalid = Policy { rule: Rule::Invalid(denial.clone()), ..policy("p", &["**"]) };
    let verdict = invalid.judge(Vec::new(), false, None, NOW);
    assert_eq!(verdict.refusal(), Some(&denial.into()));
}

#[test]
fn k6_no_verdict_lifts_another() {
    let verdict = |action, finding| PolicyVerdict {
        policy: None,
        action,
        finding,
        authorities: Vec::new(),
        disclose: false,
        help: None,
    };
    let no = || Finding::Refused(expired().into());
    let excepted = || Finding::Excepted {
        exception: "e".into(),
        expires: later(1),
        refusal: expired().into(),
    };
    let table = [
        (vec![], Effect::Deny),
        (vec![(Action::Deny, Finding::Verified)], Effect::Allow),
        (vec![(Action::Deny, no())], Effect::Deny),
        (vec![(Action::Warn, no())], Effect::Warn),
        (vec![(Action::Audit, no())], Effect::Allow),
        (vec![(Action::Deny, excepted())], Effect::Warn),
        (vec![(Action::Deny, no()), (Action::Deny, excepted())], Effect::Deny),
        (vec![(Action::Warn, no()), (Action::Audit, no())], Effect::Warn),
        (vec![(Action::Deny, no()), (Action::Warn, no())], Effect::Deny),
        (vec![(Action::Deny, no()), (Action::Deny, Finding::Verified)], Effect::Deny),
    ];
    for (verdicts, wanted) in table {
        for order in [verdicts.clone(), verdicts.into_iter().rev().collect()] {
            let verdicts = order.into_iter().map(|(a, f)| verdict(a, f)).collect();
            let decision = Decision { reference: None, digest: None, verdicts };
            assert_eq!(decision.effect(), wanted, "{decision:?}");
        }
    }
}

fn requirement(key: &str, operator: Operator) -> NamespaceSelector {
    NamespaceSelector { requirements: vec![Requirement { key: key.into(), operator }] }
}

#[test]
fn namespace_selectors() {
    let set = |value: &str| BTreeSet::from([value.to_owned()]);
    let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
    let known = Namespace { name: Some("team"), labels: Some(&labels) };
    let table = [
        (requirement("env", Operator::In(set("prod"))), true),
        (requirement("env", Operator::In(set("dev"))), false),
        (requirement("env", Operator::NotIn(set("prod"))), false),
        (requirement("env", Operator::NotIn(set("dev"))), true),
        (requirement("tier", Operator::In(set("gold"))), false),
        (requirement("tier", Operator::NotIn(set("gold"))), true),
        (requirement("env", Operator::Exists), true),
        (requirement("tier", Operator::Exists), false),
        (requirement("env", Operator::DoesNotExist), false),
        (requirement("tier", Operator::DoesNotExist), true),
        (requirement("kubernetes.io/metadata.name", Operator::In(set("team"))), true),
        (requirement("kubernetes.io/metadata.name", Operator::In(set("other"))), false),
        (NamespaceSelector::default(), true),
    ];
    for (selector, wanted) in table {
        assert_eq!(selector.matches(known), Some(wanted), "{selector:?}");
    }
    let both = NamespaceSelector {
        requirements: vec![
            Requirement { key: "env".into(), operator: Operator::Exists },
            Requirement { key: "tier".into(), operator: Operator::Exists },
        ],
    };
    assert_eq!(both.matches(known), Some(false));
}

#[test]
fn k14_labels_that_cannot_be_looked_up_leave_the_scope_open() {
    let by_label = requirement("env", Operator::In(["prod".to_owned()].into()));
    let by_name =
        requirement("kubernetes.io/metadata.name", Operator::In(["team".to_owned()].into()));
    let unknown = |name| Namespace { name, labels: None };
    assert_eq!(by_label.matches(unknown(Some("team"))), None);
    assert_eq!(by_name.matches(unknown(Some("team"))), Some(true));
    assert_eq!(by_name.matches(unknown(Some("other"))), Some(false));
    assert_eq!(by_name.matches(unknown(None)), None);
    let both =
        NamespaceSelector { requirements: [by_label.requirements, by_name.requirements].concat() };
    assert_eq!(both.matches(unknown(Some("team"))), None);
    assert_eq!(both.matches(unknown(Some("other"))), Some(false));
}

#[test]
fn k14_a_policy_that_may_match_is_selected_as_such() {
    let open = Policy {
        namespaces: requirement("env", Operator::Exists),
        ..policy("open", &["example.com/**"])
    };
    let set = PolicySet::new(vec![open, policy("sure", &["example.com/**"])]);
    let selected = set.select(&image("example.com/app"), Namespace::default());
    let selected: Vec<(&str, bool)> =
        selected.iter().map(|it| (it.policy.name.as_str(), it.certain)).collect();
    assert_eq!(selected, [("open", false), ("sure", true)]);
}

#[test]
fn exclusions_and_namespaces_narrow_a_policy() {
    let mut narrow = policy("p", &["example.com/**", "example.org/app"]);
    narrow.exclude = vec![pattern("example.com/public/*")];
    let matches = |text: &str| narrow.matches(&image(text), Namespace::default()) == Some(true);
    assert!(matches("example.com/team/app"));
    assert!(matches("example.org/app"));
    assert!(!matches("example.com/public/app"));
    assert!(!matches("example.net/app"));
    narrow.namespaces =
        requirement("kubernetes.io/metadata.name", Operator::In(["team".to_owned()].into()));
    let other = Namespace { name: Some("other"), labels: None };
    assert_eq!(narrow.matches(&image("example.com/team/app"), other), Some(false));
}

#[test]
fn r8_a_policy_for_a_host_is_not_found_for_its_name_elsewhere() {
    let set = PolicySet::new(vec![policy("p", &["registry.example.com/**"])]);
    let found = |text: &str| set.select(&image(text), Namespace::default()).len();
    assert_eq!(found("registry.example.com/a/b"), 1);
    assert_eq!(found("evil.example/registry.example.com/a/b"), 0);
    assert_eq!(found("registry.example.com.evil.example/a"), 0);
    assert_eq!(found("registry.example.com:5000/a"), 0);
}

#[test]
fn a_set_tells_its_policies_in_their_order() {
    let set = PolicySet::new(vec![policy("b", &["**"]), policy("a", &["r.example/**"])]);
    let names: Vec<&str> = set.policies().iter().map(|policy| policy.name.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
}

proptest! {
    #[test]
    fn the_index_finds_what_a_scan_finds(
        patterns in proptest::collection::vec(
            "(\\*\\*|(a\\.b|c\\.d|\\*\\.b)(/(x|y|x\\*|\\*)){1,3}(/\\*\\*)?)", 1..12),
        name in "(a\\.b|c\\.d)(/(x|y|xy)){1,4}",
    ) {
        let policies: Vec<Policy> = patterns
            .iter()
            .enumerate()
            .map(|(index, text)| policy(&index.to_string(), &[text, "a.b/x/**"]))
            .collect();
        let image = image(&name);
        let scanned: Vec<&str> = policies
            .iter()
            .filter(|policy| policy.matches(&image, Namespace::default()) == Some(true))
            .map(|policy| policy.name.as_str())
            .collect();
        let set = PolicySet::new(policies.clone());
        let found: Vec<&str> = set
            .select(&image, Namespace::default())
            .iter()
            .map(|selected| selected.policy.name.as_str())
            .collect();
        prop_assert_eq!(found, scanned);
    }
}
