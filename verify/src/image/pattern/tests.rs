use proptest::prelude::*;

use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn matches(text: &str, image: &str) -> bool {
    let image = Reference::parse(image).unwrap_or_else(|error| panic!("{image}: {error}"));
    pattern(text).matches(&image)
}

#[test]
fn r8_matches_by_whole_components_of_the_normalised_name() {
    for (text, covered, not_covered) in [
        (
            "registry.example.com/**",
            vec![
                "registry.example.com/a",
                "registry.example.com/a/b/c:1",
                "Registry.Example.COM/a",
            ],
            vec![
                "evil.example/registry.example.com/x",
                "registry.example.com.evil.example/x",
                "evil-registry.example.com/x",
                "registry.example.com:443/x",
                "registry.example.com:5000/x",
            ],
        ),
        (
            "Registry.Example.com/payments/**",
            vec!["registry.example.com/payments/api", "registry.example.com/payments"],
            vec![
                "registry.example.com/payments-evil/api",
                "registry.example.com/x/payments/api",
                "registry.example.com/payment/api",
            ],
        ),
        (
            "registry.example.com/*/api",
            vec!["registry.example.com/payments/api"],
            vec![
                "registry.example.com/api",
                "registry.example.com/a/b/api",
                "registry.example.com/payments/api-evil",
                "registry.example.com/payments/api/x",
            ],
        ),
        (
            "registry.example.com/team-*/app",
            vec!["registry.example.com/team-a/app", "registry.example.com/team-a-b/app"],
            vec!["registry.example.com/team/app", "registry.example.com/team-a/b/app"],
        ),
        (
            "registry.example.com/**/app",
            vec![
                "registry.example.com/app",
                "registry.example.com/a/app",
                "registry.example.com/app/app/app",
            ],
            vec!["registry.example.com/app/x", "evil.example/registry.example.com/app"],
        ),
        ("**", vec!["nginx", "a/b/c", "10.0.0.1:6443/x:y", "[::1]:5000/a"], vec![]),
        (
            "**/nginx",
            vec!["nginx", "evil.example/nginx", "r.example/a/b/nginx"],
            vec!["nginx/x", "my-nginx"],
        ),
        ("*/app", vec!["r.example/app", "[::1]:1/app"], vec!["app", "r.example/a/app"]),
        ("**/r.example/app", vec!["evil.example/r.example/app"], vec!["r.example/app"]),
        (
            "*.example.com/**",
            vec!["a.example.com/x", "a.b.example.com/x/y"],
            vec!["example.com/x", "a.example.com:5000/x", "a.example.com.evil.example/x"],
        ),
        (
            "r.example:*/app",
            vec!["r.example:5000/app"],
            vec!["r.example/app", "r.example.evil:5000/app"],
        ),
        ("docker.io/library/nginx", vec!["nginx", "index.docker.io/nginx"], vec!["evil/nginx"]),
        ("docker.io/library/*", vec!["nginx", "library/x"], vec!["team/x", "library/x/y"]),
        ("[::1]:5000/**", vec!["[::1]:5000/a/b"], vec!["[::2]:5000/a"]),
        ("localhost/app", vec!["localhost/app"], vec!["localhost", "app", "localhost:5000/app"]),
    ] {
        for image in covered {
            assert!(matches(text, image), "{text} should cover {image}");
        }
        for image in not_covered {
            assert!(!matches(text, image), "{text} should not cover {image}");
        }
    }
}

#[test]
fn a_tag_or_digest_covers_only_itself() {
    let by_digest = format!("r.example/app@{DIGEST}");
    let both = format!("r.example/app:1@{DIGEST}");
    for (text, image, covered) in [
        (by_digest.as_str(), by_digest.as_str(), true),
        (&by_digest, &both, true),
        (&by_digest, "r.example/app:1", false),
        (&by_digest, &format!("r.example/app@sha256:{}", "0".repeat(64)), false),
        ("r.example/app:1", "r.example/app:1", true),
        ("r.example/app:1", &both, true),
        ("r.example/app:1", "r.example/app:10", false),
        ("r.example/app:1", &by_digest, false),
        ("r.example/*:1", "r.example/x:1", true),
        ("**:1", "nginx:1", true),
        ("**:1", "nginx:2", false),
        (&both, &both, true),
        (&both, &by_digest, false),
    ] {
        assert_eq!(matches(text, image), covered, "{text} {image}");
    }
    assert!(pattern("r.example/app").is_name_only());
    assert!(!pattern("r.example/app:1").is_name_only());
    assert!(!pattern(&by_digest).is_name_only());
    assert_eq!(pattern(&both).literal_name(), Some("r.example/app"));
    assert_eq!(pattern(&both).as_str(), both);
}

#[test]
fn literal_parts_and_specificity() {
    for (text, host, name, prefix, specificity) in [
        ("**", None, None, "", 0),
        ("*/app", None, None, "", 1),
        ("*.example.com/app", None, None, "", 1),
        ("R.example:5000/**", Some("r.example:5000"), None, "r.example:5000", 1),
        ("r.example/a/b-*", Some("r.example"), None, "r.example/a", 2),
        ("r.example/a/*/b", Some("r.example"), None, "r.example/a", 3),
        ("r.example/a/b", Some("r.example"), Some("r.example/a/b"), "r.example/a/b", 3),
    ] {
        let pattern = pattern(text);
        assert_eq!(pattern.literal_host(), host, "{text}");
        assert_eq!(pattern.literal_name(), name, "{text}");
        assert_eq!(pattern.literal_prefix(), prefix, "{text}");
        assert_eq!(pattern.specificity(), specificity, "{text}");
    }
    assert_eq!(pattern("r.example/**").literal_bytes(), "r.example/".len());
    assert_eq!(pattern("r.example/team-*/**").literal_bytes(), "r.example/team-/".len());
    assert_eq!(Pattern::everything(), pattern("**"));
    assert_eq!(pattern("R.Example/a"), pattern("r.example/a"), "one host in two spellings");
}

#[test]
fn r8_refuses_what_could_never_match_and_says_what_to_write() {
    let any_domain = |host: &str| {
        format!(
            "\"{host}\" would cover hosts of any domain; a host's * stands before its literal end, as in *.example.com, or for the port, as in registry.example.com:*"
        )
    };
    for (text, expected) in [
        ("", "it is empty".to_owned()),
        ("nginx", "its first component is no registry; write docker.io/library/nginx".to_owned()),
        (
            "nginx:1.25",
            "its first component is no registry; write docker.io/library/nginx:1.25".to_owned(),
        ),
        (
            "team/app",
            "\"team\" is no registry; write docker.io/team/app, or the registry's host first"
                .to_owned(),
        ),
        (
            "docker.io/nginx",
            "repositories of docker.io have two components; write docker.io/library/nginx"
                .to_owned(),
        ),
        ("index.docker.io/a/b", "write docker.io instead of index.docker.io".to_owned()),
        ("*", "\"*\" covers one component; write ** for every image".to_owned()),
        (
            "r.example",
            "it names no repository; write r.example/** for all of this registry".to_owned(),
        ),
        (
            "r.example:5000",
            "it names no repository; write r.example:5000/** for all of this registry".to_owned(),
        ),
        (
            "https://r.example/**",
            "it is a URL; write it without the scheme, as registry/repository".to_owned(),
        ),
        ("r.example/App", "\"App\" has to be in lower case, as repositories are".to_owned()),
        ("r.example/a**", "in \"a**\", ** has to stand alone between slashes".to_owned()),
        ("r.example/***", "in \"***\", ** has to stand alone between slashes".to_owned()),
        ("r.example/**/**", "** follows **; one is enough".to_owned()),
        ("**/**", "** follows **; one is enough".to_owned()),
        ("r.example/a//b", "it has an empty component".to_owned()),
        ("r.example/", "it has an empty component".to_owned()),
        ("r.example/a?", "\"a?\" can be no part of a repository's path".to_owned()),
        ("r.example/a__*é", "\"a__*é\" can be no part of a repository's path".to_owned()),
        ("r.example/..", "\"..\" can be no part of a repository's path".to_owned()),
        ("r_x.example/a", "\"r_x.example\" is not a registry's host".to_owned()),
        ("**.example/a", "in \"**.example\", ** has to stand alone".to_owned()),
        ("r.example*/a", any_domain("r.example*")),
        ("team-*/a", any_domain("team-*")),
        ("r.*:*/a", any_domain("r.*:*")),
        ("*_.example/a", "\"*_.example\" is not a registry's host".to_owned()),
        ("r.example/a:1.*", "\"1.*\" is not a tag; a pattern's tag is literal".to_owned()),
        ("r.example/a:", "\"\" is not a tag; a pattern's tag is literal".to_owned()),
        ("r.example/a@sha256:*", "a sha256 digest has 64 hex digits, this one has 1".to_owned()),
    ] {
        assert_eq!(Pattern::parse(text), Err(InvalidPattern(expected)), "{text}");
    }
}

#[test]
fn t2_a_pattern_is_as_long_as_a_reference_may_be() {
    let longest = format!("r.example/{}", "a".repeat(REFERENCE_BYTES - "r.example/".len()));
    assert_eq!(pattern(&longest).as_str(), longest);
    assert_eq!(
        Pattern::parse(&format!("{longest}a")),
        Err(InvalidPattern("it is longer than 1024 bytes".to_owned()))
    );
}

#[test]
fn t13_many_stars_take_no_longer_than_the_product_of_the_lengths() {
    let text = format!("r.example/{}b", "*a".repeat(200));
    let name = format!("r.example/{}", "a".repeat(240));
    let components = format!("r.example/{}b", "**/a/".repeat(150));
    let deep = format!("r.example/{}", ["a"; 120].join("/"));
    let begin = std::time::Instant::now();
    assert!(!pattern(&text).matches_name(&name));
    assert!(!pattern(&components).matches_name(&deep));
    assert!(begin.elapsed() < std::time::Duration::from_secs(1));
}

/// The definition, written without care for its cost.
fn slow_glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            slow_glob(rest, text) || (!text.is_empty() && slow_glob(pattern, &text[1..]))
        }
        (Some((p, pattern)), Some((t, text))) => p == t && slow_glob(pattern, text),
        _ => false,
    }
}

proptest! {
    #[test]
    fn globbing_is_the_definition(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
        prop_assert_eq!(covers(&pattern, &text), slow_glob(pattern.as_bytes(), text.as_bytes()));
    }

    #[test]
    fn t15_any_string_is_read_or_refused(text in "\\PC{0,60}|[a-c*./:@-]{0,40}") {
        if let Ok(pattern) = Pattern::parse(&text) {
            prop_assert_eq!(Pattern::parse(pattern.as_str()), Ok(pattern));
        }
    }

    #[test]
    fn r8_a_literal_host_is_never_left(
        prefix in "[a-z0-9.-]{0,12}",
        suffix in "[a-z0-9.:-]{0,12}",
        path in "[a-z]{1,5}(/[a-z]{1,5}){0,3}",
    ) {
        let pattern = pattern("registry.example.com/**");
        let name = format!("{prefix}registry.example.com{suffix}/{path}");
        prop_assert_eq!(pattern.matches_name(&name), prefix.is_empty() && suffix.is_empty());
        let inside = format!("{prefix}x/registry.example.com/{path}");
        prop_assert!(!pattern.matches_name(&inside));
    }

    #[test]
    fn a_literal_reference_is_its_own_pattern(
        path in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,3}",
        tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}",
    ) {
        let text = format!("r.example/{path}:{tag}");
        prop_assert!(matches(&text, &text));
    }
}
