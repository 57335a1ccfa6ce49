//! One request for many, and what is remembered.

use super::super::{ENDPOINTS, EndpointKey};
use super::*;

const SHORT: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o6_a_thousand_pods_of_one_image_cause_one_request() {
    let registry = Scripted::new(|_, _| honest()).await;
    let resolver = Registry::new(registry.config());
    let asking = (0..1000).map(|_| {
        let (resolver, image, allowed) = (resolver.clone(), registry.image(), registry.allowed());
        tokio::spawn(
            async move { resolver.resolve(&image, NAMESPACE, None, &allowed, soon()).await },
        )
    });
    for answer in futures_util::future::join_all(asking).await {
        answer.expect("joined").expect("resolved");
    }
    assert_eq!(registry.log.len(), 1);
}

#[tokio::test]
async fn o6_a_cancelled_first_caller_harms_nobody() {
    let registry = Scripted::new(|number, _| match number {
        0 => reply(503, &[("retry-after", "1")], ""),
        _ => honest(),
    })
    .await;
    let resolver = Registry::new(registry.config());
    let (image, allowed) = (registry.image(), registry.allowed());
    let first = resolver.resolve(
        &image,
        NAMESPACE,
        None,
        &allowed,
        Instant::now() + Duration::from_millis(500),
    );
    assert_eq!(first.await, Err(Unavailable::DeadlineExceeded));
    // The work goes on: who asks now joins it and has its answer.
    registry.resolve_with(&resolver).await.expect("resolved");
    assert_eq!(registry.log.len(), 2);
}

#[tokio::test]
async fn answers_are_remembered_for_a_while() {
    let registry = Scripted::new(|_, _| honest()).await;
    let resolver = Registry::new(RegistryConfig { tag_ttl: SHORT, ..registry.config() });
    let (image, allowed) = (registry.image(), registry.allowed());
    assert_eq!(resolver.cached(&image, None, &allowed), None);
    let first = registry.resolve_with(&resolver).await;
    assert_eq!(resolver.cached(&image, None, &allowed), Some(first.clone()));
    assert_eq!(registry.resolve_with(&resolver).await, first);
    assert_eq!(registry.log.len(), 1);
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(resolver.cached(&image, None, &allowed), None);
    registry.resolve_with(&resolver).await.expect("resolved");
    assert_eq!(registry.log.len(), 2);
    // Once the policies no longer name it, what is remembered is not told.
    let refusal = Unavailable::RegistryNotAllowed { registry: registry.host.clone() };
    assert_eq!(resolver.cached(&image, None, &BTreeSet::new()), Some(Err(refusal)));
}

#[tokio::test]
async fn o2_a_refusal_is_forgotten_sooner() {
    let registry = Scripted::new(|number, _| match number {
        0 | 1 => reply(404, &[], ""),
        _ => honest(),
    })
    .await;
    let config = RegistryConfig { refused_ttl: SHORT, ..registry.config() };
    let resolver = Registry::new(config);
    registry.resolve_with(&resolver).await.expect_err("not pushed yet");
    registry.resolve_with(&resolver).await.expect_err("remembered");
    assert_eq!(registry.log.len(), 2);
    tokio::time::sleep(SHORT * 2).await;
    registry.resolve_with(&resolver).await.expect("pushed, then retried");
}

/// The two seconds of docs/policies.md, "Sign, then retry".
#[tokio::test]
async fn o2_unless_configured_otherwise_a_refusal_is_remembered_for_two_seconds() {
    let registry = Scripted::new(|number, _| match number {
        0 | 1 => reply(404, &[], ""),
        _ => honest(),
    })
    .await;
    let resolver = Registry::new(registry.config());
    registry.resolve_with(&resolver).await.expect_err("not pushed yet");
    let refused = Instant::now();
    tokio::time::sleep(Duration::from_millis(500)).await;
    registry.resolve_with(&resolver).await.expect_err("remembered");
    assert_eq!(registry.log.len(), 2);
    tokio::time::sleep_until(refused + Duration::from_millis(2100)).await;
    registry.resolve_with(&resolver).await.expect("pushed, then retried");
}

#[tokio::test]
async fn r1_tags_of_one_repository_are_told_apart() {
    let registry = Scripted::new(|_, seen| {
        let tag = seen.uri.rsplit('/').next().expect("a tag");
        let digest = Digest::sha256(tag.as_bytes()).to_string();
        reply(200, &[("content-type", OCI_MANIFEST), ("docker-content-digest", &digest)], "")
    })
    .await;
    let resolver = Registry::new(registry.config());
    for tag in ["1.4", "1.5"] {
        let image = format!("{}/team/app:{tag}", registry.host);
        let image = Reference::parse(&image).expect("reference");
        let resolved = resolver.resolve(&image, NAMESPACE, None, &registry.allowed(), soon()).await;
        assert_eq!(resolved.expect("resolved").digest, Digest::sha256(tag.as_bytes()));
    }
}

#[test]
fn o8_the_registries_to_which_connections_are_kept_are_bounded() {
    let registry = Registry::new(RegistryConfig::default());
    let key = |number: u64| EndpointKey {
        registry: format!("r{number}.example.com"),
        credentials: None,
        ca_pem: None,
    };
    let endpoint = registry.inner.connect(&key(0)).expect("endpoint");
    let endpoints = &registry.inner.endpoints;
    for number in 0..2 * ENDPOINTS {
        endpoints.insert(key(number), endpoint.clone());
    }
    endpoints.run_pending_tasks();
    let kept = endpoints.entry_count();
    assert!(0 < kept && kept <= ENDPOINTS, "{kept}");
}

#[test]
fn docker_hub_is_reached_at_its_own_host() {
    let registry = Registry::new(RegistryConfig::default());
    let key = EndpointKey { registry: "docker.io".to_owned(), credentials: None, ca_pem: None };
    let endpoint = registry.inner.connect(&key).expect("endpoint");
    assert!(format!("{endpoint:?}").contains("\"https://registry-1.docker.io/\""));
}
