//! Whether the Service behind the webhooks leads to anyone yet.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Longest wait. This replica is ready; what is missing is that the kubelet and the Service notice,
/// which takes a probe's period and a little. Who may not connect to the Service waits in vain.
const WAIT: Duration = Duration::from_secs(8);

/// How often it is tried.
const AGAIN: Duration = Duration::from_millis(200);

/// Waits until the Service of these webhooks takes connections: from the moment when they are
/// created everything is refused that they are asked about and nobody answers.
pub(super) async fn wait(webhooks: &[Map<String, Value>]) {
    if let Some((host, port)) = webhooks.iter().find_map(address) {
        connects((&host, port)).await;
    }
}

/// Waits until someone takes connections there.
async fn connects(place: (&str, u16)) {
    let trying = async {
        loop {
            if TcpStream::connect(place).await.is_ok() {
                return;
            }
            sleep(AGAIN).await;
        }
    };
    if timeout(WAIT, trying).await.is_err() {
        let (host, port, waited) = (place.0, place.1, WAIT.as_secs());
        tracing::warn!(host, port, "the Service takes no connection after {waited} s: going on");
    }
}

/// Host and port of the Service of a webhook, as the API server dials it.
fn address(webhook: &Map<String, Value>) -> Option<(String, u16)> {
    let service = webhook.get("clientConfig")?.get("service")?;
    let text = |field: &str| service.get(field)?.as_str();
    let port = service.get("port").map_or(Some(443), Value::as_u64)?;
    Some((format!("{}.{}.svc", text("name")?, text("namespace")?), u16::try_from(port).ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    fn webhook(service: Value) -> Map<String, Value> {
        let webhook = json!({"clientConfig": {"service": service}});
        webhook.as_object().cloned().expect("an object")
    }

    #[test]
    fn the_address_is_the_one_that_the_api_server_dials() {
        for (service, expected) in [
            (json!({"name": "a", "namespace": "b"}), Some(("a.b.svc".to_owned(), 443))),
            (
                json!({"name": "a", "namespace": "b", "port": 8443}),
                Some(("a.b.svc".to_owned(), 8443)),
            ),
            (json!({"name": "a", "namespace": "b", "port": 70_000}), None),
            (json!({"name": "a"}), None),
            (Value::Null, None),
        ] {
            assert_eq!(address(&webhook(service.clone())), expected, "{service}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_takes_no_connections_is_waited_for_no_longer() {
        let began = Instant::now();
        wait(&[webhook(json!({"name": "a", "namespace": "nowhere.invalid"}))]).await;
        assert!((WAIT..WAIT + AGAIN).contains(&began.elapsed()));
    }

    #[tokio::test]
    async fn it_is_waited_for_until_someone_listens() {
        let place = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr();
        let place = place.expect("an address");
        let began = Instant::now();
        let listening = async {
            sleep(AGAIN * 3).await;
            TcpListener::bind(place).await.expect("the port again")
        };
        let (_listener, ()) = tokio::join!(listening, connects(("127.0.0.1", place.port())));
        assert!((AGAIN * 3..WAIT).contains(&began.elapsed()));
    }
}
