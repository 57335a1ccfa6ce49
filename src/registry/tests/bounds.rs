//! How much is asked at a time, and who of those that ask waits for whom.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Uri;
use futures_util::future::join_all;
use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;

/// Long enough for a thousand answers on a slow machine.
const LONG: Duration = Duration::from_secs(60);

/// A registry that takes connections and says nothing: how many are open, and how many were at most.
struct Hanging {
    host: String,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Hanging {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let host = format!("localhost:{}", listener.local_addr().expect("address").port());
        let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (now, highest) = (Arc::clone(&open), Arc::clone(&most));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                highest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let now = Arc::clone(&now);
                tokio::spawn(async move {
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { host, open, most }
    }

    async fn has(&self, connections: usize) {
        while self.open.load(Ordering::SeqCst) < connections {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Asks for tags, each in a task of its own.
struct Asking {
    registry: Registry,
    allowed: BTreeSet<String>,
}

impl Asking {
    async fn ask(
        &self,
        host: &str,
        namespace: &'static str,
        tag: &str,
    ) -> Result<Resolved, Unavailable> {
        let image = format!("{host}/team/app:{tag}");
        let image = Reference::parse(&image).expect("reference");
        let (registry, allowed) = (self.registry.clone(), self.allowed.clone());
        let deadline = Instant::now() + LONG;
        let asking =
            async move { registry.resolve(&image, namespace, None, &allowed, deadline).await };
        tokio::spawn(asking).await.expect("no panic")
    }
}

#[tokio::test]
async fn k10_tags_asked_at_one_host_and_by_one_namespace_are_bounded() {
    let (hanging, sound) = (Hanging::new().await, Scripted::new(|_, _| honest()).await);
    let allowed = BTreeSet::from([hanging.host.clone(), sound.host.clone()]);
    let asking = Asking { registry: Registry::new(sound.config()), allowed };
    // A host alone has half of the 128 turns and of the 4,096 places, a namespace half of those.
    let tags: Vec<String> = (0..1024).map(|number| number.to_string()).collect();
    let payments = join_all(tags.iter().map(|tag| asking.ask(&hanging.host, "payments", tag)));
    let others = async {
        hanging.has(32).await;
        let more = asking.ask(&hanging.host, "payments", "more");
        let more = timeout(Duration::from_secs(1), more).await;
        assert_eq!(more.expect("at once"), Err(Unavailable::Overloaded));
        let another = async {
            hanging.has(33).await;
            let elsewhere = asking.ask(&sound.host, "payments", "1");
            elsewhere.await.expect("another host's answer does not wait");
        };
        tokio::select! {
            _ = asking.ask(&hanging.host, "another", "another") => unreachable!("it hangs"),
            () = another => {}
        }
        assert_eq!(hanging.most.load(Ordering::SeqCst), 33);
    };
    tokio::select! {
        _ = payments => unreachable!("it hangs"),
        () = others => {}
    }
}

/// A registry that answers after a moment; never for tags that begin with `hangs`, and of manifests
/// of 4 MiB for those that begin with `drips` not the last byte.
async fn slow() -> (String, Folder) {
    let router = Router::new().fallback(async |uri: Uri| {
        if uri.path().contains("/drips") {
            let most = Ok::<_, Infallible>(" ".repeat((4 << 20) - 1));
            let body = stream::once(async { most }).chain(stream::pending());
            return reply(200, &[("content-type", OCI_MANIFEST)], Body::from_stream(body));
        }
        match uri.path().contains("/hangs") {
            true => std::future::pending().await,
            false => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        honest()
    });
    let server = tls_server(router, &["localhost"]).await;
    let host = format!("localhost:{}", server.address.port());
    let certs = Folder::new();
    certs.write(&format!("{host}/ca.crt"), &server.ca_pem);
    (host, certs)
}

fn asking(host: &str, certs: &Folder) -> Asking {
    let config = RegistryConfig { certs_dir: Some(certs.0.clone()), ..RegistryConfig::default() };
    Asking { registry: Registry::new(config), allowed: BTreeSet::from([host.to_owned()]) }
}

#[tokio::test]
async fn o8_manifests_that_do_not_end_hold_so_many_bytes_and_others_are_read() {
    let (host, certs) = slow().await;
    let asking = asking(&host, &certs);
    let tags: Vec<String> = (0..12).map(|number| format!("drips-{number}")).collect();
    let reading = tags.iter().map(|tag| asking.ask(&host, "payments", tag));
    let mut reading: FuturesUnordered<_> = reading.collect();
    // Two of 4 MiB are half of the room.
    for _ in 0..10 {
        assert_eq!(reading.next().await, Some(Err(Unavailable::Overloaded)));
    }
    tokio::select! {
        _ = reading.next() => unreachable!("it does not end"),
        answer = asking.ask(&host, "payments", "wanted") => drop(answer.expect("resolved")),
    }
}

#[tokio::test]
async fn all_tags_of_the_largest_review_are_resolved() {
    let (host, certs) = slow().await;
    let asking = asking(&host, &certs);
    let tags: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    let resolving = tags.iter().map(|tag| asking.ask(&host, "payments", tag));
    for resolved in join_all(resolving).await {
        resolved.expect("resolved");
    }
}

#[tokio::test]
async fn k10_what_one_namespace_waits_for_another_does_not_wait_for_with_it() {
    let (host, certs) = slow().await;
    let asking = asking(&host, &certs);
    let tags: Vec<String> = (0..32).map(|number| format!("hangs-{number}")).collect();
    let payments = async {
        let hanging = join_all(tags.iter().map(|tag| asking.ask(&host, "payments", tag)));
        tokio::join!(hanging, asking.ask(&host, "payments", "wanted"))
    };
    tokio::select! {
        _ = payments => unreachable!("it hangs"),
        answer = asking.ask(&host, "another", "wanted") => drop(answer.expect("resolved")),
    }
}
