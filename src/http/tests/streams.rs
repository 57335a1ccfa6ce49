//! Bodies read piece by piece: the same bounds.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::http::testing::{Log, ask, drip, endpoint, plain_server, raw_server, reply, scripted};
use crate::http::{Endpoint, FetchError};

async fn read(endpoint: &Endpoint, path: &str, millis: u64) -> Result<Vec<u8>, FetchError> {
    let mut stream = endpoint.open(path, &ask(millis)).await?;
    let mut body = Vec::new();
    while let Some(chunk) = stream.chunk().await? {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[tokio::test]
async fn t2_a_stream_may_be_as_long_as_the_limit_and_no_longer() {
    let log = Log::default();
    let router = scripted(&log, |_, seen| match seen.uri.trim_start_matches('/').parse() {
        Ok(length) => reply(200, &[], "x".repeat(length)),
        Err(_) => {
            let chunks = ["0123456789"; 101].map(Ok::<_, std::io::Error>);
            let endless = axum::body::Body::from_stream(futures_util::stream::iter(chunks));
            reply(200, &[], endless)
        }
    });
    let endpoint = endpoint(plain_server(router).await);
    assert_eq!(read(&endpoint, "/1000", 5000).await.map(|body| body.len()), Ok(1000));
    let too_large = Err(FetchError::TooLarge { limit: 1000 });
    assert_eq!(read(&endpoint, "/1001", 5000).await, too_large, "as it says itself");
    assert_eq!(read(&endpoint, "/endless", 5000).await, too_large, "as it turns out");
}

#[tokio::test]
async fn t9_a_slow_stream_is_cut_at_the_deadline() {
    let address = raw_server(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n").await;
        drip(stream, std::iter::repeat(b'x'), Duration::from_millis(50)).await;
    })
    .await;
    assert_eq!(read(&endpoint(address), "/", 300).await, Err(FetchError::Deadline));
}

#[tokio::test]
async fn a_stream_follows_redirects_and_tells_a_status_like_any_answer() {
    let log = Log::default();
    let router = scripted(&log, |number, seen| match (number, seen.uri.as_str()) {
        (0, _) => reply(503, &[("retry-after", "0")], "busy"),
        (_, "/from") => reply(302, &[("location", "/to")], ""),
        (_, "/to") => reply(200, &[], "here"),
        _ => reply(404, &[], "nothing"),
    });
    let endpoint = endpoint(plain_server(router).await);
    assert_eq!(read(&endpoint, "/from", 5000).await, Ok(b"here".to_vec()));
    assert_eq!(log.len(), 3, "busy, elsewhere, here");
    assert_eq!(read(&endpoint, "/gone", 5000).await, Err(FetchError::NotFound));
}
