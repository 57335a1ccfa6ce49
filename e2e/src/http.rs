//! HTTP clients that trust one authority.

use std::fs;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use reqwest::Certificate;
use reqwest::blocking::{Client, ClientBuilder};

use crate::Outcome;
use crate::pki::Identity;

/// Longest time for one request of the harness itself.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Makes aws-lc-rs the process's cryptography, once.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    // An error only says that another thread, or the test itself, was first.
    ONCE.call_once(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

/// A client that trusts the certificates in this PEM file and no others, and uses no proxy.
pub fn client(authority: &Path) -> Outcome<Client> {
    Ok(builder(authority)?.build()?)
}

/// As [`client`], and shows this certificate.
pub fn client_as(authority: &Path, identity: &Identity) -> Outcome<Client> {
    let mut pem = fs::read(&identity.certificate)?;
    pem.extend(fs::read(&identity.key)?);
    Ok(builder(authority)?.identity(reqwest::Identity::from_pem(&pem)?).build()?)
}

fn builder(authority: &Path) -> Outcome<ClientBuilder> {
    install_crypto();
    let authority = Certificate::from_pem(&fs::read(authority)?)?;
    Ok(Client::builder()
        .no_proxy()
        .tls_certs_only([authority])
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT))
}

/// As [`client`], for asynchronous code.
pub fn async_client(authority: &Path) -> Outcome<reqwest::Client> {
    install_crypto();
    let authority = Certificate::from_pem(&fs::read(authority)?)?;
    Ok(reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([authority])
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .build()?)
}
