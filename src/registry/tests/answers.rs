//! What is believed of a registry's answers.

use countersign_verify::image::Digest;
use countersign_verify::outcome::Unavailable;

use super::*;
use crate::http::testing::Trap;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn other_digest() -> String {
    Digest::sha256(b"something else").to_string()
}

/// A registry that answers HEAD with 405 and GET with this.
async fn answering_get(headers: &[(&str, &str)], body: impl Into<String>) -> Scripted {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let headers: Vec<(String, String)> = headers.iter().map(owned).collect();
    let body = body.into();
    Scripted::new(move |_, seen| match seen.method.as_str() {
        "HEAD" => reply(405, &[], ""),
        _ => {
            let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            reply(200, &headers, body.clone())
        }
    })
    .await
}

#[tokio::test]
async fn one_head_request_is_enough_for_an_honest_registry() {
    let registry = Scripted::new(|_, _| honest()).await;
    let resolved = registry.resolve().await.expect("resolved");
    assert_eq!(resolved.digest, Digest::sha256(manifest().as_bytes()));
    assert_eq!(resolved.size, Some(manifest().len() as u64));
    let seen = registry.log.all();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].method.as_str(), seen[0].uri.as_str()),
        ("HEAD", "/v2/team/app/manifests/1.4")
    );
}

#[tokio::test]
async fn r2_a_header_that_lies_is_refused() {
    let lie = other_digest();
    let headers = [("content-type", OCI_MANIFEST), ("docker-content-digest", lie.as_str())];
    let registry = answering_get(&headers, manifest()).await;
    let cause = cause(registry.resolve().await);
    assert!(cause.contains(&lie), "{cause}");
}

#[tokio::test]
async fn r2_without_a_usable_header_the_body_is_hashed() {
    for digest in [None, Some("sha256:beef"), Some("md5:d41d8cd98f00b204e9800998ecf8427e")] {
        let registry = Scripted::new(move |_, _| {
            let mut headers = vec![("content-type", OCI_MANIFEST)];
            headers.extend(digest.map(|digest| ("docker-content-digest", digest)));
            reply(200, &headers, manifest())
        })
        .await;
        let resolved = registry.resolve().await.expect("hashed");
        assert_eq!(resolved.digest, Digest::sha256(manifest().as_bytes()));
        assert_eq!(resolved.size, Some(manifest().len() as u64));
        assert_eq!(registry.log.len(), 2);
    }
}

#[tokio::test]
async fn r2_two_headers_are_no_header_and_neither_may_lie() {
    let registry = Scripted::new(|_, _| {
        let (honest, lie) = (Digest::sha256(manifest().as_bytes()).to_string(), other_digest());
        let digest = "docker-content-digest";
        reply(200, &[("content-type", OCI_MANIFEST), (digest, &honest), (digest, &lie)], manifest())
    })
    .await;
    let cause = cause(registry.resolve().await);
    assert!(cause.contains(&other_digest()), "{cause}");
    assert_eq!(registry.log.len(), 2);
}

#[tokio::test]
async fn registries_that_do_not_know_head_are_asked_by_get() {
    for status in [400, 404, 405, 501] {
        let registry = Scripted::new(move |_, seen| match seen.method.as_str() {
            "HEAD" => reply(status, &[], ""),
            _ => honest(),
        })
        .await;
        registry.resolve().await.expect("by GET");
    }
}

#[tokio::test]
async fn r4_huge_and_endless_manifests_are_refused() {
    let huge = manifest().replace("[]", &format!("[\"{}\"]", "x".repeat(4 << 20)));
    let registry = answering_get(&[("content-type", OCI_MANIFEST)], huge).await;
    assert!(cause(registry.resolve().await).contains("longer than 4194304 bytes"));

    let endless = Scripted::new(|_, seen| {
        if seen.method == "HEAD" {
            return reply(405, &[], "");
        }
        let chunks = std::iter::repeat_with(|| Ok::<_, std::io::Error>(" ".repeat(1 << 16)));
        let body = axum::body::Body::from_stream(futures_util::stream::iter(chunks));
        reply(200, &[("content-type", OCI_MANIFEST)], body)
    })
    .await;
    assert!(cause(endless.resolve().await).contains("longer than 4194304 bytes"));
}

#[tokio::test]
async fn r4_bodies_that_can_be_read_in_two_ways_are_refused() {
    let declared = format!(r#""mediaType":"{OCI_MANIFEST}""#);
    for (content_type, body, expected) in [
        (OCI_MANIFEST, r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#.to_owned(), "as index"),
        (OCI_INDEX, r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#.to_owned(), "as index"),
        (OCI_INDEX, r#"{"schemaVersion":2,"config":{},"manifests":[]}"#.to_owned(), "as index"),
        (OCI_INDEX, r#"{"schemaVersion":2,"layers":[]}"#.to_owned(), "without manifests"),
        (OCI_MANIFEST, r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(), "without config"),
        (OCI_INDEX, format!(r#"{{"schemaVersion":2,{declared},"manifests":[]}}"#), "Content-Type"),
        (
            DOCKER_MANIFEST,
            format!(r#"{{"schemaVersion":2,{declared},"layers":[]}}"#),
            "Content-Type",
        ),
        (
            OCI_MANIFEST,
            format!(r#"{{"schemaVersion":2,{declared},{declared},"layers":[]}}"#),
            "duplicate",
        ),
        ("text/html", manifest(), "text/html"),
        (OCI_MANIFEST, "<html>".to_owned(), "cannot be read"),
        (OCI_MANIFEST, r#"{"layers":[]}"#.to_owned(), "schemaVersion"),
    ] {
        let registry = answering_get(&[("content-type", content_type)], body.clone()).await;
        let cause = cause(registry.resolve().await);
        assert!(cause.contains(expected), "{content_type} {body}: {cause}");
    }
}

#[tokio::test]
async fn r4_schema_1_is_refused_by_type_and_by_body() {
    let schema_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let registry = Scripted::new(move |_, _| {
        let digest = other_digest();
        reply(200, &[("content-type", schema_1), ("docker-content-digest", &digest)], "")
    })
    .await;
    assert!(cause(registry.resolve().await).contains("schema 1"));
    assert_eq!(registry.log.len(), 1);
    for body in
        [r#"{"schemaVersion":1,"layers":[]}"#, r#"{"schemaVersion":2,"layers":[],"fsLayers":[]}"#]
    {
        let registry = answering_get(&[("content-type", OCI_MANIFEST)], body).await;
        assert!(cause(registry.resolve().await).contains("schema 1"), "{body}");
    }
}

#[tokio::test]
async fn r5_a_users_text_is_the_same_for_every_failure() {
    let mut texts = Vec::new();
    for status in [401, 403, 404, 302, 500] {
        let registry = Scripted::new(move |_, _| {
            reply(status, &[("retry-after", "100"), ("location", "https://evil.example/")], "")
        })
        .await;
        let refusal = registry.resolve().await.expect_err("refused");
        assert_eq!(refusal.code(), "RegistryUnavailable");
        texts.push(refusal.to_string().replace(&registry.host, "HOST"));
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
}

#[tokio::test]
async fn r5_only_allowed_registries_are_contacted() {
    let trap = Trap::set().await;
    let port = trap.address.port();
    let registry = Registry::new(RegistryConfig::default());
    let allowed = BTreeSet::from([
        "localhost".to_owned(),
        format!("127.0.0.1:{}", port.wrapping_add(1)),
        format!("127.0.0.1:{port}.example.com"),
    ]);
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}")] {
        let image = Reference::parse(&format!("{host}/team/app:1.4")).expect("reference");
        let refusal = Err(Unavailable::RegistryNotAllowed { registry: host });
        assert_eq!(registry.cached(&image, None, &allowed), Some(refusal.clone()));
        assert_eq!(registry.resolve(&image, NAMESPACE, None, &allowed, soon()).await, refusal);
    }
    assert_eq!(trap.contacts().await, 0);
}

#[tokio::test]
async fn an_image_named_by_digest_contacts_no_registry() {
    let registry = Scripted::new(|_, _| honest()).await;
    let digest = Digest::sha256(b"anything");
    let image = registry.image().with_digest(digest.clone());
    let resolver = Registry::new(registry.config());
    let resolved = Resolved { digest, size: None };
    let nobody = BTreeSet::new();
    assert_eq!(resolver.cached(&image, None, &nobody), Some(Ok(resolved.clone())));
    assert_eq!(resolver.resolve(&image, NAMESPACE, None, &nobody, soon()).await, Ok(resolved));
    assert_eq!(registry.log.len(), 0);
}

#[tokio::test]
async fn r5_token_realms_elsewhere_are_not_contacted() {
    let trap = Trap::set().await;
    let realm = format!("https://localhost:{}/token", trap.address.port());
    let registry = Scripted::new(move |_, _| {
        reply(401, &[("www-authenticate", &format!("Bearer realm=\"{realm}\""))], "")
    })
    .await;
    assert!(cause(registry.resolve().await).contains("token realm"));
    assert_eq!(trap.contacts().await, 0);
}

#[tokio::test]
async fn a_registrys_own_ca_is_trusted_for_it_only() {
    let registry = Scripted::new(|_, _| honest()).await;
    let other = Scripted::new(|_, _| honest()).await;
    registry.resolve().await.expect("trusted");
    let resolver = Registry::new(other.config());
    assert!(cause(registry.resolve_with(&resolver).await).contains("TLS"));
}
