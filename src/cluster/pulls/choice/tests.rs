use std::sync::Arc;

use super::*;

const HOST: &str = "registry.example.com";

/// What the API server has: a name, and what it says of it.
type Has<'a, T> = [(&'a str, Told<T>)];

fn config(user: &str, host: &str) -> Told<DockerConfig> {
    let json = format!(r#"{{"auths":{{"{host}":{{"username":"{user}","password":"secret"}}}}}}"#);
    Ok(Some(Arc::new(DockerConfig::parse(json.as_bytes()).expect("a configuration"))))
}

fn nothing() -> Told<DockerConfig> {
    Ok(Some(Arc::default()))
}

fn unreadable<T>(what: &str) -> Told<T> {
    Err(format!("{what}: forbidden").into())
}

fn account(secrets: &[&str]) -> Told<Vec<String>> {
    Ok(Some(Arc::new(secrets.iter().map(ToString::to_string).collect())))
}

fn look<T>(has: &Has<'_, T>, name: &str) -> Option<Told<T>> {
    has.iter().find(|(known, _)| *known == name).map(|(_, told)| told.clone())
}

fn chosen(
    service_account: &str,
    own: &[&str],
    secrets: &Has<'_, DockerConfig>,
    accounts: &Has<'_, Vec<String>>,
) -> Step {
    let puller = Puller { service_account, secrets: own };
    choose(puller, HOST, |name| look(secrets, name), |name| look(accounts, name))
}

fn user(name: &str) -> Step {
    let basic = Basic { username: name.to_owned(), password: "secret".to_owned() };
    Step::Done(Ok(Some(basic)))
}

fn none() -> Step {
    Step::Done(Ok(None))
}

#[test]
fn the_first_entry_counts_the_pod_s_before_its_service_account_s() {
    let secrets = [
        ("ann", config("ann", HOST)),
        ("bob", config("bob", HOST)),
        ("other", config("eve", "other.example.com")),
        ("empty", nothing()),
        ("gone", Ok(None)),
    ];
    let accounts = [
        ("default", account(&["bob"])),
        ("builder", account(&["other", "ann"])),
        ("bare", account(&[])),
        ("missing", Ok(None)),
    ];
    let table: [(&str, &[&str], Step); 10] = [
        ("", &["ann", "bob"], user("ann")),
        ("", &["bob", "ann"], user("bob")),
        ("builder", &["bob"], user("bob")),
        ("", &["other", "empty", "gone", "ann"], user("ann")),
        ("", &["", "ann"], user("ann")),
        ("", &["other"], user("bob")),
        ("", &[], user("bob")),
        ("builder", &["gone"], user("ann")),
        ("bare", &["other"], none()),
        ("missing", &[], none()),
    ];
    for (service_account, own, wanted) in table {
        let found = chosen(service_account, own, &secrets, &accounts);
        assert_eq!(found, wanted, "{service_account:?} {own:?}");
    }
}

#[test]
fn nothing_is_asked_for_that_does_not_matter() {
    let secrets = [("ann", config("ann", HOST)), ("empty", nothing())];
    // What is not known yet is asked for at once, in order, and what comes later only then.
    let ask = |names: &[&str]| Step::Secrets(names.iter().map(ToString::to_string).collect());
    assert_eq!(chosen("", &["a", "", "b"], &[], &[]), ask(&["a", "b"]));
    assert_eq!(chosen("", &["empty", "b", "ann", "c"], &secrets, &[]), ask(&["b", "c"]));
    assert_eq!(chosen("", &["ann", "b"], &secrets, &[]), user("ann"));
    assert_eq!(chosen("", &["empty"], &secrets, &[]), Step::Account("default".to_owned()));
    assert_eq!(chosen("builder", &[], &[], &[]), Step::Account("builder".to_owned()));
    let accounts = [("default", account(&["a", "empty"]))];
    assert_eq!(chosen("", &[], &secrets, &accounts), ask(&["a"]));
}

#[test]
fn k14_what_cannot_be_read_and_could_hold_an_entry_is_an_error() {
    let half = br#"{"auths":{"registry.example.com":{"username":"hunter2"}}}"#;
    let half = DockerConfig::parse(half).expect("a configuration");
    let secrets = [
        ("ann", config("ann", HOST)),
        ("empty", nothing()),
        ("secret", unreadable("Secret secret")),
        ("half", Ok(Some(Arc::new(half)))),
    ];
    let accounts = [
        ("default", account(&["secret"])),
        ("closed", unreadable("ServiceAccount closed")),
        ("bare", account(&[])),
    ];
    let table: [(&str, &[&str], &str); 5] = [
        ("bare", &["secret", "ann"], "Secret secret: forbidden"),
        ("bare", &["empty", "secret"], "Secret secret: forbidden"),
        ("", &[], "Secret secret: forbidden"),
        ("closed", &["empty"], "ServiceAccount closed: forbidden"),
        ("bare", &["half"], "Secret half: auths[\"registry.example.com\"]"),
    ];
    for (service_account, own, wanted) in table {
        match chosen(service_account, own, &secrets, &accounts) {
            Step::Done(Err(why)) => {
                assert!(why.starts_with(wanted), "{why}");
                assert!(!why.contains("hunter2"), "{why}");
            }
            step => unreachable!("{step:?} of {service_account:?} {own:?}"),
        }
    }
    // What comes after an entry was found does not matter.
    assert_eq!(chosen("closed", &["ann", "secret"], &secrets, &accounts), user("ann"));
}

#[test]
fn k7_names_that_no_object_has_are_asked_of_nobody() {
    let long = "a".repeat(254);
    let names =
        ["../victim/secrets/pull", "..", ".", "a/b", "a?b=c", "a%2fb", "A", "a\nb", "a_b", &long];
    for name in names {
        for step in [chosen("", &[name], &[], &[]), chosen(name, &[], &[], &[])] {
            let Step::Done(Err(why)) = step else { unreachable!("{step:?} of {name:?}") };
            assert!(name.len() < 3 || !why.contains(name), "an author's text is repeated: {why}");
        }
        // Nor is it sent along with one that is well.
        let ask = Step::Secrets(vec!["well".to_owned()]);
        assert_eq!(chosen("", &["well", name], &[], &[]), ask);
        let accounts = [("default", account(&[name]))];
        let step = chosen("", &[], &[], &accounts);
        assert!(matches!(step, Step::Done(Err(_))), "{step:?}");
    }
}

#[test]
fn more_names_than_anybody_needs_are_refused() {
    let names: Vec<String> = (0..=NAMED).map(|number| format!("s{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(matches!(chosen("", &names[..NAMED], &[], &[]), Step::Secrets(_)));
    let accounts = [("default", account(&names))];
    for step in [chosen("", &names, &[], &[]), chosen("", &[], &[], &accounts)] {
        let Step::Done(Err(why)) = step else { unreachable!("{step:?}") };
        assert!(why.contains("17 imagePullSecrets, over the limit of 16"), "{why}");
    }
}

#[test]
fn credentials_are_for_exactly_their_registry() {
    let secrets = [("ann", config("ann", "registry.example.com.evil.example"))];
    let accounts = [("default", account(&[]))];
    assert_eq!(chosen("", &["ann"], &secrets, &accounts), none());
}
