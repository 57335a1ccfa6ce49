//! Docker's configuration files.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::credentials::{DockerConfig, DockerConfigs};
use super::*;
use crate::http::testing::ANN;
use crate::http::{Basic, testing};

const HOST: &str = "registry.example.com:5000";

async fn lookup(files: &[&str], registry: &str) -> Result<Option<Basic>, String> {
    let folder = Folder::new();
    let named = files.iter().enumerate();
    let paths = named.map(|(n, contents)| folder.write(&format!("{n}.json"), contents)).collect();
    let configs = DockerConfigs::new(paths);
    assert_eq!(configs.lookup(registry).is_none(), !files.is_empty(), "nothing is read yet");
    configs.refresh().await;
    configs.lookup(registry).expect("read").map_err(|error| error.to_string())
}

fn auths(key: &str) -> String {
    format!(r#"{{"auths":{{"{key}":{{"auth":"{}"}}}}}}"#, STANDARD.encode("ann:secret"))
}

#[tokio::test]
async fn every_spelling_of_a_registry_is_found() {
    for key in [
        HOST.to_owned(),
        format!("https://{HOST}"),
        format!("https://{HOST}/"),
        format!("https://{HOST}/v1/"),
        format!("https://{HOST}/v2/"),
    ] {
        assert_eq!(lookup(&[&auths(&key)], HOST).await, Ok(testing::ann()), "{key}");
    }
    for key in ["https://index.docker.io/v1/", "docker.io", "index.docker.io"] {
        assert_eq!(lookup(&[&auths(key)], "docker.io").await, Ok(testing::ann()), "{key}");
    }
    let plain = format!(r#"{{"auths":{{"{HOST}":{{"username":"ann","password":"secret"}}}}}}"#);
    assert_eq!(lookup(&[&plain], HOST).await, Ok(testing::ann()));
}

#[test]
fn the_older_format_holds_the_entries_alone() {
    let auth = STANDARD.encode("ann:secret");
    let legacy = format!(r#"{{"https://{HOST}/v1/":{{"auth":"{auth}","email":"ann@x"}}}}"#);
    let config = DockerConfig::parse_legacy(legacy.as_bytes()).expect("parsed");
    assert_eq!(config.lookup(HOST), Ok(testing::ann()));
    assert_eq!(config.lookup("other.example.com"), Ok(None));
    let error = DockerConfig::parse_legacy(br#"{"x":"hunter2"}"#).expect_err("no entry");
    assert!(!error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn r5_credentials_are_for_exactly_their_registry() {
    for key in [
        "registry.example.com",
        "example.com:5000",
        "registry.example.com:50000",
        "evil.registry.example.com:5000",
        "registry.example.com:5000.evil.example",
        "registry.example.com:5000/team",
        "docker.io",
        "*",
        "",
    ] {
        assert_eq!(lookup(&[&auths(key)], HOST).await, Ok(None), "{key}");
    }
    assert_eq!(lookup(&[], HOST).await, Ok(None));
    assert_eq!(lookup(&["{}", r#"{"auths":null}"#], HOST).await, Ok(None));
}

#[tokio::test]
async fn the_first_file_with_an_entry_counts() {
    let other = auths(HOST).replace(&STANDARD.encode("ann:secret"), &STANDARD.encode("bob:x"));
    assert_eq!(lookup(&["{}", &auths(HOST), &other], HOST).await, Ok(testing::ann()));
    assert_eq!(lookup(&[&auths(HOST), "broken"], HOST).await, Ok(testing::ann()));
    assert!(lookup(&["broken", &auths(HOST)], HOST).await.is_err());
}

#[tokio::test]
async fn what_cannot_be_used_is_said_with_its_place_and_without_secrets() {
    let entry = |entry: &str| format!(r#"{{"auths":{{"{HOST}":{entry}}}}}"#);
    for (contents, expected) in [
        ("hunter2".to_owned(), "not a docker configuration"),
        (r#"{"auths":"hunter2"}"#.to_owned(), "not a docker configuration"),
        (entry(r#"{"auth":"hunter2"}"#), "not the base64"),
        (entry(r#"{"identitytoken":"hunter2","auth":"YTpi"}"#), "identity tokens"),
        (entry(r#"{"registrytoken":"hunter2"}"#), "identity tokens"),
        (entry(r#"{"password":"hunter2"}"#), "both a user name and a password"),
        (format!(r#"{{"credHelpers":{{"{HOST}":"ecr-login"}}}}"#), "\"ecr-login\""),
        (format!(r#"{{"auths":{{"{HOST}":{{}}}},"credsStore":"desktop"}}"#), "\"desktop\""),
    ] {
        let error = lookup(&[&contents], HOST).await.expect_err(&contents);
        assert!(error.contains("0.json") && error.contains(expected), "{contents}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_helper_matters_only_where_it_is_named_for_the_registry() {
    let helpers = r#"{"credHelpers":{"other.example.com":"x"},"credsStore":"desktop"}"#;
    assert_eq!(lookup(&[helpers], HOST).await, Ok(None));
    let both = auths(HOST).replacen('{', r#"{"credsStore":"desktop","#, 1);
    assert_eq!(lookup(&[&both], HOST).await, Ok(testing::ann()));
}

#[tokio::test]
async fn k14_a_file_that_cannot_be_read_denies_and_is_named() {
    let registry = Scripted::new(|_, _| honest()).await;
    let missing = registry.certs.0.join("missing.json");
    let huge = registry.certs.write("huge.json", &" ".repeat((1 << 20) + 1));
    for path in [missing, huge, registry.certs.0.clone()] {
        let config = RegistryConfig { docker_configs: vec![path.clone()], ..registry.config() };
        let refusal = registry.resolve_with(&Registry::new(config)).await.expect_err("unreadable");
        assert_eq!(refusal.code(), "CredentialsUnavailable");
        assert!(refusal.to_string().contains(&path.display().to_string()), "{refusal}");
    }
    assert_eq!(registry.log.len(), 0);
}

#[tokio::test]
async fn k8_what_someone_s_own_credentials_found_is_for_them_alone() {
    let registry = Scripted::new(|_, seen| match seen.authorization.as_deref() {
        Some(ANN) => honest(),
        _ => reply(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
    })
    .await;
    let config = auths(&registry.host).replace(&STANDARD.encode("ann:secret"), "Ym9iOng=");
    let config = registry.certs.write("config.json", &config);
    let resolver =
        Registry::new(RegistryConfig { docker_configs: vec![config], ..registry.config() });
    let (image, allowed) = (registry.image(), registry.allowed());
    let found = resolver.resolve(&image, NAMESPACE, testing::ann(), &allowed, soon()).await;
    found.expect("with credentials of one's own");
    assert!(matches!(resolver.cached(&image, testing::ann(), &allowed), Some(Ok(_))));
    assert_eq!(resolver.cached(&image, None, &allowed), None);
    let refusal = registry.resolve_with(&resolver).await.expect_err("the installation's");
    assert_eq!(refusal.code(), "RegistryUnavailable");
    let other = Basic { username: "eve".to_owned(), password: "x".to_owned() };
    assert_eq!(resolver.cached(&image, Some(other.clone()), &allowed), None);
    let others = resolver.resolve(&image, NAMESPACE, Some(other), &allowed, soon()).await;
    assert_eq!(others, Err(refusal), "the same refusal as to anybody else");
}

#[tokio::test]
async fn credentials_are_read_again_when_they_change() {
    let registry = Scripted::new(|_, seen| match seen.authorization.as_deref() {
        Some(ANN) => honest(),
        _ => reply(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
    })
    .await;
    let folder = Folder::new();
    let wrong = STANDARD.encode("ann:old!!!");
    let right = STANDARD.encode("ann:secret");
    let old = auths(&registry.host).replace(&right, &wrong);
    folder.write("1/config.json", &old);
    folder.write("2/config.json", &auths(&registry.host));
    // As the kubelet does: a link that is replaced by another.
    let link = folder.0.join("current");
    std::os::unix::fs::symlink("1", &link).expect("link");
    let config =
        RegistryConfig { docker_configs: vec![link.join("config.json")], ..registry.config() };
    let resolver = Registry::new(config);
    let refusal = registry.resolve_with(&resolver).await.expect_err("the old password");
    assert_eq!(refusal.code(), "RegistryUnavailable");

    std::os::unix::fs::symlink("2", folder.0.join("next")).expect("link");
    std::fs::rename(folder.0.join("next"), &link).expect("swapped");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    // The remembered refusal was for other credentials, so it does not answer.
    registry.resolve_with(&resolver).await.expect("the new password");
}
