use super::*;

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
