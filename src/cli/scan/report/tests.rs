use countersign_verify::outcome::{Denial, Finding as Of, PolicyVerdict, Unavailable};
use countersign_verify::policy::Action;
use serde_json::Value;

use super::*;
use crate::cli::scan::by_tag::settle;
use crate::review::ImageUse;

fn review(image: &str, policy: Option<&str>, action: Action, finding: Of) -> ImageReview {
    let verdict = PolicyVerdict {
        policy: policy.map(str::to_owned),
        finding,
        ..PolicyVerdict::by_installation(action, Denial::NotPinned)
    };
    let decision = Decision { reference: None, digest: None, verdicts: vec![verdict] };
    let usage = ImageUse { path: "image".to_owned(), image: image.to_owned() };
    ImageReview { usage, decision, pin: None, notes: Vec::new() }
}

fn good(image: &str) -> ImageReview {
    review(image, Some("p"), Action::Deny, Of::Verified)
}

fn denied(image: &str) -> ImageReview {
    review(image, Some("p"), Action::Deny, Of::Refused(Denial::NotPinned.into()))
}

fn warned(image: &str) -> ImageReview {
    review(image, Some("p"), Action::Warn, Of::Refused(Denial::NotPinned.into()))
}

fn unmatched(image: &str) -> ImageReview {
    review(image, None, Action::Deny, Of::Refused(Denial::NoMatchingPolicy.into()))
}

fn late(image: &str) -> ImageReview {
    review(image, Some("p"), Action::Deny, Of::Refused(Unavailable::DeadlineExceeded.into()))
}

fn finding(review: ImageReview, before: Option<ImageReview>) -> Finding {
    let image =
        Image { namespace: "a".to_owned(), image: review.usage.image.clone(), by_tag: false };
    let owner = Owner { kind: "ReplicaSet".to_owned(), name: "api-7d9f".to_owned() };
    let paths = BTreeSet::from(["spec.containers[name=app]".to_owned()]);
    let workloads = BTreeMap::from([(owner, Place { pods: 3, paths, ..Place::default() })]);
    Finding { image, workloads, review, before, lapses: BTreeSet::new() }
}

fn report(findings: Vec<Finding>) -> Report {
    let compared = findings.iter().any(|finding| finding.before.is_some());
    let place = "in namespace \"a\"".to_owned();
    Report { place, left_out: BTreeSet::new(), pods: 12, findings, compared }
}

fn scanned(reviews: Vec<ImageReview>) -> Report {
    report(reviews.into_iter().map(|review| finding(review, None)).collect())
}

const NOT_SEEN: &str =
    "\nNot seen: workloads without a pod now (CronJobs between runs, ended Jobs, scaled to zero).";

#[test]
fn beneath_a_row_is_what_decides() {
    let mut review = denied("r/d:1");
    review.decision.verdicts.extend(warned("r/d:1").decision.verdicts);
    review.decision.verdicts.extend(unmatched("r/d:1").decision.verdicts);
    review.decision.verdicts[1].policy = Some("warns".to_owned());
    review.decision.verdicts[2].action = Action::Audit;
    let text = scanned(vec![review.clone()]).text();
    assert!(text.contains("    p: NotPinned") && !text.contains("warns"), "{text}");
    assert!(!text.contains("(default)"), "{text}");
    // It says under which setting.
    let mut review = unmatched("r/u:1");
    review.decision.verdicts[0].action = Action::Warn;
    let text = scanned(vec![review]).text();
    let wanted = "matches this image, and unmatched=Warn warns of such images\n";
    assert!(text.contains("    (default): ") && text.contains(wanted), "{text}");
}

#[test]
fn what_would_be_denied_comes_first_then_what_would_be_warned_of_and_a_count() {
    let report = scanned(vec![warned("r/w:1"), good("r/g:1"), denied("r/d:1"), unmatched("r/u:1")]);
    let wanted = "\
NAMESPACE  WORKLOAD             PODS  VERDICT             POLICY     IMAGE
a          ReplicaSet/api-7d9f  3     NotPinned           p          r/d:1
    p: NotPinned: the image is named by tag; this policy wants a digest; write the image as NAME@sha256:..., or check
        that the mutating webhook runs
a          ReplicaSet/api-7d9f  3     NoMatchingPolicy    (default)  r/u:1
    (default): NoMatchingPolicy: no TrustPolicy matches this image, and unmatched=Deny refuses such images
a          ReplicaSet/api-7d9f  3     warning: NotPinned  p          r/w:1
    p: NotPinned: the image is named by tag; this policy wants a digest; write the image as NAME@sha256:..., or check
        that the mutating webhook runs

12 pods, 4 images: 2 would be denied, 1 warned.";
    let wanted = format!("{wanted}{NOT_SEEN}");
    assert_eq!(report.text(), wanted);
}

#[test]
fn nothing_found_and_what_was_left_out_are_told() {
    let mut none = scanned(Vec::new());
    none.pods = 0;
    assert_eq!(none.text(), format!("No pods run in namespace \"a\".{NOT_SEEN}"));
    none.left_out.insert("kube-system".to_owned());
    assert_eq!(
        none.text(),
        format!("No pods run in namespace \"a\". Left out: kube-system.{NOT_SEEN}")
    );
    let mut one = scanned(vec![good("r/g:1")]);
    one.pods = 1;
    assert_eq!(one.text(), format!("1 pod, 1 image: 0 would be denied, 0 warned.{NOT_SEEN}"));
}

#[test]
fn candidates_are_told_by_what_they_change() {
    let report = report(vec![
        finding(denied("r/new:1"), Some(good("r/new:1"))),
        finding(good("r/in:1"), Some(unmatched("r/in:1"))),
        finding(denied("r/other:1"), Some(unmatched("r/other:1"))),
        finding(denied("r/same:1"), Some(denied("r/same:1"))),
        finding(good("r/good:1"), Some(good("r/good:1"))),
        finding(late("r/late:1"), Some(good("r/late:1"))),
    ]);
    let text = report.text();
    let headings: Vec<&str> = text.lines().filter(|line| line.ends_with(':')).collect();
    assert_eq!(
        headings,
        [
            "Newly denied:",
            "Denied for another reason:",
            "Newly admitted:",
            "Not known for want of evidence:",
            "Denied as before:"
        ]
    );
    assert!(text.contains("    before: NoMatchingPolicy by (default)\n"), "{text}");
    assert!(!text.contains("r/good:1"), "{text}");
    let (_, same) = text.split_once("Denied as before:\n").expect("it is there");
    assert!(same.contains("r/same:1") && !same.contains("before: "), "{text}");
    let summary = "12 pods, 6 images: 4 would be denied, 0 warned. Compared with the present policies: 1 newly denied, 1 denied for another reason, 1 newly admitted, 1 not known for want of evidence, 2 unchanged.";
    assert!(text.ends_with(&format!("\n{summary}{NOT_SEEN}")), "{text}");
    assert_eq!(report.exit(), Exit::Denied);
}

#[test]
fn only_what_would_be_denied_counts_for_the_exit_status() {
    for (reviews, wanted) in [
        (vec![], Exit::Done),
        (vec![good("r/g:1"), warned("r/w:1")], Exit::Done),
        (vec![good("r/g:1"), late("r/l:1")], Exit::Unavailable),
        (vec![late("r/l:1"), denied("r/d:1")], Exit::Denied),
        (vec![unmatched("r/u:1")], Exit::Denied),
    ] {
        assert_eq!(scanned(reviews.clone()).exit(), wanted, "{reviews:?}");
    }
    // By the candidates, not by what is in place.
    let mended = report(vec![finding(good("r/g:1"), Some(denied("r/g:1")))]);
    assert_eq!(mended.exit(), Exit::Done);
}

#[test]
fn json_has_everything() {
    let mut report = report(vec![
        finding(denied("r/d:1"), Some(good("r/d:1"))),
        finding(good("r/g:1"), Some(good("r/g:1"))),
    ]);
    report.left_out.insert("kube-system".to_owned());
    let json: Value = serde_json::to_value(report.json()).expect("JSON");
    assert_eq!(json["leftOutNamespaces"], serde_json::json!(["kube-system"]));
    let summary = &json["summary"];
    assert_eq!((&summary["pods"], &summary["denied"]), (&12.into(), &1.into()));
    assert_eq!(summary["changes"]["NewlyDenied"], 1);
    let [bad, fine] = [&json["images"][0], &json["images"][1]];
    assert_eq!((bad["namespace"].as_str(), bad["image"].as_str()), (Some("a"), Some("r/d:1")));
    let workload = serde_json::json!({
        "kind": "ReplicaSet", "name": "api-7d9f", "pods": 3, "paths": ["spec.containers[name=app]"],
    });
    assert_eq!(bad["workloads"], serde_json::json!([workload]));
    assert_eq!((&bad["admitted"], &bad["change"]), (&false.into(), &"NewlyDenied".into()));
    assert_eq!(bad["policies"][0]["code"], "NotPinned");
    assert_eq!(bad["before"]["admitted"], true);
    assert_eq!((&fine["admitted"], &fine["change"]), (&true.into(), &"Unchanged".into()));
    let plain = serde_json::to_value(scanned(vec![denied("r/d:1")]).json()).expect("JSON");
    assert!(
        plain["images"][0].get("before").is_none() && plain["summary"].get("changes").is_none()
    );
}

/// A finding of pods that name the tag and a digest of it, or of the same by its tag.
fn of_tag(review: Verdict, before: Before) -> Finding {
    let mut finding = finding(review(TAGGED), before.map(|before| before(TAGGED)));
    finding.image.by_tag = true;
    let place = finding.workloads.values_mut().next().expect("a workload");
    place.digests.insert(format!("sha256:{}", "a".repeat(64)));
    finding
}

fn of_digest(review: Verdict, before: Before) -> Finding {
    let image = format!("{TAGGED}@sha256:{}", "a".repeat(64));
    finding(review(&image), before.map(|before| before(&image)))
}

const TAGGED: &str = "r.example/api:1.4";

type Verdict = fn(&str) -> ImageReview;

type Before = Option<Verdict>;

#[test]
fn pinned_images_are_told_by_tag_only_where_that_tells_more() {
    let strange: Verdict = |image| unmatched(image);
    let mismatch: Verdict = |image| {
        let denial = Denial::ExceptionExpired {
            exception: "e".into(),
            expired: jiff::Timestamp::UNIX_EPOCH,
        };
        review(image, Some("p"), Action::Deny, Of::Refused(denial.into()))
    };
    let table: [(Verdict, Before, Verdict, Before, bool); 8] = [
        (good, None, good, None, false),
        (good, None, mismatch, None, true),
        (good, None, warned, None, true),
        (mismatch, None, mismatch, None, false),
        (strange, None, mismatch, None, true),
        (mismatch, None, good, None, false),
        (good, Some(good), denied, Some(good), true),
        (good, Some(denied), good, Some(denied), false),
    ];
    let none = BTreeSet::new();
    for (number, (digest, digest_before, tag, tag_before, told)) in table.into_iter().enumerate() {
        let findings = || vec![of_tag(tag, tag_before), of_digest(digest, digest_before)];
        // Where tags are refused already, the digest is the template's.
        assert_eq!(settle(findings(), &BTreeSet::from(["p".to_owned()])).len(), 1, "{number}");
        let settled = settle(findings(), &none);
        let by_tag: Vec<&Finding> = settled.iter().filter(|it| it.image.by_tag).collect();
        assert_eq!(by_tag.len(), usize::from(told), "{number}");
        assert_eq!(settled.len(), 1 + by_tag.len(), "{number}");
        for finding in by_tag {
            let remark = &finding.review.notes[0];
            assert!(remark.starts_with("by its tag; the running pods are pinned to sha256:aaa"));
        }
    }
    let settled = settle(vec![of_tag(good, None), of_digest(mismatch, None)], &none);
    assert!(settled[0].review.notes[0].starts_with("by its tag it would be let in"));
    let moved = report(settle(vec![of_tag(mismatch, None), of_digest(good, None)], &none));
    assert_eq!(moved.exit(), Exit::Denied);
    let json = serde_json::to_value(moved.json()).expect("JSON");
    assert_eq!(json["images"][0]["pinnedTo"][0], format!("sha256:{}", "a".repeat(64)));
    assert!(json["images"][1].get("pinnedTo").is_none(), "{json}");
}
