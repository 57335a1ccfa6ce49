//! Redirects and names that lead elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::http::address::{AddressRules, GuardedResolver, SystemResolver};
use crate::http::exchange::{Exchange, Transport};
use crate::http::testing::{
    ANN, Log, TlsServer, Trap, ann, ask, config, endpoint, plain_server, reply, scripted,
    tls_server,
};
use crate::http::{Endpoint, EndpointConfig, FetchError};

#[tokio::test]
async fn redirects_on_the_same_server_are_followed_three_times() {
    let log = Log::default();
    let router = scripted(&log, |_, seen| match seen.uri.as_str() {
        "/a" => reply(301, &[("location", "/b?x=1")], ""),
        "/b?x=1" => reply(307, &[("location", "c")], ""),
        "/c" => reply(308, &[("location", "./d")], ""),
        "/d" => reply(200, &[], "end"),
        _ => reply(302, &[("location", "/loop")], ""),
    });
    let endpoint = endpoint(plain_server(router).await);
    assert_eq!(endpoint.get("/a", &ask(5000)).await.expect("followed").body, "end");
    assert_eq!(log.len(), 4);
    let result = endpoint.get("/loop", &ask(5000)).await.expect_err("a loop");
    assert!(matches!(result, FetchError::Redirect { .. }), "{result}");
    assert_eq!(log.len(), 8);
}

#[tokio::test]
async fn what_is_secret_in_a_redirect_or_realm_is_not_logged() {
    for location in [
        "https://ann:secret@blobs.example/a?Signature=secret#secret",
        "https://secret secret/",
        "data:secret",
    ] {
        let log = Log::default();
        let router = scripted(&log, move |_, _| reply(302, &[("location", location)], ""));
        let endpoint = self::endpoint(plain_server(router).await);
        let error = endpoint.get("/", &ask(5000)).await.expect_err(location).to_string();
        assert!(!error.contains("secret") && !error.contains("ann"), "{error}");
        let log = Log::default();
        let challenge = format!("Bearer realm=\"{location}\"");
        let router =
            scripted(&log, move |_, _| reply(401, &[("www-authenticate", &*challenge)], ""));
        let endpoint = self::endpoint(plain_server(router).await);
        let error = endpoint.get("/", &ask(5000)).await.expect_err(location).to_string();
        assert!(!error.contains("secret") && !error.contains("ann"), "{error}");
    }
}

#[tokio::test]
async fn o8_refusals_are_short_whatever_a_server_says() {
    let long = "a".repeat(300_000);
    for location in [format!("https://elsewhere.example/{long}"), format!("/{long}"), long] {
        let router = scripted(&Log::default(), move |_, seen| match seen.uri.as_str() {
            "/challenge" => {
                let challenge = format!("Bearer realm=\"{location}\",error=\"{location}\"");
                reply(401, &[("www-authenticate", &challenge)], "")
            }
            _ => reply(302, &[("location", &location)], ""),
        });
        let endpoint = self::endpoint(plain_server(router).await);
        for path in ["/", "/challenge"] {
            let error = endpoint.get(path, &ask(5000)).await.expect_err(path);
            let texts = [error.to_string(), format!("{error:?}")];
            assert!(texts.iter().all(|text| text.len() < 2_000), "{} bytes", texts[1].len());
        }
    }
}

#[tokio::test]
async fn r5_redirects_elsewhere_are_not_followed() {
    let trap = Trap::set().await;
    let port = trap.address.port();
    let log = Log::default();
    let targets = [
        format!("http://127.0.0.1:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("//127.0.0.1:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "https://evil.example/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "http://".to_owned(),
    ];
    let locations = targets.clone();
    let router = scripted(&log, move |_, seen| {
        let index: usize = seen.uri.trim_start_matches('/').parse().expect("an index");
        reply(302, &[("location", &locations[index])], "")
    });
    let address = plain_server(router).await;
    let endpoint = Endpoint::new(EndpointConfig {
        credentials: ann(),
        ..config(&format!("http://{address}"))
    });
    let endpoint = endpoint.expect("endpoint");
    for (index, target) in targets.iter().enumerate() {
        let result = endpoint.get(&format!("/{index}"), &ask(5000)).await.expect_err(target);
        assert!(matches!(result, FetchError::Redirect { .. }), "{target}: {result}");
    }
    assert_eq!(log.len(), targets.len());
    assert_eq!(trap.contacts().await, 0);
}

#[tokio::test]
async fn r5_a_redirect_from_https_to_http_on_the_same_port_is_not_followed() {
    let log = Log::default();
    let router = scripted(&log, |_, seen| {
        let host = seen.uri.trim_start_matches('/').to_owned();
        reply(302, &[("location", &format!("http://{host}/"))], "")
    });
    let TlsServer { address, ca_pem } = tls_server(router, &["127.0.0.1"]).await;
    let base = config(&format!("https://{address}"));
    let endpoint = Endpoint::new(EndpointConfig { ca_pem: Some(ca_pem.into()), ..base });
    let result = endpoint.expect("endpoint").get(&format!("/{address}"), &ask(5000)).await;
    assert!(matches!(result, Err(FetchError::Redirect { .. })), "{result:?}");
}

#[tokio::test]
async fn r5_a_redirect_chooses_no_credentials() {
    let log = Log::default();
    let router = scripted(&log, |_, seen| {
        let host = seen.uri.trim_start_matches('/').to_owned();
        reply(302, &[("location", &format!("http://eve:guess@{host}/"))], "")
    });
    let address = plain_server(router).await;
    let result = endpoint(address).get(&format!("/{address}"), &ask(5000)).await;
    assert!(matches!(result, Err(FetchError::Redirect { .. })), "{result:?}");
    assert_eq!(log.len(), 1);
    assert_eq!(log.all()[0].authorization, None);
}

#[tokio::test]
async fn r5_credentials_go_along_on_the_same_server_only() {
    let log = Log::default();
    let router = scripted(&log, |_, seen| match (seen.uri.as_str(), &seen.authorization) {
        ("/a", None) => reply(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
        ("/a", Some(_)) => reply(302, &[("location", "/b")], ""),
        _ => reply(200, &[], ""),
    });
    let base = config(&format!("http://{}", plain_server(router).await));
    let endpoint = Endpoint::new(EndpointConfig { credentials: ann(), ..base });
    endpoint.expect("endpoint").get("/a", &ask(5000)).await.expect("followed");
    let sent: Vec<_> = log.all().into_iter().map(|seen| seen.authorization).collect();
    assert_eq!(sent, [None, Some(ANN.to_owned()), Some(ANN.to_owned())]);
}

/// Resolves every name to one address.
struct Always(SocketAddr);

impl Resolve for Always {
    fn resolve(&self, _: Name) -> Resolving {
        let address = self.0;
        Box::pin(async move { Ok(Box::new(std::iter::once(address)) as Addrs) })
    }
}

#[tokio::test]
async fn r5_a_name_that_resolves_to_loopback_is_not_contacted() {
    let trap = Trap::set().await;
    let base = config(&format!("https://registry.example.com:{}", trap.address.port()));
    let endpoint = Endpoint::with_resolver(base, Arc::new(Always(trap.address)));
    let result = endpoint.expect("endpoint").get("/", &ask(5000)).await;
    let forbidden = FetchError::ForbiddenAddress {
        host: "registry.example.com".to_owned(),
        address: "127.0.0.1".to_owned(),
    };
    assert_eq!(result.expect_err("refused"), forbidden);
    assert_eq!(trap.contacts().await, 0);
}

#[tokio::test]
async fn r5_a_literal_address_is_not_contacted_unless_configured() {
    let trap = Trap::set().await;
    let config = config("https://registry.example.com");
    let rules = AddressRules::new(Vec::new());
    let resolver = GuardedResolver::new(rules.clone(), Arc::new(SystemResolver::default()));
    let transport = Transport::new(&config, rules, resolver).expect("transport");
    let ask = ask(5000);
    let exchange = Exchange {
        room: None,
        method: http::Method::GET,
        url: format!("https://{}/", trap.address).parse().expect("URL"),
        accept: None,
        authorization: None,
        max_bytes: ask.max_bytes,
        deadline: ask.deadline,
    };
    let result = transport.run(&exchange).await;
    assert!(matches!(result, Err(FetchError::ForbiddenAddress { .. })), "{result:?}");
    assert_eq!(trap.contacts().await, 0);
}

#[tokio::test]
async fn localhost_is_contacted_where_it_is_configured_literally() {
    let log = Log::default();
    let router = scripted(&log, |_, _| reply(200, &[], "here"));
    let TlsServer { address, ca_pem } = tls_server(router, &["localhost"]).await;
    let base = config(&format!("https://localhost:{}", address.port()));
    let endpoint = Endpoint::new(EndpointConfig { ca_pem: Some(ca_pem.into()), ..base });
    let answer = endpoint.expect("endpoint").get("/", &ask(5000)).await;
    assert_eq!(answer.expect("configured").body, "here");
}
