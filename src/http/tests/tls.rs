//! Certificates and configuration.

use crate::http::testing::{
    Log, TlsServer, ask, config, plain_server, reply, scripted, tls_server,
};
use crate::http::{Basic, Endpoint, EndpointConfig, EndpointError, FetchError};

async fn here(names: &[&str]) -> (TlsServer, Log) {
    let log = Log::default();
    let router = scripted(&log, |_, _| reply(200, &[], "here"));
    (tls_server(router, names).await, log)
}

fn endpoint(base: &str, ca_pem: Option<&str>) -> Endpoint {
    let ca_pem = ca_pem.map(|pem| pem.as_bytes().to_vec());
    Endpoint::new(EndpointConfig { ca_pem, ..config(base) }).expect("endpoint")
}

#[tokio::test]
async fn a_private_ca_is_trusted_where_it_is_configured() {
    let (server, _) = here(&["127.0.0.1"]).await;
    let endpoint = endpoint(&format!("https://{}", server.address), Some(&server.ca_pem));
    assert_eq!(endpoint.get("/", &ask(5000)).await.expect("trusted").body, "here");
}

#[tokio::test]
async fn other_certificates_are_refused() {
    let (server, log) = here(&["127.0.0.1"]).await;
    let (other, _) = here(&["127.0.0.1"]).await;
    let (misnamed, misnamed_log) = here(&["registry.example.com"]).await;
    let base = format!("https://{}", server.address);
    for (what, endpoint) in [
        ("no CA", endpoint(&base, None)),
        ("another CA", endpoint(&base, Some(&other.ca_pem))),
        (
            "another name",
            endpoint(&format!("https://{}", misnamed.address), Some(&misnamed.ca_pem)),
        ),
    ] {
        let result = endpoint.get("/", &ask(5000)).await.expect_err(what);
        assert!(matches!(result, FetchError::Tls(_)), "{what}: {result:?}");
    }
    assert_eq!((log.len(), misnamed_log.len()), (0, 0));
}

#[tokio::test]
async fn https_never_falls_back_to_http() {
    let log = Log::default();
    let address = plain_server(scripted(&log, |_, _| reply(200, &[], ""))).await;
    let result = endpoint(&format!("https://{address}"), None).get("/", &ask(5000)).await;
    result.expect_err("no TLS there");
    assert_eq!(log.len(), 0);
}

#[test]
fn configurations_are_checked() {
    let base = |url: &str| Endpoint::new(config(url)).map(|_| ());
    for url in ["https://registry.example.com", "https://10.0.0.1:5000", "http://[::1]:5000"] {
        assert_eq!(base(url), Ok(()), "{url}");
    }
    for url in [
        "http://registry.example.com",
        "http://10.0.0.1",
        "http://localhost.example.com",
        "ftp://registry.example.com",
        "https://ann:secret@registry.example.com",
        "https://registry.example.com/v2",
        "https://registry.example.com/?a",
        "data:text/plain,a",
    ] {
        assert!(matches!(base(url), Err(EndpointError::Base { .. })), "{url}");
    }
    let good = || config("https://registry.example.com");
    for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let result = Endpoint::new(EndpointConfig { ca_pem: Some(pem.into()), ..good() });
        assert!(result.is_err(), "{pem}");
    }
    for host in ["", "https://auth.example.com", "auth.example.com/token", "a@b", ":443", "a:b"] {
        let result = Endpoint::new(EndpointConfig { token_hosts: vec![host.into()], ..good() });
        assert_eq!(result.map(|_| ()), Err(EndpointError::TokenHost(host.to_owned())));
    }
    let credentials = Some(Basic { username: "a:b".into(), password: String::new() });
    let result = Endpoint::new(EndpointConfig { credentials, ..good() });
    assert_eq!(result.map(|_| ()), Err(EndpointError::Username));
}
