//! Attacks by registries, against real ones on loopback.

mod answers;
mod bounds;
mod credentials;
mod manifests;
mod sharing;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::Response;
use countersign_verify::image::{Digest, Reference};
use countersign_verify::outcome::Unavailable;
use tokio::time::Instant;

use super::{Registry, RegistryConfig, Resolved};
use crate::http::testing::{Log, Seen, reply, scripted, tls_server};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Who asks.
const NAMESPACE: &str = "payments";

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name =
            format!("countersign-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("folder");
        Self(path)
    }

    fn write(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        std::fs::write(&path, contents).expect("file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl AsRef<Path> for Folder {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

/// A registry that answers as its script says, what it saw, and how to reach it.
struct Scripted {
    host: String,
    log: Log,
    certs: Folder,
}

impl Scripted {
    async fn new<F>(answer: F) -> Self
    where
        F: Fn(usize, &Seen) -> Response + Clone + Send + Sync + 'static,
    {
        let log = Log::default();
        let server = tls_server(scripted(&log, answer), &["localhost"]).await;
        let host = format!("localhost:{}", server.address.port());
        let certs = Folder::new();
        certs.write(&format!("{host}/ca.crt"), &server.ca_pem);
        Self { host, log, certs }
    }

    fn config(&self) -> RegistryConfig {
        RegistryConfig { certs_dir: Some(self.certs.0.clone()), ..RegistryConfig::default() }
    }

    fn image(&self) -> Reference {
        Reference::parse(&format!("{}/team/app:1.4", self.host)).expect("reference")
    }

    fn allowed(&self) -> BTreeSet<String> {
        BTreeSet::from([self.host.clone()])
    }

    async fn resolve_with(&self, registry: &Registry) -> Result<Resolved, Unavailable> {
        registry.resolve(&self.image(), NAMESPACE, None, &self.allowed(), soon()).await
    }

    /// Resolves with no memory of earlier answers.
    async fn resolve(&self) -> Result<Resolved, Unavailable> {
        self.resolve_with(&Registry::new(self.config())).await
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

/// A manifest of one image.
fn manifest() -> String {
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{}},"layers":[]}}"#)
}

/// A registry's honest answer.
fn honest() -> Response {
    let body = manifest();
    let digest = Digest::sha256(body.as_bytes()).to_string();
    reply(200, &[("content-type", OCI_MANIFEST), ("docker-content-digest", &digest)], body)
}

fn cause(result: Result<Resolved, Unavailable>) -> String {
    match result.expect_err("refused") {
        Unavailable::RegistryUnavailable { cause, .. } => cause,
        other => unreachable!("{other:?}"),
    }
}
