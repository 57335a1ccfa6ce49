//! Manifests by their digests.

use bytes::Bytes;

use super::*;

fn by_digest(registry: &Scripted, digest: &Digest) -> Reference {
    registry.image().with_digest(digest.clone())
}

#[tokio::test]
async fn a_manifest_is_read_by_its_digest_and_once() {
    let registry = Scripted::new(|_, _| honest()).await;
    let image = by_digest(&registry, &Digest::sha256(manifest().as_bytes()));
    let reader = Registry::new(registry.config());
    assert_eq!(reader.cached_manifest(&image, None, &registry.allowed()), None);
    for _ in 0..2 {
        let read = reader.manifest(&image, NAMESPACE, None, &registry.allowed(), soon()).await;
        assert_eq!(read, Ok(Bytes::from(manifest())));
    }
    assert_eq!(
        reader.cached_manifest(&image, None, &registry.allowed()),
        Some(Ok(Bytes::from(manifest())))
    );
    let seen = registry.log.all();
    assert_eq!(seen.len(), 1);
    let path = format!("/v2/team/app/manifests/{}", Digest::sha256(manifest().as_bytes()));
    assert_eq!((seen[0].method.as_str(), seen[0].uri.as_str()), ("GET", path.as_str()));
}

#[tokio::test]
async fn r2_r4_another_manifest_than_the_digests_or_an_endless_one_is_refused() {
    let other = Scripted::new(|_, _| honest()).await;
    let endless = Scripted::new(|_, _| reply(200, &[], "x".repeat((4 << 20) + 1))).await;
    for (registry, wanted) in [(other, "another manifest"), (endless, "longer than")] {
        let image = by_digest(&registry, &Digest::sha256(b"something else"));
        let reader = Registry::new(registry.config());
        match reader.manifest(&image, NAMESPACE, None, &registry.allowed(), soon()).await {
            Err(Unavailable::RegistryUnavailable { cause, .. }) => {
                assert!(cause.contains(wanted), "{cause}");
            }
            other => unreachable!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn r5_no_manifest_is_read_from_a_registry_that_nobody_named() {
    let registry = Scripted::new(|_, _| honest()).await;
    let image = by_digest(&registry, &Digest::sha256(manifest().as_bytes()));
    let reader = Registry::new(registry.config());
    let refused = Unavailable::RegistryNotAllowed { registry: registry.host.clone() };
    let nobody = BTreeSet::new();
    assert_eq!(
        reader.manifest(&image, NAMESPACE, None, &nobody, soon()).await,
        Err(refused.clone())
    );
    assert_eq!(reader.cached_manifest(&image, None, &nobody), Some(Err(refused)));
    assert_eq!(registry.log.len(), 0);
}
