use countersign_verify::image::Reference;
use countersign_verify::outcome::{AuthorityOutcome, Decision};
use jiff::Timestamp;

use super::*;
use crate::review::ImageUse;

fn verdict(policy: &str, action: Action, refusal: impl Into<Refusal>) -> PolicyVerdict {
    let refusal = refusal.into();
    PolicyVerdict {
        policy: Some(policy.to_owned()),
        action,
        finding: Finding::Refused(refusal.clone()),
        authorities: vec![AuthorityOutcome {
            authority: "release-team".to_owned(),
            outcome: Err(refusal),
        }],
        disclose: false,
        help: Some("https://wiki.example.com/signing".to_owned()),
    }
}

fn verified(policy: &str) -> PolicyVerdict {
    PolicyVerdict {
        finding: Finding::Verified,
        authorities: Vec::new(),
        ..verdict(policy, Action::Deny, unsigned())
    }
}

fn image(name: &str, image: &str, verdicts: Vec<PolicyVerdict>) -> ImageReview {
    ImageReview {
        usage: ImageUse {
            path: format!("spec.template.spec.containers[name={name}]"),
            image: image.to_owned(),
        },
        decision: Decision { reference: Reference::parse(image).ok(), digest: None, verdicts },
        pin: None,
        notes: Vec::new(),
    }
}

fn unsigned() -> Denial {
    Denial::Unsigned {
        wanted: "tag \"1.4\"".to_owned(),
        looked_in: vec!["targets/releases".to_owned(), "targets".to_owned()],
    }
}

fn mismatch() -> Denial {
    Denial::DigestMismatch {
        role: "targets".to_owned(),
        name: "1.4".to_owned(),
        signed: "sha256:secret-signed".to_owned(),
        found: "sha256:secret-found".to_owned(),
    }
}

const API: &str = "registry.example.com/payments/api:1.4";

#[test]
fn a_denial_as_the_design_words_it() {
    let denied = image("api", API, vec![verdict("payments", Action::Deny, unsigned())]);
    let fine = image("sidecar", "registry.example.com/proxy:2", vec![verified("payments")]);
    let text = denial(&Review { images: vec![denied, fine] });
    assert_eq!(
        text,
        "1 of 2 images denied by TrustPolicy \"payments\": Unsigned\n\
         spec.template.spec.containers[name=api] registry.example.com/payments/api:1.4\n  \
         release-team: tag \"1.4\" is not signed in targets/releases or targets\n  \
         check: countersign verify registry.example.com/payments/api:1.4    \
         help: https://wiki.example.com/signing"
    );
}

#[test]
fn the_first_line_names_every_policy_and_code_once() {
    let both = || {
        vec![
            verdict("b", Action::Deny, unsigned()),
            verdict("a", Action::Deny, mismatch()),
            verdict("c", Action::Warn, unsigned()),
        ]
    };
    let images = vec![image("one", API, both()), image("two", API, both())];
    let text = denial(&Review { images });
    let first = text.lines().next().expect("a line");
    assert_eq!(first, "2 of 2 images denied by TrustPolicy \"b\", \"a\": DigestMismatch, Unsigned");
}

#[test]
fn the_default_says_so() {
    let default = PolicyVerdict {
        policy: None,
        authorities: Vec::new(),
        help: None,
        ..verdict("", Action::Deny, Denial::NoMatchingPolicy)
    };
    let review = |default| Review { images: vec![image("api", API, vec![default])] };
    let text = denial(&review(default.clone()));
    assert!(
        text.starts_with("1 of 1 images denied by the installation's default: NoMatchingPolicy\n"),
        "{text}"
    );
    let not_let_in = "no TrustPolicy matches this image, and such images are not let in here";
    assert!(text.contains(not_let_in), "{text}");
    // Who is only warned is let in.
    let warned = warnings(&review(PolicyVerdict { action: Action::Warn, ..default }));
    let told = "NoMatchingPolicy by the installation's default: no TrustPolicy matches this image";
    assert!(warned.len() == 1 && warned[0].ends_with(told), "{warned:?}");
}

#[test]
fn k8_digests_and_causes_are_told_only_where_disclosed() {
    let refusals: [Refusal; 4] = [
        mismatch().into(),
        Denial::MalformedMetadata { file: "root".into(), reason: "secret".into() }.into(),
        Unavailable::RegistryUnavailable { registry: "r".into(), cause: "secret".into() }.into(),
        Unavailable::SourceUnavailable {
            source_name: "s".into(),
            cause: "secret".into(),
            is_away: true,
        }
        .into(),
    ];
    for refusal in refusals {
        let verdict = verdict("p", Action::Deny, refusal.clone());
        let text = denial(&Review { images: vec![image("api", API, vec![verdict])] });
        assert!(!text.contains("secret"), "{text}");
        assert!(text.contains(refusal.code()), "{text}");
    }
    assert!(told(&mismatch().into(), true).contains("secret-signed"));
}

#[test]
fn at_most_five_keys_are_disclosed() {
    let found = (0..7).map(|n| KeyFingerprint([n; 32])).collect();
    let denial = Denial::RootNotPinned {
        repository: "example.com/app".into(),
        pin: Some("team".into()),
        found,
        more: 2,
    };
    let text = told(&denial.clone().into(), true);
    assert_eq!(text.matches("sha256:").count(), 5, "{text}");
    assert!(text.ends_with("and 4 more"), "{text}");
    assert!(!told(&denial.into(), false).contains("sha256:"));
}

#[test]
fn a_warning_names_its_image_and_policy() {
    let verdicts = vec![verdict("payments", Action::Warn, unsigned())];
    let review = Review { images: vec![image("api", API, verdicts)] };
    let wanted = format!(
        "spec.template.spec.containers[name=api] {API}: Unsigned by TrustPolicy \"payments\": \
         tag \"1.4\" is not signed in targets/releases or targets"
    );
    assert_eq!(warnings(&review), [wanted]);
}

#[test]
fn an_image_cannot_write_lines_of_the_message() {
    let forged = "x:1\n0 of 1 images denied";
    let denied = image("api\nall is well", forged, vec![verdict("p", Action::Deny, unsigned())]);
    let text = denial(&Review { images: vec![denied] });
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn k12_a_message_is_bounded_and_shown_as_it_is_written() {
    let long = "x".repeat(7 << 20);
    let images = (0..1000).map(|_| image("a", &long, vec![verdict("p", Action::Deny, unsigned())]));
    let text = denial(&Review { images: images.collect() });
    assert!(text.len() < 64 << 10, "{}", text.len());
    assert!(text.starts_with("1000 of 1000 images denied"));
    assert!(text.contains("\nand 980 more images"), "{text}");
    let turned = image("a", "r.example/\u{202e}x", vec![verdict("p", Action::Deny, unsigned())]);
    assert!(!denial(&Review { images: vec![turned] }).contains('\u{202e}'));
}

#[test]
fn exceptions_and_notes_are_warned_of() {
    let mut excepted = verified("p");
    excepted.finding = Finding::Excepted {
        exception: "inc-123".into(),
        expires: Timestamp::UNIX_EPOCH,
        refusal: unsigned().into(),
    };
    let mut noted = image("noted", API, vec![verified("p")]);
    noted.notes.push("the digest counts".to_owned());
    let quiet = image("quiet", API, vec![verified("p"), verdict("q", Action::Audit, unsigned())]);
    let images = vec![image("excepted", API, vec![excepted]), noted, quiet];
    let warnings = warnings(&Review { images });
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("inc-123") && warnings[0].contains("Unsigned"));
    assert!(warnings[1].contains("the digest counts"));
}
