use super::*;

fn at(time: &str) -> Timestamp {
    time.parse().expect("a time")
}

fn role(after: &str, source: &str, role: &str) -> Lapse {
    let need = Need::Role { source: source.to_owned(), role: role.to_owned() };
    Lapse { after: at(after), need, repository: None }
}

fn exception(after: &str) -> Lapse {
    let need = Need::Exception { policy: "p".to_owned(), exception: "inc".to_owned() };
    Lapse { after: at(after), need, repository: None }
}

#[test]
fn images_are_counted_by_what_they_need_the_first_to_end_first() {
    let lapses = [
        role("2030-01-14T00:00:00.5Z", "corp", "timestamp"),
        role("2030-01-15T00:00:00Z", "corp", "timestamp"),
        role("2030-01-02T00:00:00Z", "corp", "targets/releases"),
        exception("2030-01-03T00:00:00Z"),
        exception("2030-01-03T00:00:00Z"),
    ];
    let wanted = "
Could not be admitted again:
    1 image after 2030-01-02T00:00:00Z, unless targets/releases in TrustSource \"corp\" is signed anew
    2 images after 2030-01-03T00:00:00Z, unless exception \"inc\" of TrustPolicy \"p\" goes on, or it is signed
    2 images after 2030-01-14T00:00:00Z to 2030-01-15T00:00:00Z, unless timestamp in TrustSource \"corp\" is signed anew,
        as servers do by themselves";
    assert_eq!(text(lapses.iter()), wanted);
    let json = serde_json::to_value(groups(lapses.iter())).expect("JSON");
    let first = serde_json::json!({"after": "2030-01-02T00:00:00Z", "source": "corp", "role": "targets/releases", "images": 1});
    assert_eq!(json[0], first);
    let second = serde_json::json!({"after": "2030-01-03T00:00:00Z", "policy": "p", "exception": "inc", "images": 2});
    assert_eq!(json[1], second);
    assert_eq!(json.as_array().map(Vec::len), Some(4));
}

#[test]
fn what_one_role_of_many_repositories_ends_is_one_line_and_json_names_each() {
    let of = |repository: &str| Lapse {
        repository: Some(repository.to_owned()),
        ..role("2030-01-02T00:00:00Z", "corp", "targets")
    };
    let lapses = [of("r.example/b"), of("r.example/a"), of("r.example/b")];
    let wanted = "    3 images after 2030-01-02T00:00:00Z, unless targets in TrustSource \"corp\" is signed anew";
    assert_eq!(text(lapses.iter()).lines().last(), Some(wanted));
    let json = serde_json::to_value(groups(lapses.iter())).expect("JSON");
    let group = |repository: &str, images: usize| {
        serde_json::json!({
            "after": "2030-01-02T00:00:00Z", "source": "corp", "role": "targets",
            "repository": repository, "images": images,
        })
    };
    assert_eq!(json, serde_json::json!([group("r.example/a", 1), group("r.example/b", 2)]));
}

#[test]
fn nothing_is_claimed_of_nothing_and_the_list_is_bounded() {
    assert_eq!(text([].iter()), "");
    let many: Vec<Lapse> =
        (0..30).map(|n| role("2030-01-02T00:00:00Z", &format!("s{n}"), "root")).collect();
    let text = text(many.iter());
    assert_eq!(text.lines().count(), 1 + 1 + LINES + 1, "{text}");
    assert!(text.ends_with("and for 20 more reasons: see --output json"), "{text}");
}

#[test]
fn a_policy_ends_with_the_first_proof_that_it_cannot_do_without() {
    let proofs = || {
        ["2030-03-01T00:00:00Z", "2030-01-01T00:00:00Z", "2030-02-01T00:00:00Z"]
            .map(|after| (Some(role(after, "corp", "targets")), ()))
            .to_vec()
    };
    for (wanted, ends) in
        [(1, "2030-03-01T00:00:00Z"), (2, "2030-02-01T00:00:00Z"), (3, "2030-01-01T00:00:00Z")]
    {
        let found = first_shortfall(proofs(), |left| left.len() >= wanted);
        assert_eq!(found.map(|lapse| lapse.after), Some(at(ends)), "{wanted}");
    }
    assert_eq!(first_shortfall(Vec::<(Option<Lapse>, ())>::new(), |_| false), None);
    // Of whose end nothing is known, none is told.
    let unknown = || [proofs(), vec![(None, ())]].concat();
    for (wanted, ends) in
        [(1, None), (2, Some("2030-03-01T00:00:00Z")), (4, Some("2030-01-01T00:00:00Z"))]
    {
        let found = first_shortfall(unknown(), |left| left.len() >= wanted);
        assert_eq!(found.map(|lapse| lapse.after), ends.map(at), "{wanted}");
    }
}
