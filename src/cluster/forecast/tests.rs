use tokio::sync::mpsc::Receiver;

use super::*;

const ALERTS: &str = include_str!("../../../charts/countersign/files/alerts.yaml");

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

const NOW: &str = "2030-01-01T00:00:00Z";

/// What is said at that time of repositories that each have a role that expires then.
fn at_time(now: &str, expiries: &[(&str, &str)]) -> Forecast {
    let all = expiries.iter().enumerate().map(|(number, (role, expires))| Expiry {
        at: at(expires),
        repository: format!("r.example/{number}"),
        role: (*role).to_owned(),
    });
    let ends = all.clone().map(|it| it.at).collect();
    let source = OfSource { in_use: 1, next: all.min(), ends, ..OfSource::default() };
    Forecast::of(&source, at(now))
}

#[test]
fn how_soon_is_the_reason_and_the_message_holds_no_time_that_runs() {
    assert_eq!(at_time(NOW, &[]), Forecast::Sound);
    assert_eq!(Forecast::of(&OfSource::default(), Timestamp::UNIX_EPOCH), Forecast::Unknown);
    let reason = |expires| at_time(NOW, &[("targets", expires)]).words().1;
    assert_eq!(reason("2030-01-08T00:00:01Z"), "NothingExpires");
    assert_eq!(reason("2030-01-08T00:00:00Z"), "ExpiresSoon");
    assert_eq!(reason("2030-01-03T00:00:00Z"), "ExpiresVerySoon");
    assert_eq!(reason("2030-01-01T00:00:00Z"), "Expired");
    let soon = at_time(NOW, &[("targets/releases", "2030-01-05T00:00:00.123Z")]);
    let (status, _, message) = soon.words();
    assert_eq!(status, "True");
    assert_eq!(
        message,
        "targets/releases of r.example/0 expires at 2030-01-05T00:00:00Z: unless it is signed anew \
         by then, no image that needs it is admitted"
    );
    assert_eq!(Forecast::Unknown.words().0, "Unknown");
    assert_eq!(Forecast::Sound.words().0, "False");
}

#[test]
fn of_a_tuf_source_the_role_is_told_and_no_repository() {
    let targets = Expiry { at: at(NOW), repository: WHOLE.to_owned(), role: "targets".to_owned() };
    let source =
        OfSource { in_use: 1, ends: vec![targets.at], next: Some(targets), ..OfSource::default() };
    let message = Forecast::of(&source, at(NOW)).words().2;
    assert!(message.starts_with("targets expired at 2030-01-01T00:00:00Z: "), "{message}");
}

#[test]
fn a_condition_tells_how_many_others_end_as_soon() {
    let soon = [
        ("targets", "2030-01-08T00:00:00Z"),
        ("targets", "2030-01-04T00:00:00Z"),
        ("root", "2030-01-05T00:00:00Z"),
        ("targets", "2030-01-08T00:00:01Z"),
    ];
    let message = |now, expiries: &[_]| at_time(now, expiries).words().2;
    let ends = |now, expiries: &[_], wanted| {
        let message = message(now, expiries);
        assert!(message.ends_with(wanted), "{message}");
    };
    ends(NOW, &soon, "admitted; 2 more repositories have a role that expires within seven days");
    assert!(message(NOW, &soon).starts_with("targets of r.example/1 "));
    ends(
        "2030-01-03T00:00:00Z",
        &soon,
        "; 1 more repository has a role that expires within two days",
    );
    ends("2030-01-05T00:00:00Z", &soon, "; 1 more repository has a role that has expired");
    ends("2030-01-04T00:00:00Z", &soon, "signed anew");
}

fn teller() -> (Teller, Receiver<Refusal>) {
    let (events, queue) = Events::queued();
    (Teller::new(Some(events)), queue)
}

#[test]
fn an_event_is_told_once_at_each_threshold_and_again_after_a_renewal() {
    let (mut teller, mut queue) = teller();
    let mut told = |now: &str, expiries: &[(&str, &str)]| {
        let forecasts = BTreeMap::from([("corp".to_owned(), at_time(now, expiries))]);
        teller.tell(&forecasts, |name| (name == "corp").then(|| "1-2-3".to_owned()));
        queue.try_recv().ok().map(|it| {
            assert!(queue.try_recv().is_err(), "one at most");
            (it.code, it.note)
        })
    };
    let first = [("targets", "2030-01-08T00:00:00Z")];
    let until = |verb, at| format!("targets of r.example/0 {verb} at {at}: ");
    let mut code = |now, expiries: &[_], wanted: Option<(&str, String)>| {
        let found = told(now, expiries);
        assert_eq!(found.as_ref().map(|it| it.0), wanted.as_ref().map(|it| it.0), "{now}");
        if let (Some((_, note)), Some((_, start))) = (found, wanted) {
            assert!(note.starts_with(&start), "{note}");
        }
    };
    code("2029-12-31T23:59:59Z", &first, None);
    let expires = || until("expires", "2030-01-08T00:00:00Z");
    code(NOW, &first, Some(("ExpiresSoon", expires())));
    code("2030-01-02T00:00:00Z", &first, None);
    // Another one that ends later is no news of the first.
    let another = [first[0], ("targets", "2030-01-08T12:00:00Z")];
    code("2030-01-03T00:00:00Z", &another, None);
    code("2030-01-06T00:00:00Z", &first, Some(("ExpiresVerySoon", expires())));
    code("2030-01-07T00:00:00Z", &first, None);
    let expired = until("expired", "2030-01-08T00:00:00Z");
    code("2030-01-08T00:00:00Z", &first, Some(("Expired", expired)));
    code("2030-01-09T00:00:00Z", &first, None);
    // It was signed anew.
    let next = [("targets", "2030-04-01T00:00:00Z")];
    let expires = || until("expires", "2030-04-01T00:00:00Z");
    code("2030-01-10T00:00:00Z", &next, None);
    code("2030-03-25T00:00:00Z", &next, Some(("ExpiresSoon", expires())));
    code("2030-03-30T00:00:00Z", &next, Some(("ExpiresVerySoon", expires())));
    // Signed anew for a day only, between two looks.
    let short = [("targets", "2030-04-01T12:00:00Z")];
    let expires = until("expires", "2030-04-01T12:00:00Z");
    code("2030-03-31T00:00:00Z", &short, Some(("ExpiresVerySoon", expires)));
}

#[test]
fn alerts_have_the_thresholds_of_condition_and_events() {
    for (alert, left) in [
        ("CountersignMetadataExpiring", SOON),
        ("CountersignMetadataExpiringVerySoon", VERY_SOON),
        ("CountersignMetadataNotResigned", VERY_SOON),
    ] {
        let rules = ALERTS.split("  - alert: ").find_map(|rule| rule.strip_prefix(alert));
        let rule = rules.filter(|rule| rule.starts_with('\n')).expect("the alert");
        let wanted = format!(" - time() < {} * 86400\n", left.as_hours() / 24);
        assert!(rule.contains(&wanted), "{wanted}: {rule}");
    }
}
