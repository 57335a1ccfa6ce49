use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use countersign_verify::notary::PinnedKeys;

use super::*;

fn compile_source(spec: Value) -> Compiled {
    let mut resources = resources(policy_spec(), spec);
    resources.policies.clear();
    compile(&resources, now())
}

fn pin(keys: Value) -> Value {
    let mut pin = json!({"name": "p", "repositories": ["registry.example.com/payments/api"]});
    pin.as_object_mut().unwrap().append(&mut keys.as_object().unwrap().clone());
    json!({"notary": {"url": "https://notary.example.com", "pins": [pin]}})
}

fn keys_of(source: &Source) -> &PinnedKeys {
    match &source.kind {
        SourceKind::Notary { pins, .. } => &pins.0[0].keys,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_minimal_source_gets_the_defaults() {
    let compiled = compile_source(source_spec());
    assert_eq!(compiled.problems, []);
    let source = &compiled.sources["corp-notary"];
    assert_eq!(source.urls()[0].as_str(), "https://notary.example.com/");
    assert_eq!(source.refresh_after, Duration::from_secs(60));
    assert_eq!(source.refuse_after, Duration::from_secs(86_400));
    assert_eq!(source.connection, Connection::default());
    let PinnedKeys::PublicKeys { keys, threshold: 1 } = keys_of(source) else {
        panic!("{:?}", source.kind)
    };
    assert_eq!(keys[0][0], 0x30, "DER");
}

#[test]
fn every_kind_of_pin_compiles() {
    let id = "0".repeat(63) + "a";
    let compiled = compile_source(pin(json!({"rootKeyIDs": [id]})));
    assert_eq!(compiled.problems, []);
    assert!(matches!(
        keys_of(&compiled.sources["corp-notary"]),
        PinnedKeys::RootKeyIds { ids, threshold: 1 } if *ids == [id.clone()]
    ));
    let ca = certificate(true, 2020, 2030);
    let compiled = compile_source(pin(json!({"certificateAuthorities": [ca]})));
    assert_eq!(compiled.problems, []);
    assert!(matches!(
        keys_of(&compiled.sources["corp-notary"]),
        PinnedKeys::CertificateAuthorities(authorities) if authorities.len() == 1
    ));
    let keys = json!({"publicKeys": [public_key(), public_key(), public_key()], "threshold": 2});
    assert_eq!(compile_source(pin(keys)).problems, []);
}

#[test]
fn k5_what_is_wrong_with_a_source_is_said() {
    let key = public_key();
    let urls = "spec.notary.url";
    let p = "spec.notary.pins[name=p]";
    let source = |path: &str, to: Value| with(source_spec(), path, to);
    let private = KeyPair::generate().unwrap().serialize_pem();
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().public_key_pem();
    let twice = json!([
        {"name": "a", "repositories": ["r.example/**"], "publicKeys": [key]},
        {"name": "b", "repositories": ["R.example/**"], "publicKeys": [key]},
    ]);
    let cases = [
        (json!({}), "spec: one of notary and tuf is required".to_owned()),
        (source("/notary/url", json!("notary.example.com")), format!("{urls}: it is not a URL, as https://notary.example.com")),
        (source("/notary/url", json!("http://notary.example.com")), format!("{urls}: plain http is for loopback hosts only; write https://")),
        (source("/notary/url", json!("http://localhost.evil.example")), format!("{urls}: plain http is for loopback hosts only; write https://")),
        (source("/notary/url", json!("https://u:p@notary.example.com")), format!("{urls}: it holds a user or password; use connection.credentialsSecretRef")),
        (source("/notary/url", json!("https://notary.example.com/?a")), format!("{urls}: it has a query or fragment; write only https://host[:port][/path]")),
        (source("/notary/pins", json!([])), "spec.notary.pins: it is empty; at least one item is required".to_owned()),
        (source("/notary/pins", twice), "spec.notary.pins[name=b].repositories[0]: \"r.example/**\" is in pin \"a\" already; remove one".to_owned()),
        (source("/freshness", json!({"refreshAfterSeconds": 60})), "spec.freshness: missing field `refuseAfterSeconds`".to_owned()),
        (source("/freshness", json!({"refuseAfterSeconds": 60})), "spec.freshness: missing field `refreshAfterSeconds`".to_owned()),
        (source("/freshness", json!({"refreshAfterSeconds": 3601, "refuseAfterSeconds": 86400})), "spec.freshness.refreshAfterSeconds: 3601 is not within 1 and 3600".to_owned()),
        (source("/freshness", json!({"refreshAfterSeconds": 60, "refuseAfterSeconds": 604_801})), "spec.freshness.refuseAfterSeconds: 604801 is not within 1 and 604800".to_owned()),
        (source("/freshness", json!({"refreshAfterSeconds": 60, "refuseAfterSeconds": 0})), "spec.freshness.refuseAfterSeconds: 0 is not within 1 and 604800".to_owned()),
        (source("/freshness", json!({"refreshAfterSeconds": 60, "refuseAfterSeconds": 59})), "spec.freshness: refreshAfterSeconds (60) must not be greater than refuseAfterSeconds (59)".to_owned()),
        (source("/notary/urls", json!([])), "spec.notary.urls: unknown field `urls`, expected `url` or `pins`".to_owned()),
        (source("/connection", json!({"tokenHosts": ["https://a/b"]})), "spec.connection.tokenHosts[0]: \"https://a/b\" is not a host with its port, as auth.example.com".to_owned()),
        (pin(json!({})), format!("{p}: exactly one of publicKeys, certificateAuthorities and rootKeyIDs is required")),
        (pin(json!({"publicKeys": [key], "rootKeyIDs": ["a"]})), format!("{p}: exactly one of publicKeys, certificateAuthorities and rootKeyIDs is required")),
        (pin(json!({"publicKeys": []})), format!("{p}.publicKeys: it is empty; at least one item is required")),
        (pin(json!({"publicKeys": [key, public_key()]})), format!("{p}.threshold: it is required with more than one key")),
        (pin(json!({"publicKeys": [key], "threshold": 2})), format!("{p}.threshold: 2 can never be met: the number of keys is 1")),
        (pin(json!({"publicKeys": [key], "threshold": 0})), format!("{p}.threshold: it has to be at least 1")),
        (pin(json!({"publicKeys": ["x"]})), format!("{p}.publicKeys[0]: it holds no PEM block (-----BEGIN PUBLIC KEY-----)")),
        (pin(json!({"publicKeys": [format!("{key}{key}")]})), format!("{p}.publicKeys[0]: it holds 2 PEM blocks; write each as an item of its own")),
        (pin(json!({"publicKeys": ["-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----\n"]})), format!("{p}.publicKeys[0]: it is not valid PEM")),
        (pin(json!({"publicKeys": ["-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]})), format!("{p}.publicKeys[0]: it is not a DER SubjectPublicKeyInfo")),
        (pin(json!({"publicKeys": [certificate(true, 2020, 2030)]})), format!("{p}.publicKeys[0]: it is a certificate, not a public key; get its key with: openssl x509 -pubkey -noout -in FILE")),
        (pin(json!({"publicKeys": [private]})), format!("{p}.publicKeys[0]: it is a private key, which belongs to its owner only; replace the key, and write the new one's public part")),
        (pin(json!({"publicKeys": [ed25519]})), format!("{p}.publicKeys[0]: it is neither an ECDSA nor an RSA key, as Notary's root keys are")),
        (pin(json!({"certificateAuthorities": [key]})), format!("{p}.certificateAuthorities[0]: it is a public key, not a certificate; use publicKeys for it")),
        (pin(json!({"certificateAuthorities": [certificate(false, 2020, 2030)]})), format!("{p}.certificateAuthorities[0]: its certificate is not an authority's (basicConstraints has no CA:TRUE)")),
        (pin(json!({"certificateAuthorities": [certificate(true, 2020, 2025)]})), format!("{p}.certificateAuthorities[0]: its certificate expired at 2025-01-01T00:00:00Z")),
        (pin(json!({"certificateAuthorities": [certificate(true, 2027, 2030)]})), format!("{p}.certificateAuthorities[0]: its certificate is not valid before 2027-01-01T00:00:00Z")),
        (pin(json!({"certificateAuthorities": [certificate(true, 2020, 2030)], "threshold": 1})), format!("{p}.threshold: it counts keys and cannot be used with certificateAuthorities; remove it")),
        (pin(json!({"rootKeyIDs": ["A".repeat(64)]})), format!("{p}.rootKeyIDs[0]: \"{}\" is not a key id: 64 lower-case hex digits", "A".repeat(64))),
        (pin(json!({"repositories": ["r.example/*"], "rootKeyIDs": ["a".repeat(64)]})), format!("{p}.repositories[0]: a key has another id in each repository, so rootKeyIDs need repositories without *; use publicKeys for patterns")),
        (pin(json!({"repositories": ["r.example/a:1"], "publicKeys": [key]})), format!("{p}.repositories[0]: it ends in a tag or digest, which only exceptions may; write registry/repository")),
    ];
    for (spec, expected) in cases {
        let compiled = compile_source(spec);
        assert_eq!(problem(&compiled), format!("TrustSource \"corp-notary\": {expected}"));
        assert!(compiled.sources.is_empty());
    }
}

#[test]
fn t10_a_key_pinned_twice_is_refused() {
    let key = public_key();
    // White space and line breaks make no other key of it.
    let again = format!("\n{}", key.replace('\n', "\r\n"));
    for keys in [[key.clone(), key.clone()], [key, again]] {
        assert_eq!(
            problem(&compile_source(pin(json!({"publicKeys": keys, "threshold": 2})))),
            "TrustSource \"corp-notary\": spec.notary.pins[name=p].publicKeys[1]: it is listed twice; one key counts once"
        );
    }
    let id = "a".repeat(64);
    assert_eq!(
        problem(&compile_source(pin(json!({"rootKeyIDs": [id, id], "threshold": 2})))),
        "TrustSource \"corp-notary\": spec.notary.pins[name=p].rootKeyIDs[1]: it is listed twice; one key counts once"
    );
}

#[test]
fn r5_plain_http_is_for_literal_loopback_hosts_only() {
    for (url, accepted) in [
        ("http://localhost:4443", true),
        ("http://127.0.0.1:4443", true),
        ("http://[::1]:4443", true),
        ("http://127.0.0.1.nip.example", false),
        ("http://10.0.0.1", false),
        ("http://[::ffff:127.0.0.1]", false),
    ] {
        let compiled = compile_source(with(source_spec(), "/notary/url", json!(url)));
        assert_eq!(compiled.problems.is_empty(), accepted, "{url}");
    }
}

#[test]
fn k5_two_sources_of_one_name_are_both_unusable() {
    let mut resources = resources(policy_spec(), source_spec());
    resources.sources.push(resources.sources[0].clone());
    let compiled = compile(&resources, now());
    assert!(compiled.sources.is_empty());
    assert_eq!(compiled.problems.len(), 3, "{:?}", compiled.problems);
}

fn connected(secret: &[(&str, &str)], ca: Option<&str>) -> Result<Connection, String> {
    let mut connection = json!({"tokenHosts": ["Auth.example.com", "auth.example.com:8443"]});
    let mut resources = resources(policy_spec(), Value::Null);
    if !secret.is_empty() {
        connection["credentialsSecretRef"] = json!({"name": "notary-pull"});
        let data = secret.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
        resources.secrets.insert("notary-pull".to_owned(), SecretData(data.collect()));
    }
    if let Some(ca) = ca {
        connection["caConfigMapRef"] = json!({"name": "corp-ca", "key": "ca.crt"});
        let data = BTreeMap::from([("ca.crt".to_owned(), ca.as_bytes().to_vec())]);
        resources.config_maps.insert("corp-ca".to_owned(), data);
    }
    let spec = with(source_spec(), "/notary/url", json!("https://notary.example.com:4443"));
    let spec = with(spec, "/connection", connection);
    resources.sources = vec![Document::new("corp-notary", None, spec)];
    resources.policies.clear();
    let mut compiled = compile(&resources, now());
    match compiled.sources.remove("corp-notary") {
        Some(source) => Ok(source.connection),
        None => Err(problem(&compiled)),
    }
}

#[test]
fn a_connection_takes_its_objects() {
    let ca = certificate(true, 2020, 2030);
    let basic = [("username", "u"), ("password", "p"), ("host", "notary.example.com:4443")];
    let connection = connected(&basic, Some(&ca)).unwrap();
    assert_eq!(connection.ca_pem.as_deref(), Some(ca.as_bytes()));
    assert_eq!(connection.token_hosts, ["auth.example.com", "auth.example.com:8443"]);
    let credentials = &connection.credentials[0];
    assert_eq!((credentials.username.as_str(), credentials.password.as_str()), ("u", "p"));
    let auth = BASE64_STANDARD.encode("u:p:q");
    let config = json!({"auths": {
        "https://other.example.com/v1/": {"username": "x", "password": "y"},
        "https://notary.example.com:4443/v2/": {"auth": auth},
    }});
    let connection = connected(&[(".dockerconfigjson", &config.to_string())], None).unwrap();
    let credentials = &connection.credentials[0];
    assert_eq!((credentials.username.as_str(), credentials.password.as_str()), ("u", "p:q"));
    assert_eq!(credentials.host, "notary.example.com:4443");
}

#[test]
fn k9_credentials_go_only_to_the_host_that_their_secret_names() {
    let prefix =
        "TrustSource \"corp-notary\": spec.connection.credentialsSecretRef: Secret \"notary-pull\"";
    for (secret, expected) in [
        (
            vec![("username", "u"), ("password", "p")],
            ": key \"host\" is missing; username, password and host are needed",
        ),
        (
            vec![("username", "u"), ("password", "p"), ("host", "evil.example")],
            " holds no credentials for notary.example.com:4443",
        ),
        (
            vec![("username", "u"), ("password", "p"), ("host", "notary.example.com")],
            " holds no credentials for notary.example.com:4443",
        ),
        (
            vec![("username", "u"), ("password", "p"), ("host", "a b")],
            ": key \"host\" is not a host as notary.example.com",
        ),
        (
            vec![(".dockerconfigjson", "{\"auths\":{}}")],
            " holds no credentials for notary.example.com:4443",
        ),
        (
            vec![(".dockerconfigjson", "{\"auths\":{\"a.example\":{\"auth\":\"!\"}}}")],
            ": an entry in auths: \"auth\" is not the base64 of user:password",
        ),
        (
            vec![(".dockerconfigjson", "secret text")],
            ": key \".dockerconfigjson\" is not JSON of the form {\"auths\": {HOST: {\"auth\": ...}}}",
        ),
    ] {
        assert_eq!(connected(&secret, None), Err(format!("{prefix}{expected}")));
    }
}

#[test]
fn k14_objects_that_are_not_there_are_named() {
    let place = "it has to be in Countersign's namespace, or among the files";
    for (connection, expected) in [
        (
            json!({"credentialsSecretRef": {"name": "s"}}),
            format!("spec.connection.credentialsSecretRef: Secret \"s\" does not exist; {place}"),
        ),
        (
            json!({"caConfigMapRef": {"name": "c", "key": "k"}}),
            format!("spec.connection.caConfigMapRef: ConfigMap \"c\" does not exist; {place}"),
        ),
    ] {
        let compiled = compile_source(with(source_spec(), "/connection", connection));
        assert_eq!(problem(&compiled), format!("TrustSource \"corp-notary\": {expected}"));
    }
    let prefix = "TrustSource \"corp-notary\": spec.connection.caConfigMapRef: key \"ca.crt\" of ConfigMap \"corp-ca\"";
    let bundle = format!("{}{}", certificate(true, 2020, 2030), public_key());
    for (ca, expected) in [
        ("", "it holds no PEM certificate (-----BEGIN CERTIFICATE-----)"),
        (bundle.as_str(), "it is a public key, not a certificate; use publicKeys for it"),
    ] {
        assert_eq!(connected(&[], Some(ca)), Err(format!("{prefix}: {expected}")));
    }
}

#[test]
fn passwords_are_never_printed() {
    let secret = [("username", "u"), ("password", "hunter2"), ("host", "notary.example.com:4443")];
    let connection = connected(&secret, None).unwrap();
    assert!(!format!("{connection:?}").contains("hunter2"));
    let data = secret.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
    let debug = format!("{:?}", SecretData(data.collect()));
    assert_eq!(debug, "{\"host\", \"password\", \"username\"}");
}

#[test]
fn t8_sources_that_differ_in_their_names_only_share_nothing() {
    let spec = source_spec();
    let fingerprint = |name: &str| {
        let document = Document::new(name, None, spec.clone());
        let resources = Resources { sources: vec![document], ..Resources::default() };
        compile(&resources, now()).sources[name].fingerprint
    };
    assert_eq!(fingerprint("one"), fingerprint("one"));
    assert_ne!(fingerprint("one"), fingerprint("other"));
}
