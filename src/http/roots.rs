//! Whom TLS servers' certificates have to be from: the system's authorities and an endpoint's own.

use std::sync::LazyLock;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::EndpointError;

/// Read once: it takes longer than a round trip to a nearby server, and a review may wait for it.
static SYSTEM: LazyLock<RootCertStore> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate of the system cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let (_, unusable) = roots.add_parsable_certificates(found.certs);
    if unusable > 0 {
        tracing::warn!(unusable, "some certificates of the system cannot be used");
    }
    roots
});

/// Reads the system's certificates now rather than with the first endpoint. They are not read
/// again: the program has to be started anew where they change.
pub fn read_system_certificates() {
    LazyLock::force(&SYSTEM);
}

/// TLS for HTTP/2 and HTTP/1.1 that trusts the system's authorities, and those of `ca_pem`.
pub(crate) fn client_config(ca_pem: Option<&[u8]>) -> Result<ClientConfig, EndpointError> {
    let mut roots = SYSTEM.clone();
    if let Some(pem) = ca_pem {
        let bad =
            |reason: &dyn std::fmt::Display| EndpointError::CaCertificates(reason.to_string());
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|error| bad(&error))?).map_err(|error| bad(&error))?;
        }
        if roots.len() == before {
            return Err(bad(&"there is none"));
        }
    }
    if roots.is_empty() {
        let reason = "the system has no certificates, and the endpoint has none of its own";
        return Err(EndpointError::Client(reason.to_owned()));
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|error| EndpointError::Client(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
