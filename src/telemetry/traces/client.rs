//! Sends requests to the collector on the program's own runtime: the thread that makes them has
//! none.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use reqwest::redirect;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;
use url::Url;

use super::TracesError;
use crate::http::{is_loopback_literal, tls_client_config};

/// Most bytes of an answer that are read: it says how many spans were rejected, and why.
const ANSWER_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

impl Client {
    pub(super) fn new(
        endpoint: &Url,
        ca_pem: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<Self, TracesError> {
        let unusable = |reason: &str| {
            let mut shown = endpoint.clone();
            // Neither fails for a URL with a host, and one without has no password.
            let _ = shown.set_password(None);
            let _ = shown.set_username("");
            TracesError::Endpoint { url: shown.to_string(), reason: reason.to_owned() }
        };
        let Some(host) = endpoint.host() else { return Err(unusable("it names no host")) };
        if !endpoint.username().is_empty() || endpoint.password().is_some() {
            let reason = "credentials do not belong in an URL: use OTEL_EXPORTER_OTLP_HEADERS";
            return Err(unusable(reason));
        }
        if endpoint.query().is_some() || endpoint.fragment().is_some() {
            return Err(unusable("only scheme, host, port and path are wanted here"));
        }
        let tls = match endpoint.scheme() {
            "https" => tls_client_config(ca_pem).map_err(|error| unusable(&error.to_string()))?,
            "http" => no_tls().map_err(|error| unusable(&error.to_string()))?,
            _ => return Err(unusable("only http and https are supported")),
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .https_only(endpoint.scheme() == "https")
            .redirect(redirect::Policy::none())
            .referer(false)
            .timeout(timeout)
            .tls_backend_preconfigured(tls);
        if is_loopback_literal(&host) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| unusable(&error.to_string()))?;
        let runtime = Handle::try_current().map_err(|error| unusable(&error.to_string()))?;
        Ok(Self { client, runtime })
    }
}

/// Trusts nobody, for a client that is used without TLS: a system without certificates is fine.
fn no_tls() -> Result<ClientConfig, rustls::Error> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let builder = ClientConfig::builder_with_provider(provider.into());
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sending = self.runtime.spawn(send(self.client.clone(), request));
        sending.await?
    }
}

async fn send(
    client: reqwest::Client,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let mut answer =
        client.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES {
            return Err(format!("the answer is longer than {ANSWER_BYTES} bytes").into());
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = Response::new(body.freeze());
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}
