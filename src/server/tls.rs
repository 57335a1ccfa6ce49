//! The serving certificate, kept current.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ServeConfig;
use crate::telemetry::Metrics;

/// Largest certificate or key file read, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// Why a certificate, a key or an authority cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", .file.display())]
pub struct TlsError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl TlsError {
    fn new(file: &Path, reason: impl ToString) -> Self {
        Self { file: file.to_owned(), reason: reason.to_string() }
    }
}

/// The files' contents.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// The files, and what is served of them.
#[derive(Debug)]
pub(super) struct Certificates {
    config: ServeConfig,
    metrics: Metrics,
    /// As last looked at, good or bad, so that a bad pair is told once.
    seen: Files,
    rustls: RustlsConfig,
}

impl Certificates {
    /// Reads and checks the files.
    pub(super) fn load(config: &ServeConfig, metrics: Metrics) -> Result<Self, TlsError> {
        let seen = Files::read(config)?;
        let (server, expires) = seen.build(config)?;
        if expires <= Timestamp::now() {
            let file = config.tls_cert.display();
            tracing::error!(%file, %expires, "the certificate has expired: clients will refuse it");
        }
        metrics.certificate_expires(expires.as_second());
        let rustls = RustlsConfig::from_config(Arc::new(server));
        Ok(Self { config: config.clone(), metrics, seen, rustls })
    }

    pub(super) fn rustls(&self) -> RustlsConfig {
        self.rustls.clone()
    }

    /// Looks at the files for ever. Contents are compared, not events or times: kubelet swaps
    /// symlinks. What cannot be used leaves the last good pair in place.
    pub(super) async fn keep_current(mut self) -> ! {
        let mut ticks =
            tokio::time::interval(self.config.reload_every.max(Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut unreadable = false;
        loop {
            ticks.tick().await;
            let config = self.config.clone();
            let read = tokio::task::spawn_blocking(move || Files::read(&config)).await;
            match read {
                Ok(Ok(files)) => {
                    unreadable = false;
                    if files != self.seen {
                        self.replace(files);
                    }
                }
                Ok(Err(error)) if !unreadable => {
                    unreadable = true;
                    self.refused(&error);
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    fn replace(&mut self, files: Files) {
        let built = files.build(&self.config).and_then(|(server, expires)| {
            let expired = || TlsError::new(&self.config.tls_cert, format!("expired at {expires}"));
            if expires <= Timestamp::now() { Err(expired()) } else { Ok((server, expires)) }
        });
        self.seen = files;
        match built {
            Ok((server, expires)) => {
                self.rustls.reload_from_config(Arc::new(server));
                self.metrics.certificate_expires(expires.as_second());
                tracing::info!(%expires, "serving with a new certificate");
            }
            Err(error) => self.refused(&error),
        }
    }

    fn refused(&self, error: &TlsError) {
        self.metrics.reload_failed();
        tracing::warn!(%error, "the changed certificate cannot be used; serving with the last one");
    }
}

impl Files {
    fn read(config: &ServeConfig) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: read(&config.tls_cert)?,
            key: read(&config.tls_key)?,
            client_ca: config.client_ca.as_deref().map(read).transpose()?,
        })
    }

    /// The server's configuration, and when its certificate ends.
    fn build(&self, config: &ServeConfig) -> Result<(ServerConfig, Timestamp), TlsError> {
        let chain = certificates(&config.tls_cert, &self.certificate)?;
        let expires = chain.first().map(|leaf| not_after(&config.tls_cert, leaf)).transpose()?;
        let expires = expires.ok_or_else(|| TlsError::new(&config.tls_cert, "no certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| {
            TlsError::new(&config.tls_key, format!("no PEM private key: {error}"))
        })?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = match (&config.client_ca, &self.client_ca) {
            (Some(file), Some(pem)) => authorities(file, pem, &provider)?,
            _ => WebPkiClientVerifier::no_client_auth(),
        };
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| TlsError::new(&config.tls_cert, error))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .map_err(|error| TlsError::new(&config.tls_key, pair(&config.tls_cert, &error)))?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok((server, expires))
    }
}

fn pair(certificate: &Path, error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("this is not the key of the certificate in {}", certificate.display())
        }
        _ => format!("cannot be used with {}: {error}", certificate.display()),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let fail = |error: io::Error| TlsError::new(file, error);
    if fs::metadata(file).map_err(fail)?.len() > FILE_BYTES {
        return Err(TlsError::new(file, format!("over {FILE_BYTES} bytes")));
    }
    fs::read(file).map_err(fail)
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| TlsError::new(file, error))?;
    if found.is_empty() {
        return Err(TlsError::new(file, "no PEM certificate in it"));
    }
    Ok(found)
}

fn not_after(file: &Path, certificate: &CertificateDer<'_>) -> Result<Timestamp, TlsError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| TlsError::new(file, error))?;
    Timestamp::from_second(parsed.validity().not_after.timestamp())
        .map_err(|error| TlsError::new(file, error))
}

fn authorities(
    file: &Path,
    pem: &[u8],
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, pem)? {
        roots.add(certificate).map_err(|error| TlsError::new(file, error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| TlsError::new(file, error))
}
