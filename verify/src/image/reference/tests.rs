use proptest::prelude::*;

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parse(text: &str) -> Reference {
    Reference::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn reason(text: &str) -> String {
    match Reference::parse(text) {
        Ok(reference) => panic!("{text} was read as {reference}"),
        Err(error) => error.0,
    }
}

#[test]
fn r8_normalises_as_distribution_does() {
    let digest = format!("sha256:{HEX}");
    for (text, whole) in [
        ("nginx", "docker.io/library/nginx:latest".to_owned()),
        ("nginx:1.25", "docker.io/library/nginx:1.25".to_owned()),
        ("docker.io/nginx", "docker.io/library/nginx:latest".to_owned()),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest".to_owned()),
        ("index.docker.io/team/nginx:2", "docker.io/team/nginx:2".to_owned()),
        ("library/nginx", "docker.io/library/nginx:latest".to_owned()),
        ("docker.io/library", "docker.io/library/library:latest".to_owned()),
        ("team/app", "docker.io/team/app:latest".to_owned()),
        ("a/b/c/d", "docker.io/a/b/c/d:latest".to_owned()),
        ("localhost", "docker.io/library/localhost:latest".to_owned()),
        ("localhost:5000", "docker.io/library/localhost:5000".to_owned()),
        ("localhost/app", "localhost/app:latest".to_owned()),
        ("LOCALHOST/app", "localhost/app:latest".to_owned()),
        ("localhost:5000/app:x", "localhost:5000/app:x".to_owned()),
        ("registry:5000/app", "registry:5000/app:latest".to_owned()),
        ("Registry:5000/app", "registry:5000/app:latest".to_owned()),
        ("Registry.Example.com/app", "registry.example.com/app:latest".to_owned()),
        ("10.0.0.1:6443/x:y", "10.0.0.1:6443/x:y".to_owned()),
        ("[::1]/app", "[::1]/app:latest".to_owned()),
        ("[2001:DB8::1]:5000/a/b:1", "[2001:db8::1]:5000/a/b:1".to_owned()),
        ("my-----app__x.y", "docker.io/library/my-----app__x.y:latest".to_owned()),
        ("r.example/app:_T.a-g", "r.example/app:_T.a-g".to_owned()),
    ] {
        assert_eq!(parse(text).to_string(), whole, "{text}");
    }
    assert_eq!(
        parse(&format!("nginx@{digest}")).to_string(),
        format!("docker.io/library/nginx@{digest}")
    );
    assert_eq!(
        parse(&format!("r.example:5000/app:1@{digest}")).to_string(),
        format!("r.example:5000/app:1@{digest}")
    );
}

#[test]
fn parts_are_those_of_the_whole() {
    let reference = parse(&format!("[::1]:5000/team/app:1@sha256:{HEX}"));
    assert_eq!(reference.name(), "[::1]:5000/team/app");
    assert_eq!(reference.registry(), "[::1]:5000");
    assert_eq!(reference.repository(), "team/app");
    assert_eq!(reference.tag(), Some("1"));
    assert_eq!(reference.digest().map(Digest::hex), Some(HEX));
    assert_eq!(parse(&format!("app@sha256:{HEX}")).tag(), None, "a digest alone gets no tag");
    let pinned = parse("app:1").with_digest(Digest::sha256(b""));
    assert_eq!(pinned.to_string(), format!("docker.io/library/app:1@sha256:{HEX}"));
}

#[test]
fn r8_refuses_what_is_no_reference_and_says_why() {
    let component = |text: &str| {
        format!(
            "\"{text}\" is not a repository path component: lower-case letters and digits, separated by one dot, one or two underscores, or dashes"
        )
    };
    let tag = |text: &str| {
        format!(
            "\"{text}\" is not a tag: 1 to 128 letters, digits, underscores, dots and dashes, the first a letter, digit or underscore"
        )
    };
    let long_tag = "t".repeat(129);
    let cases = [
        ("", "it is empty".to_owned()),
        (HEX, "64 hex digits are an image's identifier, not its name".to_owned()),
        ("https://r.example/app", "it is a URL; write it without the scheme, as registry/repository:tag".to_owned()),
        ("r.example/app ", "it contains a space or a control character".to_owned()),
        ("r.example/app\0", "it contains a space or a control character".to_owned()),
        ("r.example/App", "repository \"App\" has to be in lower case".to_owned()),
        ("Nginx", "repository \"Nginx\" has to be in lower case".to_owned()),
        ("Team/app", "\"Team\" is neither a registry's host, which has a dot or a port, nor a lower-case repository path".to_owned()),
        ("Docker.io/app", "\"Docker.io\" has to be written as docker.io".to_owned()),
        ("INDEX.DOCKER.IO/app", "\"INDEX.DOCKER.IO\" has to be written as docker.io".to_owned()),
        ("r.example/", "it names no repository".to_owned()),
        ("r.example/:1", "it names no repository".to_owned()),
        ("/app", "repository \"/app\" has an empty path component".to_owned()),
        ("r.example//app", "repository \"/app\" has an empty path component".to_owned()),
        ("r.example/app/", "repository \"app/\" has an empty path component".to_owned()),
        ("r.example/../app", component("..")),
        ("r.example/a..b", component("a..b")),
        ("r.example/a___b", component("a___b")),
        ("r.example/a._b", component("a._b")),
        ("r.example/-a", component("-a")),
        ("r.example/a%2fb", component("a%2fb")),
        ("r.example/é", component("é")),
        ("r.example/app:", tag("")),
        ("r.example/app:.x", tag(".x")),
        ("r.example/app:a:b", tag("a:b")),
        ("r.example/app:a/b", tag("a/b")),
        ("host:port/app", "\"host:port\" is not a registry's host".to_owned()),
        ("host:/app", "\"host:\" is not a registry's host".to_owned()),
        ("host:05000/app", "\"host:05000\" is not a registry's host".to_owned()),
        ("host:65536/app", "\"host:65536\" is not a registry's host".to_owned()),
        ("user:pass:1/app", "\"user:pass:1\" is not a registry's host".to_owned()),
        ("-r.example/app", "\"-r.example\" is not a registry's host".to_owned()),
        ("r.example./app", "\"r.example.\" is not a registry's host".to_owned()),
        ("r..example/app", "\"r..example\" is not a registry's host".to_owned()),
        ("::1/app", "\"::1\" is not a registry's host".to_owned()),
        ("[::1/app", "\"[::1\" is not a registry's host".to_owned()),
        ("[::1]x/app", "\"[::1]x\" is not a registry's host".to_owned()),
        ("[fe80::1%eth0]/app", "\"[fe80::1%eth0]\" is not a registry's host".to_owned()),
        ("ré.example/app", "\"ré.example\" is not a registry's host".to_owned()),
        ("app@", "a digest is written as sha256:<64 hex digits>".to_owned()),
        ("app@sha256:ab", "a sha256 digest has 64 hex digits, this one has 2".to_owned()),
        ("app@md5:ab", "digest algorithm \"md5\" is not supported; use sha256 or sha512".to_owned()),
    ];
    for (text, expected) in cases {
        assert_eq!(reason(text), expected, "{text:?}");
    }
    assert_eq!(reason(&format!("app:{long_tag}")), tag(&long_tag));
    assert_eq!(
        reason(&format!("evil.example@sha256:{HEX}/r.example/app")),
        "a sha256 digest has 64 hex digits, this one has 78"
    );
}

#[test]
fn lengths_end_where_distribution_says() {
    assert_eq!(parse(&format!("app:{}", "t".repeat(128))).tag().map(str::len), Some(128));
    let path = "a".repeat(255 - "r.example/".len());
    assert_eq!(parse(&format!("r.example/{path}")).name().len(), 255);
    assert_eq!(
        reason(&format!("r.example/{path}a")),
        "its name has 256 characters, at most 255 are allowed"
    );
    assert_eq!(reason(&"a".repeat(1024)), "its name has 1042 characters, at most 255 are allowed");
    assert_eq!(reason(&"a".repeat(1025)), "it has 1025 characters, at most 1024 are allowed");
}

proptest! {
    #[test]
    fn t15_any_string_is_read_or_refused(text in "\\PC{0,80}|[a-zA-Z0-9:/@._\\[\\]-]{0,80}") {
        if let Ok(reference) = Reference::parse(&text) {
            // A normalised reference is read as itself, so what is shown, patched into pods or
            // used as a GUN cannot turn into another image.
            prop_assert_eq!(Reference::parse(&reference.to_string()), Ok(reference.clone()));
            prop_assert!(reference.tag().is_some() || reference.digest().is_some());
            prop_assert_eq!(
                format!("{}/{}", reference.registry(), reference.repository()),
                reference.name()
            );
        }
    }

    #[test]
    fn r8_well_formed_names_are_kept_whole(
        host in "([A-Za-z0-9]{1,8}\\.){1,3}[a-z]{2,6}(:[1-9][0-9]{0,3})?",
        path in "[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}(/[a-z0-9]{1,8}){0,3}",
        tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}",
    ) {
        prop_assume!(!host.eq_ignore_ascii_case("docker.io"));
        prop_assume!(!host.eq_ignore_ascii_case("index.docker.io"));
        let reference = Reference::parse(&format!("{host}/{path}:{tag}"));
        let reference = reference.map_err(|error| TestCaseError::fail(error.0))?;
        prop_assert_eq!(reference.registry(), host.to_ascii_lowercase());
        prop_assert_eq!(reference.repository(), path);
        prop_assert_eq!(reference.tag(), Some(tag.as_str()));
    }
}
