//! The serving certificate, kept current.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Readiness, ServeConfig};
use crate::telemetry::Metrics;

/// Largest certificate or key file read, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// What holds readiness until there is a certificate to serve with.
pub const CERTIFICATE: &str = "certificate";

/// Why a certificate, a key or an authority cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct TlsError {
    /// Where it is: a file, or a key of a Secret.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
}

impl TlsError {
    fn new(place: &str, reason: impl ToString) -> Self {
        Self { place: place.to_owned(), reason: reason.to_string() }
    }
}

/// Where the serving certificate and its key come from.
#[derive(Debug, Clone)]
pub enum PairOrigin {
    /// Files, looked at again and again.
    Files {
        /// The certificate and its chain, leaf first, in PEM.
        certificate: PathBuf,
        /// Its private key, in PEM.
        key: PathBuf,
    },
    /// Whoever keeps them in the cluster; `None` until there is a first pair.
    Kept(watch::Receiver<Option<Arc<Pair>>>),
}

/// A certificate with its chain and its private key, as they were found; nothing is checked yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate and its chain, leaf first, in PEM.
    pub certificate: Vec<u8>,
    /// Its private key, in PEM.
    pub key: Vec<u8>,
    /// Where the certificate was found, for messages.
    pub certificate_place: String,
    /// Where the key was found, for messages.
    pub key_place: String,
}

/// Without the key.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("certificate_place", &self.certificate_place)
            .field("key_place", &self.key_place)
            .finish_non_exhaustive()
    }
}

/// A certificate and the key that belongs to it.
#[derive(Debug)]
pub struct CheckedPair {
    certified: CertifiedKey,
    /// When the certificate ends.
    pub expires: Timestamp,
}

impl CheckedPair {
    /// The certificate and its chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }
}

impl Pair {
    /// Checks that a server can use it. Whether it has expired is for the caller to say.
    pub fn check(&self) -> Result<CheckedPair, TlsError> {
        let Self { certificate, key, certificate_place: place, key_place } = self;
        let chain = certificates(place, certificate)?;
        let expires = chain.first().map(|leaf| not_after(place, leaf)).transpose()?;
        let expires = expires.ok_or_else(|| TlsError::new(place, "no certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| TlsError::new(key_place, format!("no PEM private key: {error}")))?;
        let certified = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| TlsError::new(key_place, mismatch(place, &error)))?;
        Ok(CheckedPair { certified, expires })
    }
}

/// What is to be served with, as it was found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Contents {
    pair: Option<Arc<Pair>>,
    client_ca: Option<Vec<u8>>,
}

/// What was found, and what is served of it.
#[derive(Debug)]
pub(super) struct Certificates {
    config: ServeConfig,
    metrics: Metrics,
    /// As last looked at, good or bad, so that a bad pair is told once; `None` where it could not
    /// be read.
    seen: Option<Contents>,
    rustls: RustlsConfig,
}

impl Certificates {
    /// Reads and checks what there is. Files have to be there; a kept pair may come later, and
    /// until then no handshake succeeds.
    pub(super) fn load(config: &ServeConfig, metrics: Metrics) -> Result<Self, TlsError> {
        let seen = Contents::read(config)?;
        let (server, expires) = seen.build(config)?;
        if let Some(expires) = expires {
            if expires <= Timestamp::now() {
                tracing::error!(%expires, "the certificate has expired: clients will refuse it");
            }
            metrics.certificate_expires(expires.as_second());
        }
        let rustls = RustlsConfig::from_config(Arc::new(server));
        Ok(Self { config: config.clone(), metrics, seen: Some(seen), rustls })
    }

    pub(super) fn rustls(&self) -> RustlsConfig {
        self.rustls.clone()
    }

    /// Looks for changes for ever. Contents are compared, not events or times: kubelet swaps
    /// symlinks. What cannot be used leaves the last good pair in place. `readiness` is released
    /// when there is a pair.
    pub(super) async fn keep_current(mut self, readiness: Readiness) -> ! {
        if self.seen.as_ref().is_some_and(|seen| seen.pair.is_some()) {
            readiness.release(CERTIFICATE);
        }
        let mut ticks =
            tokio::time::interval(self.config.reload_every.max(Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let config = self.config.clone();
            let read = tokio::task::spawn_blocking(move || Contents::read(&config)).await;
            match read {
                Ok(Ok(contents)) => {
                    if self.seen.as_ref() != Some(&contents) && self.replace(contents) {
                        readiness.release(CERTIFICATE);
                    }
                }
                Ok(Err(error)) if self.seen.take().is_some() => self.refused(&error),
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    /// Whether there is a new pair to serve with.
    fn replace(&mut self, contents: Contents) -> bool {
        let built = contents.build(&self.config).and_then(|(server, expires)| match expires {
            Some(expires) if expires <= Timestamp::now() => {
                let place = contents.pair.as_ref().map_or("", |pair| &pair.certificate_place);
                Err(TlsError::new(place, format!("expired at {expires}")))
            }
            expires => Ok((server, expires)),
        });
        self.seen = Some(contents);
        match built {
            Ok((server, expires)) => {
                self.rustls.reload_from_config(Arc::new(server));
                self.metrics.certificate_reloaded(true);
                let Some(expires) = expires else { return false };
                self.metrics.certificate_expires(expires.as_second());
                tracing::info!(%expires, "serving with a new certificate");
                true
            }
            Err(error) => {
                self.refused(&error);
                false
            }
        }
    }

    fn refused(&self, error: &TlsError) {
        self.metrics.certificate_reloaded(false);
        tracing::warn!(%error, "the changed certificate cannot be used; serving with the last one");
    }
}

impl Contents {
    fn read(config: &ServeConfig) -> Result<Self, TlsError> {
        let pair = match &config.pair {
            PairOrigin::Files { certificate, key } => Some(Arc::new(Pair {
                certificate: read(certificate)?,
                key: read(key)?,
                certificate_place: certificate.display().to_string(),
                key_place: key.display().to_string(),
            })),
            PairOrigin::Kept(pair) => pair.borrow().clone(),
        };
        Ok(Self { pair, client_ca: config.client_ca.as_deref().map(read).transpose()? })
    }

    /// The server's configuration, and when its certificate ends.
    fn build(&self, config: &ServeConfig) -> Result<(ServerConfig, Option<Timestamp>), TlsError> {
        let checked = self.pair.as_ref().map(|pair| pair.check()).transpose()?;
        let expires = checked.as_ref().map(|checked| checked.expires);
        let resolver: Arc<dyn ResolvesServerCert> = match checked {
            Some(checked) => Arc::new(SingleCertAndKey::from(checked.certified)),
            None => Arc::new(NoneYet),
        };
        let clients = match (&config.client_ca, &self.client_ca) {
            (Some(file), Some(pem)) => authorities(&file.display().to_string(), pem)?,
            _ => WebPkiClientVerifier::no_client_auth(),
        };
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| TlsError::new("TLS", error))?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(resolver);
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok((server, expires))
    }
}

/// Refuses every handshake.
#[derive(Debug)]
struct NoneYet;

impl ResolvesServerCert for NoneYet {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn mismatch(certificate: &str, error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("this is not the key of the certificate in {certificate}")
        }
        _ => format!("cannot be used with {certificate}: {error}"),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let fail = |error: io::Error| TlsError::new(&file.display().to_string(), error);
    if fs::metadata(file).map_err(fail)?.len() > FILE_BYTES {
        return Err(fail(io::Error::other(format!("over {FILE_BYTES} bytes"))));
    }
    fs::read(file).map_err(fail)
}

/// Every certificate of a PEM file; at least one. `place` is where it was found, for messages.
pub fn certificates(place: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| TlsError::new(place, error))?;
    if found.is_empty() {
        return Err(TlsError::new(place, "no PEM certificate in it"));
    }
    Ok(found)
}

fn not_after(place: &str, certificate: &CertificateDer<'_>) -> Result<Timestamp, TlsError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| TlsError::new(place, error))?;
    Timestamp::from_second(parsed.validity().not_after.timestamp())
        .map_err(|error| TlsError::new(place, error))
}

fn authorities(place: &str, pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(place, pem)? {
        roots.add(certificate).map_err(|error| TlsError::new(place, error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| TlsError::new(place, error))
}
