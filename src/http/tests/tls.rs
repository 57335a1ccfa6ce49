//! Certificates, configuration, proxies.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::http::testing::{
    Log, TlsServer, ann, ask, config, plain_server, reply, scripted, tls_server,
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

/// A proxy that connects everything to `target`, and sends what it was asked for.
async fn proxy(
    target: std::net::SocketAddr,
) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (asked, receiver) = tokio::sync::mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                tokio::io::AsyncReadExt::read_exact(&mut client, &mut byte).await.expect("head");
                head.push(byte[0]);
            }
            let _ = asked.send(String::from_utf8_lossy(&head).into_owned());
            let mut server = TcpStream::connect(target).await.expect("connect");
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("connected");
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (port, receiver)
}

/// Runs [`behind_a_proxy`] in a process of its own, since the environment is a process's.
async fn run_behind(proxy: &str, ca_pem: &str, base: &str) -> std::process::Output {
    let test = "http::tests::tls::behind_a_proxy";
    tokio::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("HTTPS_PROXY", proxy)
        .env("HTTP_PROXY", proxy)
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .env("TEST_CA", ca_pem)
        .env("TEST_BASE", base)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("runs")
}

#[tokio::test]
#[ignore = "run by the tests of proxies"]
async fn behind_a_proxy() {
    let (Ok(ca_pem), Ok(base)) = (std::env::var("TEST_CA"), std::env::var("TEST_BASE")) else {
        return;
    };
    let ca_pem = Some(ca_pem.into_bytes());
    let config = EndpointConfig { ca_pem, credentials: ann(), ..config(&base) };
    let answer = Endpoint::new(config).expect("endpoint").get("/", &ask(5000)).await;
    assert_eq!(answer.expect("answered").body, "here");
}

#[tokio::test]
async fn the_environments_proxy_is_used_by_address_and_by_name() {
    let (server, log) = here(&["registry.example.com"]).await;
    let (port, mut asked) = proxy(server.address).await;
    for host in ["127.0.0.1", "localhost"] {
        let proxy = format!("http://{host}:{port}");
        let output = run_behind(&proxy, &server.ca_pem, "https://registry.example.com").await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let head = asked.recv().await.expect("asked");
        assert!(head.starts_with("CONNECT registry.example.com:443 "), "{head}");
        assert!(!head.to_lowercase().contains("\r\nauthorization:"), "{head}");
    }
    assert_eq!(log.len(), 2);
}

#[tokio::test]
async fn loopback_endpoints_never_use_a_proxy() {
    let log = Log::default();
    let address = plain_server(scripted(&log, |_, _| reply(200, &[], "here"))).await;
    let (server, _) = here(&["127.0.0.1"]).await;
    let (port, mut asked) = proxy(address).await;
    let proxy = format!("http://127.0.0.1:{port}");
    let output = run_behind(&proxy, &server.ca_pem, &format!("http://{address}")).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(asked.try_recv().is_err());
    assert_eq!(log.len(), 1);
}
