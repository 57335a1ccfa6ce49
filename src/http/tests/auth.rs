//! Challenges, tokens, and where credentials go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::http::testing::{ANN, Log, Seen, Trap, ann, ask, config, plain_server, reply, scripted};
use crate::http::{Ask, Endpoint, EndpointConfig, FetchError};

const SCOPE: Option<&str> = Some("repository:team/app:pull");

fn scoped(millis: u64) -> Ask<'static> {
    Ask { scope: SCOPE, ..ask(millis) }
}

fn endpoint(base: &str, token_hosts: &[String]) -> Endpoint {
    let config =
        EndpointConfig { credentials: ann(), token_hosts: token_hosts.to_vec(), ..config(base) };
    Endpoint::new(config).expect("endpoint")
}

/// A registry that sends every request without one of `valid` to `realm`.
async fn registry(log: &Log, realm: &str, valid: &'static [&'static str]) -> String {
    let challenge = format!(
        "Bearer realm=\"{realm}\",service=\"the registry\",scope=\"repository:evil/app:push\""
    );
    let router = scripted(log, move |_, seen: &Seen| match seen.authorization.as_deref() {
        Some(token) if valid.contains(&token) => reply(200, &[], "here"),
        _ => reply(401, &[("www-authenticate", &challenge)], ""),
    });
    format!("http://{}", plain_server(router).await)
}

#[tokio::test]
async fn a_token_is_fetched_for_our_scope_and_kept() {
    let (tokens, requests) = (Log::default(), Log::default());
    let router = scripted(&tokens, |_, _| reply(200, &[], r#"{"token":"t0","expires_in":300}"#));
    let server = plain_server(router).await;
    let base = registry(&requests, &format!("http://{server}/token"), &["Bearer t0"]).await;
    let endpoint = endpoint(&base, &[server.to_string()]);
    for _ in 0..3 {
        assert_eq!(endpoint.get("/", &scoped(5000)).await.expect("authorized").body, "here");
    }
    let asked = tokens.all();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].uri, "/token?service=the+registry&scope=repository%3Ateam%2Fapp%3Apull");
    assert_eq!(asked[0].authorization.as_deref(), Some(ANN));
    let sent: Vec<_> = requests.all().into_iter().map(|seen| seen.authorization).collect();
    let token = Some("Bearer t0".to_owned());
    assert_eq!(sent, [None, token.clone(), token.clone(), token]);
}

#[tokio::test]
async fn a_token_of_one_scope_is_not_sent_for_another() {
    let (tokens, requests) = (Log::default(), Log::default());
    let router = scripted(&tokens, |number, _| {
        reply(200, &[], format!("{{\"access_token\":\"t{number}\",\"expires_in\":\"odd\"}}"))
    });
    let server = plain_server(router).await;
    let realm = format!("http://{server}/");
    let base = registry(&requests, &realm, &["Bearer t0", "Bearer t1"]).await;
    let endpoint = endpoint(&base, &[server.to_string()]);
    endpoint.get("/", &scoped(5000)).await.expect("authorized");
    endpoint.get("/", &ask(5000)).await.expect("authorized");
    let sent: Vec<_> = requests.all().into_iter().map(|seen| seen.authorization).collect();
    assert_eq!(sent, [None, Some("Bearer t0".into()), None, Some("Bearer t1".into())]);
    assert_eq!(tokens.all()[1].uri, "/?service=the+registry");
}

#[tokio::test]
async fn a_short_lived_token_is_not_kept() {
    let (tokens, requests) = (Log::default(), Log::default());
    let router = scripted(&tokens, |_, _| reply(200, &[], r#"{"token":"t0","expires_in":10}"#));
    let server = plain_server(router).await;
    let base = registry(&requests, &format!("http://{server}/"), &["Bearer t0"]).await;
    let endpoint = endpoint(&base, &[server.to_string()]);
    endpoint.get("/", &scoped(5000)).await.expect("authorized");
    endpoint.get("/", &scoped(5000)).await.expect("authorized");
    assert_eq!(tokens.len(), 2);
}

#[tokio::test]
async fn a_token_leaves_when_it_ends() {
    let (tokens, requests) = (Log::default(), Log::default());
    let router = scripted(&tokens, |_, _| reply(200, &[], r#"{"token":"t0","expires_in":11}"#));
    let server = plain_server(router).await;
    let base = registry(&requests, &format!("http://{server}/"), &["Bearer t0"]).await;
    let endpoint = endpoint(&base, &[server.to_string()]);
    endpoint.get("/", &scoped(5000)).await.expect("authorized");
    // Its last ten seconds are not used.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    endpoint.get("/", &scoped(5000)).await.expect("authorized");
    assert_eq!(tokens.len(), 2);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let (tokens, requests) = (Log::default(), Log::default());
    let router = scripted(&tokens, |number, _| {
        reply(200, &[], format!("{{\"token\":\"t{number}\",\"expires_in\":300}}"))
    });
    let server = plain_server(router).await;
    let challenge = format!("Bearer realm=\"http://{server}/\"");
    let accepted = Arc::new(AtomicUsize::new(0));
    let now = accepted.clone();
    let router = scripted(&requests, move |_, seen| {
        let wanted = format!("Bearer t{}", now.load(Ordering::SeqCst));
        match seen.authorization == Some(wanted) {
            true => reply(200, &[], ""),
            false => reply(401, &[("www-authenticate", &challenge)], ""),
        }
    });
    let base = format!("http://{}", plain_server(router).await);
    let endpoint = endpoint(&base, &[server.to_string()]);
    endpoint.get("/", &scoped(5000)).await.expect("t0");
    accepted.store(1, Ordering::SeqCst);
    endpoint.get("/", &scoped(5000)).await.expect("t1");
    assert_eq!((requests.len(), tokens.len()), (4, 2));
    accepted.store(99, Ordering::SeqCst);
    let result = endpoint.get("/", &scoped(5000)).await;
    assert_eq!(result.expect_err("never"), FetchError::Unauthorized);
    assert_eq!((requests.len(), tokens.len()), (6, 3));
}

#[tokio::test]
async fn a_refused_token_is_not_sent_again() {
    let (tokens, requests) = (Log::default(), Log::default());
    let router = scripted(&tokens, |number, _| match number {
        0 => reply(200, &[], r#"{"token":"t0","expires_in":300}"#),
        _ => reply(403, &[], ""),
    });
    let server = plain_server(router).await;
    let challenge = format!("Bearer realm=\"http://{server}/\"");
    let router = scripted(&requests, move |number, _| match number {
        1 => reply(200, &[], ""),
        _ => reply(401, &[("www-authenticate", &challenge)], ""),
    });
    let base = format!("http://{}", plain_server(router).await);
    let endpoint = endpoint(&base, &[server.to_string()]);
    endpoint.get("/", &scoped(5000)).await.expect("t0");
    endpoint.get("/", &scoped(5000)).await.expect_err("revoked");
    endpoint.get("/", &scoped(5000)).await.expect_err("no token");
    let sent: Vec<_> = requests.all().into_iter().map(|seen| seen.authorization).collect();
    let token = Some("Bearer t0".to_owned());
    assert_eq!(sent, [None, token.clone(), token, None]);
}

#[tokio::test]
async fn r5_realms_elsewhere_are_not_contacted() {
    let trap = Trap::set().await;
    let port = trap.address.port();
    for realm in [
        format!("http://127.0.0.1:{port}/token"),
        format!("https://127.0.0.1:{port}/token"),
        format!("https://localhost:{port}/token"),
        format!("https://auth.example.com@127.0.0.1:{port}/token"),
        format!("https://[::1]:{port}/token"),
        "https://auth.example.com.evil.example/".to_owned(),
        "https://auth.example.com:8443/".to_owned(),
        "http://auth.example.com/".to_owned(),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "https://169.254.169.254/".to_owned(),
        "/token".to_owned(),
        "file:///etc/passwd".to_owned(),
        String::new(),
    ] {
        let log = Log::default();
        let base = registry(&log, &realm, &[]).await;
        let endpoint = endpoint(&base, &["auth.example.com".to_owned()]);
        let result = endpoint.get("/", &scoped(5000)).await.expect_err(&realm);
        assert!(matches!(result, FetchError::ForbiddenRealm { .. }), "{realm}: {result}");
        assert_eq!(log.len(), 1, "{realm}");
        assert_eq!(log.all()[0].authorization, None);
    }
    assert_eq!(trap.contacts().await, 0);
}

#[tokio::test]
async fn r5_a_realm_chooses_no_scope() {
    let (tokens, requests) = (Log::default(), Log::default());
    let router = scripted(&tokens, |_, _| reply(200, &[], r#"{"token":"t0"}"#));
    let server = plain_server(router).await;
    let realm = format!("http://{server}/token?scope=repository:victim/app:pull,push");
    let base = registry(&requests, &realm, &["Bearer t0"]).await;
    let endpoint = endpoint(&base, &[server.to_string()]);
    let result = endpoint.get("/", &scoped(5000)).await.expect_err("refused");
    assert!(matches!(result, FetchError::ForbiddenRealm { .. }), "{result}");
    assert_eq!(tokens.len(), 0);
}

#[tokio::test]
async fn r5_a_token_servers_redirect_elsewhere_is_not_followed() {
    let trap = Trap::set().await;
    let target = format!("http://{}/", trap.address);
    let (tokens, requests) = (Log::default(), Log::default());
    let router = scripted(&tokens, move |_, _| reply(302, &[("location", &target)], ""));
    let server = plain_server(router).await;
    let base = registry(&requests, &format!("http://{server}/"), &[]).await;
    let endpoint = endpoint(&base, &[server.to_string(), trap.address.to_string()]);
    let result = endpoint.get("/", &scoped(5000)).await.expect_err("refused");
    let FetchError::Token { cause, .. } = result else { unreachable!("{result}") };
    assert!(matches!(*cause, FetchError::Redirect { .. }), "{cause}");
    assert_eq!(trap.contacts().await, 0);
}

#[tokio::test]
async fn t2_token_answers_are_bounded_and_checked() {
    for (body, expected) in [
        (" ".repeat(65 << 10), "longer than"),
        (format!("{{\"token\":\"{}\"}}", "t".repeat((16 << 10) + 1)), "more than 16384 bytes"),
        ("{}".to_owned(), "no token"),
        (r#"{"token":""}"#.to_owned(), "no token"),
        (r#"{"token":"a\r\nX-Injected: b"}"#.to_owned(), "no header can carry"),
        ("nonsense".to_owned(), "not the expected JSON"),
    ] {
        let (tokens, requests) = (Log::default(), Log::default());
        let router = scripted(&tokens, move |_, _| reply(200, &[], body.clone()));
        let server = plain_server(router).await;
        let base = registry(&requests, &format!("http://{server}/"), &[]).await;
        let endpoint = endpoint(&base, &[server.to_string()]);
        let error = endpoint.get("/", &scoped(5000)).await.expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(requests.len(), 1);
    }
}

#[tokio::test]
async fn a_token_server_that_refuses_is_reported_as_such() {
    let (tokens, requests) = (Log::default(), Log::default());
    let server = plain_server(scripted(&tokens, |_, _| reply(401, &[], ""))).await;
    let base = registry(&requests, &format!("http://{server}/"), &[]).await;
    let result = endpoint(&base, &[server.to_string()]).get("/", &scoped(5000)).await;
    let Err(FetchError::Token { cause, .. }) = result else { unreachable!("{result:?}") };
    assert_eq!(*cause, FetchError::Unauthorized);
    assert_eq!(tokens.len(), 1);
}

#[tokio::test]
async fn basic_credentials_are_sent_when_asked_for_and_then_at_once() {
    let log = Log::default();
    let router = scripted(&log, |_, seen| match seen.authorization.as_deref() {
        Some(ANN) => reply(200, &[], "here"),
        _ => reply(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
    });
    let base = format!("http://{}", plain_server(router).await);
    let known = endpoint(&base, &[]);
    known.get("/", &scoped(5000)).await.expect("authorized");
    known.get("/", &scoped(5000)).await.expect("authorized");
    let sent: Vec<_> = log.all().into_iter().map(|seen| seen.authorization).collect();
    assert_eq!(sent, [None, Some(ANN.to_owned()), Some(ANN.to_owned())]);

    let anonymous = Endpoint::new(config(&base)).expect("endpoint");
    let result = anonymous.get("/", &scoped(5000)).await;
    assert_eq!(result.expect_err("anonymous"), FetchError::Unauthorized);
    assert_eq!(log.len(), 4);
}

#[test]
fn passwords_are_not_in_debug_output() {
    let base = EndpointConfig { credentials: ann(), ..config("https://registry.example.com") };
    assert!(!format!("{base:?}").contains("secret"));
}
